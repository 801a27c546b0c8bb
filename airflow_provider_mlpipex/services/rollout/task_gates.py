"""The verdict of a gate that a Dag itself declares: into the ledger, and against the rollout where it fails."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_mlpipex.domain.gates import judging
from airflow_provider_mlpipex.domain.gates.verdict import GateResult, VerdictName
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import decisions
from airflow_provider_mlpipex.domain.rollout.preconditions import is_promoted
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services import alerts
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout.rollback import roll_back


def record_task_gate(
    platform: Platform, endpoint: EndpointRef, *, rollout_id: str, gate: str, results: Sequence[GateResult]
) -> VerdictName:
    """Write down what ``gate`` says of a rollout, open or yet to open; return its verdict.

    While a gate has failed or not decided, no verb lets its rollout go on. A failure also ends a rollout that is open
    already: one that waits is rejected, one whose candidate has traffic is rolled back. Where it was promoted before
    and is no longer watched, on-call is told and traffic stays.

    :param gate: id of the task that declares it.
    :raises IllegalTransition: and what else ``rollback.roll_back`` raises; the verdict stands in the ledger.
    """
    verdict = judging.verdict_of(results)
    after = alerts.decide_and_tell(
        platform,
        endpoint,
        lambda now: decisions.judge_task_gate(now, rollout_id=rollout_id, gate=gate, verdict=verdict, results=results),
        rollout_id=rollout_id,
    )
    if verdict == "fail":
        _stop(platform, after, rollout_id, cause=decisions.task_gate_cause(gate, results))
    return verdict


def _stop(platform: Platform, state: EndpointState, rollout_id: str, *, cause: str) -> None:
    endpoint = state.endpoint
    if state.rollout is not None and state.rollout.id == rollout_id:
        roll_back(platform, endpoint, cause=cause, rollout_id=rollout_id)
    elif is_promoted(state, rollout_id):
        alerts.raise_alert(
            platform,
            endpoint,
            channel=alerts.channel_of(state.current_manifest, endpoint),
            title=f"{endpoint}: a gate failed after the promotion",
            body=f"{cause}; to return to the release before: mlpipex rollback {endpoint}",
            severity="critical",
            facts={
                "endpoint": str(endpoint),
                "rollout": rollout_id,
                "serving now": state.serving_now,
            },
        )
