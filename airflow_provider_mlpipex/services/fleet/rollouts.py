"""Rollouts of an endpoint as a person follows them: their stages, and what each gate has said or says right now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from airflow_provider_mlpipex.domain.changes import Change
from airflow_provider_mlpipex.domain.errors import MlpipexError, NotFound
from airflow_provider_mlpipex.domain.gates.verdict import GateResult, VerdictName
from airflow_provider_mlpipex.domain.manifest import diff
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.planning.false_alarms import LiveStage, sequences, stage_gates
from airflow_provider_mlpipex.domain.planning.live_gates import live_gates
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.events import (
    CanaryStepped,
    Entry,
    GatesJudged,
    Origin,
    Promoted,
    ReviewDecided,
    ReviewOpened,
    RolloutOpened,
    ShadowStarted,
    TaskGateJudged,
    WatchPassed,
)
from airflow_provider_mlpipex.domain.rollout.projection import ENDING_EVENTS, result_from
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Rollout, RolloutResult
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TOTAL_WEIGHT
from airflow_provider_mlpipex.domain.statistics.confidence import share_alpha
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout.stage_judge import StageJudge

#: Entries about one rollout that are read: a rollout of a dozen steps has a tenth of them.
MAX_ENTRIES = 1000
StageState = Literal["done", "now", "ahead", "held", "failed"]
#: Phase of a rollout -> the stage whose gates are looked at in it.
_LIVE: dict[str, LiveStage] = {"shadow": "shadow", "canary": "canary", "watching": "watch"}


@dataclass(frozen=True, kw_only=True)
class RolloutLine:
    """One rollout in a list. :param result: how it ended; ``None`` while it is open."""

    opened: Entry
    event: RolloutOpened
    result: RolloutResult | None
    rollout: Rollout | None


@dataclass(frozen=True, kw_only=True)
class JudgedGate:
    """:param alpha_left: of the false alarms that the environment allows, what no gate of the rollout has begun to use.
    :param decidable_in_s: seconds until there is enough to decide, as requests come now; ``None`` where nobody can say.
    """

    result: GateResult
    alpha_left: float | None = None
    decidable_in_s: float | None = None


@dataclass(kw_only=True)
class Stage:
    """:param share: of the requests that the candidate gets. :param task: which began it."""

    stage: str
    step: int | None = None
    share: float | None = None
    state: StageState = "ahead"
    since: datetime | None = None
    until: datetime | None = None
    verdict: VerdictName | None = None
    task: Origin | None = None
    gates: list[JudgedGate] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class RolloutView:
    """:param baseline: the release that it was compared with. :param trouble: why nothing is measured right now."""

    line: RolloutLine
    baseline: Release | None
    changes: tuple[Change, ...]
    stages: tuple[Stage, ...]
    review: Entry | None
    trouble: str


def lines(
    platform: Platform, endpoint: EndpointRef, *, limit: int, before: int | None = None
) -> tuple[RolloutLine, ...]:
    """Rollouts of ``endpoint``, the newest first, a page of them."""
    state = journal.load_known(platform, endpoint)
    opened = platform.ledger.read(
        endpoint, types=("rollout-opened",), before_seq=before, newest_first=True, limit=limit
    )
    return tuple(_line(platform, state, entry) for entry in opened if isinstance(entry.event, RolloutOpened))


def _line(platform: Platform, state: EndpointState, opened: Entry) -> RolloutLine:
    event = opened.event
    assert isinstance(event, RolloutOpened)
    is_open = state.rollout is not None and state.rollout.id == event.rollout_id
    result = state.result_of(event.rollout_id)
    if result is None and not is_open:
        ended = platform.ledger.read(
            state.endpoint, types=ENDING_EVENTS, subject=event.rollout_id, newest_first=True, limit=2
        )
        result = result_from(ended)
    return RolloutLine(opened=opened, event=event, result=result, rollout=state.rollout if is_open else None)


def open_line(platform: Platform, state: EndpointState) -> RolloutLine | None:
    """The rollout that is open, as a line; ``None`` where none is."""
    if state.rollout is None:
        return None
    return _line(platform, state, _opened(platform, state.endpoint, state.rollout.id))


def of_run(platform: Platform, *, dag_id: str, run_id: str) -> tuple[tuple[EndpointRef, str], ...]:
    """Endpoint and rollout of every one that a Dag run has opened.

    Their id is ``dag/run`` unless a Dag says otherwise; then it may be the run's own, which another Dag's run may have
    too: so whoever opened it must be of this Dag.
    """
    opened = []
    for endpoint in platform.ledger.endpoints():
        for rollout_id in (f"{dag_id}/{run_id}", run_id):
            entry = journal.newest(platform, endpoint, "rollout-opened", subject=rollout_id)
            if entry is not None and entry.origin.dag_id in ("", dag_id):
                opened.append((endpoint, rollout_id))
    return tuple(opened)


def view(platform: Platform, endpoint: EndpointRef, rollout_id: str) -> RolloutView:
    """One rollout, its open stage judged by what is measured now.

    :raises NotFound: no such rollout.
    """
    state = journal.load_known(platform, endpoint)
    about = list(reversed(platform.ledger.read(endpoint, subject=rollout_id, newest_first=True, limit=MAX_ENTRIES)))
    opened = _opened(platform, endpoint, rollout_id)
    line = _line(platform, state, opened)
    baseline = platform.ledger.state_at(endpoint, opened.recorded_at).current
    stages = _stages(line, about)
    gates, trouble = _now(platform, state, line)
    for stage in stages:
        if stage.state in ("now", "held") and stage.stage in _LIVE.values() and gates:
            stage.gates = gates
    _spend(line, stages)
    return RolloutView(
        line=line,
        baseline=baseline,
        changes=diff.release_changes(baseline, line.event.release),
        stages=tuple(stages),
        review=next((entry for entry in reversed(about) if isinstance(entry.event, ReviewDecided)), None),
        trouble=trouble,
    )


def _opened(platform: Platform, endpoint: EndpointRef, rollout_id: str) -> Entry:
    """:raises NotFound: the ledger knows no such rollout."""
    opened = journal.newest(platform, endpoint, "rollout-opened", subject=rollout_id)
    if opened is not None:
        return opened
    raise NotFound(
        f"rollout {rollout_id} of {endpoint}",
        value="no such rollout",
        limit="one that was opened there",
        remedy="go back to the endpoint, whose rollouts are listed there",
    )


def _stages(line: RolloutLine, about: Sequence[Entry]) -> list[Stage]:
    policy = line.event.policy
    planned = [Stage(stage="gate", state="now", since=line.opened.recorded_at, task=line.opened.origin)]
    if policy.review:
        planned.append(Stage(stage="review"))
    if policy.shadow_fraction is not None:
        planned.append(Stage(stage="shadow", share=policy.shadow_fraction))
    planned += [
        Stage(stage="canary", step=step, share=weight / TOTAL_WEIGHT)
        for step, weight in enumerate(policy.canary_weights)
    ]
    planned.append(Stage(stage="watch", share=1.0))
    at = {(stage.stage, stage.step): stage for stage in planned}
    now: Stage = planned[0]
    for entry in about:
        match entry.event:
            case ReviewOpened():
                now = _begin(now, at.get(("review", None)), entry)
            case ReviewDecided() as decided:
                _verdict(at.get(("review", None)), "pass" if decided.approved else "fail", entry)
            case ShadowStarted():
                now = _begin(now, at.get(("shadow", None)), entry)
            case CanaryStepped() as stepped:
                now = _begin(now, at.get(("canary", stepped.step)), entry)
            case Promoted():
                now = _begin(now, at.get(("watch", None)), entry)
            case GatesJudged() as judged:
                stage = at.get(("gate", None)) if judged.stage == "gate" else now
                _verdict(stage, judged.verdict, entry, judged.results)
            case TaskGateJudged() as judged:
                _verdict(at[("gate", None)], judged.verdict, entry, judged.results, more=True)
            case WatchPassed() as passed:
                _verdict(at.get(("watch", None)), passed.verdict, entry)
            case _:
                continue
    _end(line, now)
    return planned


def _begin(before: Stage, stage: Stage | None, entry: Entry) -> Stage:
    """The stages that ``stage`` follows are over: the ledger lets nothing begin before."""
    if stage is None or stage is before:
        return before
    before.state, before.until = "done", before.until or entry.recorded_at
    stage.state, stage.since, stage.task = "now", entry.recorded_at, entry.origin
    return stage


def _verdict(
    stage: Stage | None,
    verdict: VerdictName,
    entry: Entry,
    results: Sequence[GateResult] = (),
    *,
    more: bool = False,
) -> None:
    if stage is None:
        return
    gates = [JudgedGate(result=result) for result in results]
    stage.gates = [*stage.gates, *gates] if more else gates or stage.gates
    stage.verdict, stage.until = verdict, entry.recorded_at
    stage.since = stage.since or entry.recorded_at


def _end(line: RolloutLine, now: Stage) -> None:
    if line.rollout is not None and line.rollout.hold is not None:
        now.state = "held"
    if line.result is None:
        return
    now.until = now.until or line.result.at
    now.state = "done" if line.result.ending == "promoted" else "failed"


def _now(platform: Platform, state: EndpointState, line: RolloutLine) -> tuple[list[JudgedGate], str]:
    """What the gates of the stage under way say of what is measured up to now; nothing is decided or written."""
    judge = _judge(platform, state, line)
    if judge is None or judge.rollout is None:
        return [], ""
    try:
        results, left = judge.look(), judge.rollout.since + judge.duration - platform.clock.now()
    except (MlpipexError, ValueError) as error:
        return [], str(error)
    elapsed = max(1.0, (platform.clock.now() - judge.rollout.since).total_seconds())
    wanted = {gate.name: gate.min_samples for gate in stage_gates(judge.environment, judge.stage)}
    return [
        JudgedGate(result=result, decidable_in_s=_decidable_in_s(result, wanted.get(result.gate, 1), left, elapsed))
        for result in results
    ], ""


def _judge(platform: Platform, state: EndpointState, line: RolloutLine) -> StageJudge | None:
    if line.rollout is None or line.rollout.phase not in _LIVE or state.rollback is not None:
        return None
    return StageJudge(platform, state, line.rollout, _LIVE[line.rollout.phase])


def _decidable_in_s(result: GateResult, wanted: int, left: timedelta, elapsed: float) -> float | None:
    """A pass needs the whole stage and enough samples; where none come, nobody can say when."""
    if result.verdict != "inconclusive":
        return None
    missing, rate = max(0, wanted - result.evidence.samples), result.evidence.samples / elapsed
    if missing and not rate:
        return None
    return max(0.0, left.total_seconds(), missing / rate if missing else 0.0)


def _spend(line: RolloutLine, stages: Sequence[Stage]) -> None:
    """Say beside each gate what is left of the false alarms that the environment allows."""
    try:
        manifest = Manifest.model_validate(line.event.manifest)
    except ValueError:
        return  # of another version of the provider
    allowed = manifest.environments.get(line.opened.endpoint.environment)
    if allowed is None:
        return
    begun = {(stage.stage, stage.step) for stage in stages if stage.state != "ahead"}
    # A gate that spans the canary is one sequence, and begins with its first step.
    looked_at = [
        gate
        for gate in live_gates(allowed, manifest.traffic.expected_rate)
        if not gate.gate.advisory
        and not gate.gate.counts
        # A shadow and a watch are one step.
        and (gate.stage, gate.step if gate.step is not None or gate.stage != "canary" else 0) in begun
    ]
    left = allowed.false_alarms - len(looked_at) * share_alpha(allowed.false_alarms, max(1, sequences(allowed)))
    for stage in stages:
        stage.gates = [replace(gate, alpha_left=max(0.0, left)) for gate in stage.gates]


@dataclass(frozen=True, kw_only=True)
class GateLook:
    """One look at a gate. :param seq: of the entry that kept it; 0 for one that was taken again for the page."""

    at: datetime
    result: GateResult
    seq: int = 0


#: Looks that are taken again at the stage under way.
LOOKS = 12


def looks(platform: Platform, endpoint: EndpointRef, rollout_id: str, gate: str) -> tuple[GateLook, ...]:
    """Looks at one gate of a rollout in order: those that are kept, and, of the stage under way, what its gates said at
    :data:`LOOKS` moments, judged again by what was measured up to each.

    :raises NotFound: no such rollout.
    """
    state = journal.load_known(platform, endpoint)
    line = _line(platform, state, _opened(platform, endpoint, rollout_id))
    kept = platform.ledger.read(
        endpoint,
        types=("gates-judged", "task-gate-judged"),
        subject=rollout_id,
        newest_first=True,
        limit=MAX_ENTRIES // 10,
    )
    collected = [
        GateLook(at=entry.recorded_at, result=result, seq=entry.seq)
        for entry in reversed(kept)
        if isinstance(entry.event, (GatesJudged, TaskGateJudged))
        for result in entry.event.results
        if result.gate == gate
    ]
    judge = _judge(platform, state, line)
    if judge is not None:
        now = platform.clock.now()
        step = (now - judge.rollout.since) / LOOKS
        for number in range(1, LOOKS + 1):
            collected += _again(judge, gate, judge.rollout.since + step * number)
    return tuple(collected)


class _Then:
    """A clock that shows one moment."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def now(self) -> datetime:
        return self._moment


def _again(judge: StageJudge, gate: str, at: datetime) -> list[GateLook]:
    then = StageJudge(replace(judge.platform, clock=_Then(at)), judge.state, judge.rollout, judge.stage)
    try:
        return [GateLook(at=at, result=result) for result in then.look() if result.gate == gate]
    except (MlpipexError, ValueError):
        return []  # what cannot be measured any more is not drawn
