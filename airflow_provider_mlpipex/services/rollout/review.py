"""The deployment review: what changed, who must look at it, and the answer."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_mlpipex.domain.changes import Change
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.manifest.diff import diff, release_changes
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.manifest.review_block import review_needed
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import decisions
from airflow_provider_mlpipex.domain.rollout.events import TaskGateJudged
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import alerts, journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout.judgements import last_judgement
from airflow_provider_mlpipex.services.rollout.opening import review_of, stopping
from airflow_provider_mlpipex.services.rollout.review_facts import ReviewFacts, review_facts


class ReviewRequest(Value):
    """``needs_person`` is false where the manifest's policy approved by itself, or nothing is left to review."""

    needs_person: bool
    changes: tuple[Change, ...] = ()
    results: tuple[GateResult, ...] = ()
    why: str = ""
    facts: ReviewFacts | None = None


def open_review(platform: Platform, *, endpoint: EndpointRef, rollout_id: str) -> ReviewRequest:
    """Write the typed changes into the ledger and say whether a person must answer.

    Where policy approves by itself, the approval is recorded at once with the policy's name.
    """
    state = journal.load(platform, endpoint, rollout_id=rollout_id)
    if state.rollout is None and state.current is not None and state.result_of(rollout_id) is None:
        return ReviewRequest(needs_person=False, why="the release is already current here")
    if state.rollout and state.rollout.id == rollout_id and state.rollout.approved:
        return ReviewRequest(needs_person=False, why="answered before")
    rollout = state.rollout
    candidate = rollout.candidate if rollout else None
    changes: tuple[Change, ...] = ()
    if rollout is not None and candidate is not None:
        changes = release_changes(state.current, candidate)
        if state.current_manifest is not None:
            before = Manifest.model_validate(state.current_manifest)
            policy = diff(before, Manifest.model_validate(rollout.manifest))
            changes += tuple(c for c in policy if c.kind in ("gate-tightened", "gate-loosened", "policy"))
            changes += declared_gates_changes(state.current_gates, rollout.policy.declared_gates or ())
        if rollout.undecided_for_review:
            changes += undecided_gates(_offline_results(platform, endpoint, rollout_id))
    state = journal.decide(
        platform,
        endpoint,
        lambda now: decisions.open_review(now, rollout_id=rollout_id, changes=changes),
        rollout_id=rollout_id,
    )
    assert state.rollout is not None  # open_review raises otherwise
    spec = review_of(state, Manifest.model_validate(state.rollout.manifest))
    if spec is None:
        return ReviewRequest(needs_person=False, changes=changes, why="no manifest asks for a review here")
    needs_person, why, policy_name = review_needed(changes, spec)
    if unclear := sum(change.kind == "gate-undecided" for change in changes):
        why = f"{unclear} gate{'s' if unclear > 1 else ''} could not tell from the rows that there are; {why}"
    if not needs_person:
        decide_review(
            platform,
            endpoint=endpoint,
            rollout_id=rollout_id,
            approved=True,
            reviewer="policy",
            automatic=policy_name or why,
        )
    return ReviewRequest(
        needs_person=needs_person,
        changes=changes,
        results=(
            *_task_gate_results(platform, endpoint, rollout_id),
            *_offline_results(platform, endpoint, rollout_id),
        ),
        why=why,
        facts=review_facts(platform, state) if needs_person else None,
    )


def declared_gates_changes(before: Sequence[str], after: Sequence[str]) -> tuple[Change, ...]:
    """Which gates of its own the Dag has dropped, and which it has taken on, since the current release."""
    dropped = [
        Change(kind="gate-loosened", what=f"gate {gate} of the Dag", before="must pass", after="not declared any more")
        for gate in before
        if gate not in after
    ]
    added = [
        Change(kind="gate-tightened", what=f"gate {gate} of the Dag", before="not declared", after="must pass")
        for gate in after
        if gate not in before
    ]
    return (*dropped, *added)


def undecided_gates(results: Sequence[GateResult]) -> tuple[Change, ...]:
    """The gates that a person decides, because their evaluation has too few rows to."""
    return tuple(
        Change(kind="gate-undecided", what=f"gate {result.gate}", before=result.rule, after=result.reason)
        for result in stopping(results)
    )


def _task_gate_results(platform: Platform, endpoint: EndpointRef, rollout_id: str) -> tuple[GateResult, ...]:
    """What the gates of the Dag's own said last."""
    entries = platform.ledger.read(endpoint, types=("task-gate-judged",), subject=rollout_id)
    last = {e.event.gate: e.event.results for e in entries if isinstance(e.event, TaskGateJudged)}
    return tuple(result for results in last.values() for result in results)


def _offline_results(platform: Platform, endpoint: EndpointRef, rollout_id: str) -> tuple[GateResult, ...]:
    """What the offline gates of a rollout said last."""
    judged = last_judgement(platform, endpoint, rollout_id=rollout_id, stage="gate")
    return judged.results if judged else ()


def decide_review(
    platform: Platform,
    *,
    endpoint: EndpointRef,
    rollout_id: str,
    approved: bool,
    reviewer: str,
    note: str = "",
    automatic: str = "",
) -> None:
    """Record who decided what; a rejection ends the rollout and changes nothing that serves."""
    alerts.decide_and_tell(
        platform,
        endpoint,
        lambda now: decisions.decide_review(
            now, rollout_id=rollout_id, approved=approved, reviewer=reviewer, note=note, automatic=automatic
        ),
        rollout_id=rollout_id,
    )
