"""Shadow: live requests are copied to the candidate, whose answers never reach a client."""

from __future__ import annotations

from typing import Any

from airflow_provider_mlpipex.links.mlpipex import EndpointLink, HealthPageLink
from airflow_provider_mlpipex.operators.base import CandidateOperator, StageRun


class ShadowDeployOperator(CandidateOperator):
    """Start the candidate and mirror the manifest's fraction of live requests to it.

    Returns when the mirror is in force. A first release and a mere change of policy have nothing to shadow.

    :param endpoint: ``environment/name``.
    :param rollout_id: the rollout; one a Dag run by default.
    :param ready_timeout: seconds that the candidate may take to get ready.
    """

    stage_name = "shadow"
    operator_extra_links = (EndpointLink(), HealthPageLink())

    def verb(self, run: StageRun) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.rollout.trial import start_shadow

        HealthPageLink.push(run, rollout_id=self.rollout_id)
        state = start_shadow(
            run.platform, endpoint=run.endpoint, rollout_id=self.rollout_id, timeout_s=self.ready_timeout
        )
        EndpointLink.push(run)
        mirror = state.planned.mirror if state.planned else None
        return {"mirrored_to": mirror.release if mirror else None, "fraction": mirror.fraction if mirror else 0.0}
