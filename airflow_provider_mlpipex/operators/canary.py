"""Canary: one step of the candidate's rising share of live requests."""

from __future__ import annotations

from typing import Any

from airflow_provider_mlpipex.links.mlpipex import EndpointLink, HealthPageLink
from airflow_provider_mlpipex.operators.base import CandidateOperator, StageRun


class CanaryDeployOperator(CandidateOperator):
    """Give the candidate the share of one canary step of the manifest.

    Returns when the split is in force. The step before must have passed its gates.

    :param endpoint: ``environment/name``.
    :param step: index into the manifest's ``canary.steps``, from 0.
    :param rollout_id: the rollout; one a Dag run by default.
    :param ready_timeout: seconds that the candidate may take to get ready.
    """

    stage_name = "canary"
    operator_extra_links = (EndpointLink(), HealthPageLink())

    def __init__(self, *, step: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.check_step(step)

    def verb(self, run: StageRun) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.rollout.trial import step_canary

        HealthPageLink.push(run, rollout_id=self.rollout_id)
        state = step_canary(
            run.platform,
            endpoint=run.endpoint,
            rollout_id=self.rollout_id,
            step=self.step,
            timeout_s=self.ready_timeout,
        )
        EndpointLink.push(run)
        return {"step": self.step, "weights": state.planned.weights if state.planned else {}}
