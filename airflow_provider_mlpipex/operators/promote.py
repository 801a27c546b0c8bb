"""Promotion: the candidate becomes current; what was current stays warm for a rollback."""

from __future__ import annotations

from typing import Any

from airflow_provider_mlpipex.links.mlpipex import EndpointLink, HealthPageLink
from airflow_provider_mlpipex.operators.base import CandidateOperator, StageRun


class PromoteModelOperator(CandidateOperator):
    """Give the candidate all traffic and make it current, once everything that the manifest demands has passed.

    Releases older than the previous one are retired, and the registry's alias follows (if the registry answers).

    :param endpoint: ``environment/name``.
    :param rollout_id: the rollout; one a Dag run by default.
    :param ready_timeout: seconds that the candidate may take to get ready.
    """

    stage_name = "promote"
    operator_extra_links = (EndpointLink(), HealthPageLink())

    def verb(self, run: StageRun) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.rollout import promote

        HealthPageLink.push(run, rollout_id=self.rollout_id)
        state = promote.promote(
            run.platform, endpoint=run.endpoint, rollout_id=self.rollout_id, timeout_s=self.ready_timeout
        )
        retired = promote.retire_superseded(run.platform, run.endpoint)
        run.envelope.add(retired=retired, alias_mirrored=promote.mirror_alias(run.platform, run.endpoint))
        EndpointLink.push(run)
        return {
            "current": state.current.id if state.current else None,
            "previous": state.previous.id if state.previous else None,
        }
