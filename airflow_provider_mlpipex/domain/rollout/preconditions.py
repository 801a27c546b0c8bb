"""What the verbs of a rollout require of the state before they decide anything."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_mlpipex.domain.errors import GateFailed, GateUndecided, IllegalTransition, RolloutEnded
from airflow_provider_mlpipex.domain.rollout.events import StageName
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Rollout, verdict_key


def own(state: EndpointState, rollout_id: str) -> Rollout:
    """The rollout in progress, if it is ``rollout_id`` and no rollback is undoing it.

    :raises RolloutEnded: it was promoted or rejected; or it was, or is being, rolled back.
    :raises IllegalTransition: another one or none is in progress.
    """
    if state.result_of(rollout_id) or (state.rollback and state.rollback.rollout_id == rollout_id):
        raise ended(state, rollout_id)
    if state.rollout is None or state.rollout.id != rollout_id:
        holder = state.rollout.id if state.rollout else "no rollout"
        raise IllegalTransition(
            f"endpoint {state.endpoint}",
            value=rollout_id,
            limit=f"{holder} is in progress",
            remedy="run the gate check of this environment first: it opens the rollout",
        )
    return state.rollout


def ended(state: EndpointState, rollout_id: str) -> RolloutEnded:
    """The error that a verb of a rollout raises which is over."""
    result = state.result_of(rollout_id)
    cause = result.cause if result else state.rollback.cause if state.rollback else ""
    return RolloutEnded(
        f"rollout {rollout_id} of {state.endpoint}",
        value=result.ending if result else "rolled-back",
        limit=cause or "it has ended",
        remedy="start a new rollout when the cause is mended",
    )


def is_promoted(state: EndpointState, rollout_id: str) -> bool:
    """Whether the rollout has ended, and well."""
    result = state.result_of(rollout_id)
    return result is not None and result.ending == "promoted"


def last_promoted(state: EndpointState) -> str:
    """The rollout that was promoted last and has not been undone; empty where there is none."""
    latest_first = reversed(state.results.values())
    return next((outcome.rollout_id for outcome in latest_first if outcome.ending == "promoted"), "")


def has_traffic(state: EndpointState) -> bool:
    """Whether the candidate in progress has requests, or a plan that gives it some has been written."""
    return state.rollout is not None and (state.rollout.phase == "watching" or state.on_trial)


def require_no_traffic(state: EndpointState, verb: str) -> None:
    """:raises IllegalTransition: the candidate has requests, or a plan that gives it some has been written."""
    rollout = state.rollout
    if rollout is not None and has_traffic(state):
        raise IllegalTransition(
            f"rollout {rollout.id} of {state.endpoint}",
            value=f"{verb} in {rollout.phase}",
            limit="traffic has been planned for the candidate",
            remedy="roll it back",
        )


def require_offline_gates(rollout: Rollout) -> None:
    """:raises GateUndecided: the policy has offline gates which have not passed, and no review asks a person."""
    if rollout.policy.offline_gates and not rollout.undecided_for_review:
        require_verdict(rollout, "gate", step=-1)


def require_task_gates(state: EndpointState, rollout_id: str, declared: Iterable[str]) -> None:
    """No gate of the Dag's own stands against ``rollout_id``: none failed, and each that is declared has passed.

    :raises GateFailed: one failed. :raises GateUndecided: one could not decide, or has not judged at all.
    """
    judged = state.task_gates.get(rollout_id, {})
    failed = [gate for gate, verdict in judged.items() if verdict == "fail"]
    if failed:
        raise GateFailed(
            f"rollout {rollout_id} of {state.endpoint}",
            value=f"{', '.join(failed)} failed",
            limit="every gate that its Dag declares passes",
            remedy="the numbers are in that task's log and XCom 'gates'; mend the model and start a new run",
        )
    undecided = {gate: judged.get(gate, "never judged") for gate in dict.fromkeys([*declared, *judged])}
    open_gates = [f"{gate} {verdict}" for gate, verdict in undecided.items() if verdict != "pass"]
    if open_gates:
        raise GateUndecided(
            f"rollout {rollout_id} of {state.endpoint}",
            value=", ".join(open_gates),
            limit="every gate that its Dag declares passes",
            remedy="put the gate before the release (gate >> release_tasks(…)) and let it run; a task that somebody "
            "marked as successful has judged nothing",
        )


def require_gates(state: EndpointState, rollout: Rollout) -> None:
    """The gates before any traffic: those of the manifest on offline evidence, and those of the Dag's own.

    :raises GateFailed: one of the Dag's own failed. :raises GateUndecided: one has not passed.
    """
    require_offline_gates(rollout)
    require_task_gates(state, rollout.id, rollout.policy.declared_gates or ())


def require_review(rollout: Rollout) -> None:
    """:raises IllegalTransition: the policy demands a review, and nobody has approved."""
    if rollout.policy.review and not rollout.approved:
        raise IllegalTransition(
            f"rollout {rollout.id}",
            value="not approved",
            limit="its manifest, or that of the current release, demands a review",
            remedy="answer the review task in the Airflow UI",
        )


def require_verdict(rollout: Rollout, stage: StageName, *, step: int) -> None:
    """:raises GateUndecided: the last verdict of this stage, or of this canary step, is not *pass*."""
    key = verdict_key(stage, step)
    verdict = rollout.verdicts.get(key)
    if verdict != "pass":
        raise GateUndecided(
            f"rollout {rollout.id}, {key}",
            value=verdict or "never judged",
            limit="verdict pass",
            remedy="run the stage that judges it",
        )
