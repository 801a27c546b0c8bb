"""Past rollouts under other gates: what they decided then, and what this manifest would have decided.

Judged is what the ledger kept: the evidence of the look that decided each stage. Evidence that was not kept is said to
be missing, never guessed; and of what would have come after a stage that ended a rollout nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, get_args

from airflow_provider_mlpipex.domain.errors import NotFound
from airflow_provider_mlpipex.domain.gates.concurrent_baseline import after_promotion, in_trial
from airflow_provider_mlpipex.domain.gates.derived_evidence import find_evidence
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.verdict import VerdictName
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.planning.false_alarms import LiveStage, alpha_of, stage_gates
from airflow_provider_mlpipex.domain.planning.sampling import spans_canary
from airflow_provider_mlpipex.domain.rollout.events import (
    CanaryStepped,
    GatesJudged,
    Promoted,
    RollbackDecided,
    RolledBack,
    RolloutOpened,
    RolloutRejected,
    StageName,
    WatchPassed,
)
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform

#: ``missing``: the ledger does not hold what the verdict would need.
Replay = Literal["pass", "fail", "inconclusive", "error", "missing"]
#: What becomes of a rollout. ``goes on``: past the stage that ended it then, and nothing is known of what follows.
Course = Literal["promoted", "stopped", "goes on", "unknown", "in progress"]
_LIVE: tuple[LiveStage, ...] = get_args(LiveStage)
#: Events that say how a rollout went.
_REPLAYED_TYPES = (
    "rollout-opened",
    "canary-stepped",
    "gates-judged",
    "promoted",
    "rollback-decided",
    "watch-passed",
    "rolled-back",
    "rollout-rejected",
)


class ReplayedGate(Value):
    """One gate of the manifest on evidence of then; ``then`` is ``None`` where no gate of that name was judged."""

    gate: str
    rule: str
    advisory: bool
    then: VerdictName | None
    now: Replay
    reason: str


class ReplayedStage(Value):
    """One stage as it was decided, from 0 for canary steps and -1 for others."""

    stage: StageName
    step: int
    then: VerdictName
    now: Replay
    gates: tuple[ReplayedGate, ...]


class ReplayedRollout(Value):
    """``cause``: why it ended as it did; ``why``: what makes it end, or keeps unknown how it would, now."""

    endpoint: EndpointRef
    rollout_id: str
    release: str
    opened_at: datetime
    then: Course
    cause: str
    now: Course
    why: str
    stages: tuple[ReplayedStage, ...]


class _Kept(NamedTuple):
    """Gates of one stage as they were judged. ``first``: no release was current then."""

    judged: GatesJudged
    step: int
    at: datetime
    first: bool


class _Past:
    """One rollout as the ledger tells it."""

    def __init__(self, opened: RolloutOpened, at: datetime) -> None:
        self.opened, self.at = opened, at
        self.kept: list[_Kept] = []
        self.step = -1
        self.course: Course = "in progress"
        self.cause = ""


def replay(platform: Platform, manifest: Manifest, *, last: int) -> list[ReplayedRollout]:
    """The ``last`` rollouts of every endpoint of ``manifest``, the latest first.

    :raises NotFound: the ledger knows none of them.
    """
    replayed: list[ReplayedRollout] = []
    for name, environment in manifest.environments.items():
        endpoint = EndpointRef(environment=name, name=manifest.name)
        past = _past(platform, endpoint, last=last)
        replayed += [_replayed(endpoint, environment, each) for each in reversed(past)]
    if not replayed:
        raise NotFound(
            f"rollouts of {manifest.name}",
            value="none",
            limit=f"at least one, in {', '.join(manifest.environments)}",
            remedy="release something first, or name the ledger with MLPIPEX_LEDGER_URL",
        )
    return replayed


def _past(platform: Platform, endpoint: EndpointRef, *, last: int) -> list[_Past]:
    """The rollouts that were opened last, the oldest of them first."""
    opened = platform.ledger.read(endpoint, types=("rollout-opened",), newest_first=True, limit=last)
    if not opened:
        return []
    began, rollouts = opened[-1].seq, dict[str, _Past]()
    first = not platform.ledger.read(endpoint, before_seq=began, types=("promoted",), limit=1)
    causes: dict[str, str] = {}
    for entry in journal.walk(platform, endpoint, after_seq=began - 1, types=_REPLAYED_TYPES):
        event = entry.event
        match event:
            case RolloutOpened():
                rollouts[event.rollout_id] = _Past(event, entry.recorded_at)
            case CanaryStepped() if event.rollout_id in rollouts:
                rollouts[event.rollout_id].step = event.step
            case GatesJudged() if event.rollout_id in rollouts:
                # What made a rollout go back is written down when it has ended: the step is not in the state any more.
                past = rollouts[event.rollout_id]
                step = past.step if event.stage == "canary" else -1
                past.kept.append(_Kept(event, step, entry.recorded_at, first))
            case Promoted():
                first = False
            case RollbackDecided():
                causes[event.rollout_id] = event.cause
            case WatchPassed() if event.rollout_id in rollouts:
                past = rollouts[event.rollout_id]
                past.course, past.cause = "promoted", event.cause
            case RolledBack() | RolloutRejected() if event.rollout_id in rollouts:
                past = rollouts[event.rollout_id]
                cause = event.cause if isinstance(event, RolloutRejected) else causes.get(event.rollout_id, "")
                past.course, past.cause = "stopped", cause
    return list(rollouts.values())


def _replayed(endpoint: EndpointRef, environment: EnvironmentSpec, past: _Past) -> ReplayedRollout:
    stages = tuple(_stages(environment, past.kept))
    now, why = _course(stages, past)
    return ReplayedRollout(
        endpoint=endpoint,
        rollout_id=past.opened.rollout_id,
        release=past.opened.release.id,
        opened_at=past.at,
        then=past.course,
        cause=past.cause,
        now=now,
        why=why,
        stages=stages,
    )


def _stages(environment: EnvironmentSpec, kept: Sequence[_Kept]) -> Iterator[ReplayedStage]:
    """Each stage by the last time that it was judged; evidence of a revert is written after the fact."""
    latest = {(each.judged.stage, each.step): each for each in kept}
    for (stage, step), each in latest.items():
        gates = tuple(_gate(environment, gate, each) for gate in _gates_of(environment, stage))
        yield ReplayedStage(
            stage=stage,
            step=step,
            then=each.judged.verdict,
            now=_worst_verdict(environment, stage, step, gates),
            gates=gates,
        )


def _gates_of(environment: EnvironmentSpec, stage: StageName) -> tuple[Gate, ...]:
    live = _live(stage)
    return environment.gates if live is None else stage_gates(environment, live)


def _live(stage: StageName) -> LiveStage | None:
    return next((known for known in _LIVE if known == stage), None)


def _gate(environment: EnvironmentSpec, gate: Gate, kept: _Kept) -> ReplayedGate:
    results = {result.gate: result for result in kept.judged.results}
    evidence = find_evidence(gate.metric, [result.evidence for result in kept.judged.results])
    verdict, reason = _verdict(environment, gate, evidence, kept)
    return ReplayedGate(
        gate=gate.name,
        rule=gate.rule,
        advisory=gate.advisory,
        then=results[gate.name].verdict if gate.name in results else None,
        now=verdict,
        reason=reason,
    )


def _verdict(environment: EnvironmentSpec, gate: Gate, evidence: Evidence | None, kept: _Kept) -> tuple[Replay, str]:
    live = _live(kept.judged.stage)
    if evidence is None and not (kept.first and gate.needs_current):
        return "missing", f"the ledger holds no evidence of {gate.metric} for this stage"
    if gate.source == "drift":
        # Of one window, whose number of rows was not chosen by what they showed.
        result = judge(gate, evidence, now=kept.at)
        return result.verdict, result.reason
    if evidence is not None and live is not None and _lacks_counts(gate, evidence):
        return "missing", f"of {gate.metric} the value alone was kept, not what it was computed from"
    alpha = alpha_of(environment, live, gate) if live else None
    result = judge(gate, evidence, now=kept.at, first_release=kept.first, alpha=alpha)
    if alpha and evidence is not None and evidence.baseline_summary is not None:
        control = environment.rollback.control if environment.rollback else None
        if live == "watch" and control:
            result, _ = after_promotion(gate, result, [evidence], alpha=alpha, share=control)
        elif live != "watch":
            result, _ = in_trial(gate, result, evidence, alpha=alpha, share=0.5)
    return result.verdict, result.reason


def _lacks_counts(gate: Gate, evidence: Evidence) -> bool:
    if gate.counts or evidence.broken or evidence.value is None:
        return False
    return evidence.summary is None or (gate.relative and evidence.baseline_summary is None)


def _worst_verdict(environment: EnvironmentSpec, stage: StageName, step: int, gates: Sequence[ReplayedGate]) -> Replay:
    """What the gates say as one; a gate over the whole canary need not pass before its last step."""
    canary = environment.canary if stage == "canary" else None
    waiting = canary is not None and step + 1 < len(canary.steps)
    spanning = {gate.name for gate in canary.gates if spans_canary(gate, canary)} if canary and waiting else set()
    said = {
        gate.now for gate in gates if not gate.advisory and not (gate.gate in spanning and gate.now == "inconclusive")
    }
    order: tuple[Replay, ...] = ("fail", "error", "missing", "inconclusive")
    return next((verdict for verdict in order if verdict in said), "pass")


def _course(stages: Sequence[ReplayedStage], past: _Past) -> tuple[Course, str]:
    for each in stages:
        if each.now == "fail" or (each.now == "error" and each.stage != "watch"):
            return "stopped", _explained(each, each.now)
        if each.now == "missing":
            return "unknown", _explained(each, "missing")
        if each.now == "inconclusive" and each.stage != "watch":
            return "unknown", f"undecided by what was kept: {_explained(each, 'inconclusive')}"
    if past.course == "stopped":
        return "goes on", "past where it was stopped; of what would have followed nothing is known"
    return past.course, ""


def _explained(stage: ReplayedStage, verdict: Replay) -> str:
    where = f"canary step {stage.step + 1}" if stage.stage == "canary" else stage.stage
    gates = [gate for gate in stage.gates if gate.now == verdict and not gate.advisory]
    return f"{where}: " + "; ".join(f"{gate.gate} {gate.now}: {gate.reason}" for gate in gates)
