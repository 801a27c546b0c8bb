"""What a release would go through in one environment, before anything is applied: steps, gates, times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.fields.quantities import (
    Duration,
    Ratio,
    format_duration,
    format_rate,
    format_ratio,
)
from airflow_provider_mlpipex.domain.gates.concurrent_baseline import is_compared
from airflow_provider_mlpipex.domain.gates.gate import LIVE_SOURCES, Gate
from airflow_provider_mlpipex.domain.gates.misreadings import resolved
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.manifest.stage_blocks import CanarySpec, RollbackSpec
from airflow_provider_mlpipex.domain.names import Name
from airflow_provider_mlpipex.domain.planning.canary_schedule import Exposure, exposure, step_durations
from airflow_provider_mlpipex.domain.planning.evaluation_rows import needed_rows
from airflow_provider_mlpipex.domain.planning.false_alarms import LiveStage, alpha_of, sequences, stage_gates
from airflow_provider_mlpipex.domain.planning.honest_release import Waiting, waiting
from airflow_provider_mlpipex.domain.planning.live_gates import LiveGate, average_share, live_gates
from airflow_provider_mlpipex.domain.planning.power import power, soonest_failure
from airflow_provider_mlpipex.domain.planning.sampling import REVERT, block_of, expected_samples, look_every
from airflow_provider_mlpipex.domain.planning.synthetic_evidence import allowed_share
from airflow_provider_mlpipex.domain.rollout.traffic_plan import EVEN_ARMS, TOTAL_WEIGHT
from airflow_provider_mlpipex.domain.statistics.clumps import blocks_to_exceed
from airflow_provider_mlpipex.domain.values import Value


class PlannedGate(Value):
    """One gate of a step; what needs a declared rate is ``None`` without one.

    :param alpha: chance of a false alarm over all its looks; ``None`` for what is exact, or looked at once.
    :param detects_after: the soonest that it can say *fail*: every request is bad.
    :param excess: smallest share of bad requests beyond the allowed one that the step is long enough to see.
    :param needs_rows: of an evaluation, before a gate passes what deserves it (``evaluation_rows``).
    :param says: what the step can decide, in a sentence.
    """

    name: Name
    rule: str
    advisory: bool
    min_samples: int
    expected_samples: int | None = None
    alpha: Ratio | None = None
    detects_after: Duration | None = None
    excess: Ratio | None = None
    needs_rows: int | None = None
    says: str = ""


class PlannedStep(Value):
    """One step. ``rolls_back_after``: soonest and latest after every request has begun to fail, by the binding gate
    that sees it first or last: its evidence, a look, and the revert."""

    stage: Literal["gate", "review", "shadow", "canary", "promote", "watch"]
    title: str
    duration: Duration = timedelta(0)
    share: Ratio | None = None
    expected_samples: int | None = None
    gates: tuple[PlannedGate, ...] = ()
    notes: tuple[str, ...] = ()
    rolls_back_after: tuple[Duration, Duration] | None = None


class RolloutPlan(Value):
    """``time_to_promote`` leaves out training and people; ``review_at_most`` is what people may add.
    ``time_to_roll_back`` is the latest of every step. ``sequences`` of looks share ``false_alarms``. ``drift`` says
    with what a window is compared that is looked at for drift."""

    manifest: Name
    environment: Name
    digest: str
    expected_rate: float | None
    steps: tuple[PlannedStep, ...]
    time_to_promote: Duration
    review_at_most: Duration | None
    time_to_roll_back: Duration | None
    watched_for: Duration
    false_alarms: Ratio
    sequences: int
    waiting: Waiting | None = None
    drift: str | None = None


def plan(manifest: Manifest, environment: str) -> RolloutPlan:
    """The plan for a release that replaces another one; a first release skips shadow, canary and watch.

    :raises ManifestInvalid: ``environment`` is not declared.
    """
    spec = manifest.environments.get(environment)
    if spec is None:
        raise ManifestInvalid(
            f"manifest {manifest.name}, environments",
            value=environment,
            limit=f"one of {', '.join(manifest.environments)}",
            remedy="name a declared environment",
        )
    # As the rollout itself takes it: what is adopted by an alias is reviewed although nobody wrote that.
    spec = spec.model_copy(update={"review": manifest.review_in(environment)})
    steps = tuple(_with_notes(step, manifest, environment) for step in _steps(spec, manifest.traffic.expected_rate))
    trial = spec.serve and (spec.shadow is not None or spec.canary is not None)
    reverts = [step.rolls_back_after[1] for step in steps if step.rolls_back_after is not None]
    return RolloutPlan(
        manifest=manifest.name,
        environment=environment,
        digest=manifest.digest,
        expected_rate=manifest.traffic.expected_rate,
        steps=steps,
        time_to_promote=sum((step.duration for step in steps if step.stage in ("shadow", "canary")), timedelta(0)),
        review_at_most=spec.review.timeout if spec.review else None,
        time_to_roll_back=max(reverts) if reverts else None,
        watched_for=spec.rollback.window if spec.rollback else timedelta(0),
        false_alarms=spec.false_alarms,
        sequences=sequences(spec),
        waiting=waiting(spec, manifest.traffic.expected_rate) if manifest.traffic.expected_rate and trial else None,
        drift=spec.drift.compares if spec.drift else None,
    )


def _with_notes(step: PlannedStep, manifest: Manifest, environment: str) -> PlannedStep:
    """``step`` with what is expected of the predictions that it sees, and of the features behind them."""
    count, parity = len(manifest.quality.predictions), manifest.features.parity
    notes = list(step.notes)
    if count and step.stage in ("shadow", "canary", "watch"):
        notes.append(f"at its end, {count} expectation{'s' if count > 1 else ''} on what was answered")
    if parity and step.stage in ("shadow", "canary"):
        notes.append("at its end, features as looked up for it beside the offline path")
    gates = (*step.gates, _offline(parity.gate)) if parity and step.stage == "gate" else step.gates
    if manifest.model.adopt is not None and step.stage == "gate":
        notes.append(_of_adopted(manifest, environment))
    if manifest.runtime.lock is not None and step.stage == "gate":
        trained = manifest.training is not None and manifest.training.runtime == "serving"
        done = "trained, loaded and asked" if trained else "loaded and asked"
        notes.append(f"before it, the model is {done} its golden rows in runtime {manifest.runtime.version}")
    said = manifest.environments[environment].drills
    if said is not None and step.stage == "promote":
        allowed = "may" if said.allowed else "may not"
        notes.append(f"what serves here {allowed} be broken on purpose, in drills")
    return step.model_copy(update={"notes": tuple(notes), "gates": gates})


def _of_adopted(manifest: Manifest, environment: str) -> str:
    """What else decides about a model that is adopted."""
    asked = manifest.environments[environment].provenance or "required"
    effect = "stops it here" if asked == "required" else "is written down, and stops nothing"
    return f"adopts {manifest.model.adopt}: what nobody knows of it {effect} (provenance: {asked})"


def _steps(spec: EnvironmentSpec, rate: float | None) -> Iterator[PlannedStep]:
    gates = tuple(_offline(gate) for gate in spec.gates)
    consequence = "a person decides in the review" if spec.review else "the release stops, as there is no review"
    notes = (f"where the rows cannot tell, {consequence}",) if any(gate.needs_rows for gate in gates) else ()
    yield PlannedStep(stage="gate", title="offline gates", gates=gates, notes=notes)
    if spec.review:
        asks = [f"a person approves: {', '.join(spec.review.required_for) or 'what is not named'}"]
        if spec.review.auto_approve:
            asks.append(f"approved by policy: {', '.join(spec.review.auto_approve)}")
        asks.append(f"rejected without an answer after {format_duration(spec.review.timeout)}")
        yield PlannedStep(stage="review", title="review", notes=tuple(asks))
    if not spec.serve:
        yield PlannedStep(stage="promote", title="record as current (this environment serves nobody)")
        return
    if spec.shadow:
        shadow = spec.shadow
        yield PlannedStep(
            stage="shadow",
            title=f"shadow: {format_ratio(shadow.fraction)} of live requests copied, answers never reach a client",
            duration=shadow.duration,
            share=shadow.fraction,
            expected_samples=_expected(rate, shadow.fraction, shadow.duration),
            gates=_of_stage(spec, "shadow", rate),
            notes=(
                f"at least {shadow.min_pairs} requests answered by both releases",
                *_clumps(spec, "shadow", shadow.duration),
                *_looks_away(shadow.ignore_first),
            ),
        )
    if spec.canary:
        yield from _canary(spec, spec.canary, rate)
    yield PlannedStep(stage="promote", title="promote: 100% of traffic; the previous release stays warm")
    if spec.rollback:
        window = spec.rollback.window
        watched = (
            *_of_stage(spec, "watch", rate),
            *(_offline(gate) for gate in spec.rollback.gates if gate.source not in LIVE_SOURCES),
        )
        yield PlannedStep(
            stage="watch",
            title="watch: a failed gate returns traffic to the previous release by itself",
            duration=window,
            share=1.0 - (spec.rollback.control or 0.0),
            expected_samples=_expected(rate, 1.0 - (spec.rollback.control or 0.0), window),
            gates=watched,
            notes=_control(spec.rollback),
            rolls_back_after=_reverted(watched, window),
        )


def _canary(spec: EnvironmentSpec, canary: CanarySpec, rate: float | None) -> Iterator[PlannedStep]:
    durations, budget = step_durations(spec, rate), exposure(spec, rate)
    for index, (share, lasting) in enumerate(zip(canary.judged_steps, durations, strict=True)):
        gates = []
        for live in live_gates(spec, rate):
            if live.stage == "canary" and live.step is None:
                passed = durations[: index + 1]
                pooled = average_share(canary.judged_steps[: index + 1], passed)
                so_far = replace(live, share=pooled, baseline_share=1 - pooled, duration=sum(passed, timedelta(0)))
                gates.append(_live(so_far, rate, fails_at=share))
            elif live.stage == "canary" and live.step == index:
                gates.append(_live(live, rate))
        yield PlannedStep(
            stage="canary",
            title=f"canary {index + 1} of {len(canary.steps)}: {format_ratio(share)} of live requests",
            duration=lasting,
            share=share,
            expected_samples=_expected(rate, share, lasting),
            gates=tuple(gates),
            notes=(*_budget(canary, budget), *_clumps(spec, "canary", lasting), *_looks_away(canary.ignore_first))
            if index == 0
            else _evened(gates_of=canary, share=share),
            rolls_back_after=_reverted(gates, lasting),
        )


def _evened(*, gates_of: CanarySpec, share: float) -> tuple[str, ...]:
    """What becomes of a step in which the candidate is slower with more of the requests than current has."""
    half = EVEN_ARMS / TOTAL_WEIGHT
    if share <= half or not any(is_compared(gate) and gate.quantile is not None for gate in gates_of.gates):
        return ()
    return (f"a latency beyond its limit gives both releases {format_ratio(half)}, and begins the step anew",)


def _looks_away(first: timedelta | None) -> tuple[str, ...]:
    """From which answers no latency is taken."""
    return (f"gates on a latency leave out the first {format_duration(first)}",) if first else ()


def _clumps(spec: EnvironmentSpec, stage: LiveStage, lasting: timedelta) -> tuple[str, ...]:
    """What it costs that requests may fail in clumps; nothing where no gate would count blocks of time."""
    shares = [
        (allowed_share(gate), alpha_of(spec, stage, gate))
        for gate in stage_gates(spec, stage)
        if is_compared(gate) and not gate.advisory and not gate.counts
    ]
    dearest = max((blocks_to_exceed(share, alpha=alpha) for share, alpha in shares if 0.0 < share < 1.0), default=0)
    block = format_duration(block_of(lasting))
    counted = f"where the current release fails in clumps, blocks of {block} are counted, not requests"
    users = "; where few users fail, groups of users are: in as many of them" if stage == "canary" else ""
    return (f"{counted}: a total failure shows after {dearest} of them{users}",) if dearest else ()


def _offline(gate: Gate) -> PlannedGate:
    needed = needed_rows(gate)
    return PlannedGate(
        name=gate.name,
        rule=gate.rule,
        advisory=gate.advisory,
        min_samples=gate.min_samples,
        needs_rows=needed.rows if needed else None,
        says="; ".join(filter(None, [resolved(gate), f"needs {needed.says}" if needed else ""])),
    )


def _of_stage(spec: EnvironmentSpec, stage: LiveStage, rate: float | None) -> tuple[PlannedGate, ...]:
    return tuple(_live(live, rate) for live in live_gates(spec, rate) if live.stage == stage)


def _live(live: LiveGate, rate: float | None, *, fails_at: float | None = None) -> PlannedGate:
    """:param fails_at: share of the requests that a sudden failure sees; that of ``live`` if it is the same."""
    gate = live.gate
    planned = PlannedGate(
        name=gate.name,
        rule=gate.rule,
        advisory=gate.advisory,
        min_samples=gate.min_samples,
        alpha=None if gate.counts else live.alpha,
    )
    if rate is None:
        return planned
    can = power(live, rate)
    soonest = can.fails_after if fails_at is None else soonest_failure(replace(live, share=fails_at), rate)
    says = "; ".join(filter(None, [resolved(gate), can.says]))
    known = {"expected_samples": can.samples, "detects_after": soonest, "excess": can.excess, "says": says}
    return planned.model_copy(update=known)


def _reverted(gates: Sequence[PlannedGate], stage: timedelta) -> tuple[timedelta, timedelta] | None:
    detected = [gate.detects_after for gate in gates if gate.detects_after is not None and not gate.advisory]
    rest = look_every(stage) + REVERT
    return (min(detected) + rest, max(detected) + rest) if detected else None


def _budget(canary: CanarySpec, budget: Exposure | None) -> tuple[str, ...]:
    if canary.exposure is None or budget is None:
        return ()
    return (
        f"exposure: about {budget.bad:.0f} bad predictions, of {canary.exposure.max_bad} at most, until an excess of "
        f"{format_ratio(canary.exposure.effect)} is found ({budget.gate}); {budget.requests:,} requests a step",
    )


def _control(rollback: RollbackSpec) -> tuple[str, ...]:
    if rollback.control is None:
        return ()
    kept = f"{format_ratio(rollback.control)} of the requests stay on the previous release until the watch is over"
    notes = [f"{kept}: a limit that it breaks as well alerts, and reverts nothing"]
    if any(gate.on_fail != "revert" and is_compared(gate) for gate in rollback.gates):
        half = format_ratio(EVEN_ARMS / TOTAL_WEIGHT)
        notes.append(f"a limit that breaks gives it {half} for a moment, to tell an outage, or its load")
    return tuple(notes)


def _expected(rate: float | None, share: float, duration: timedelta) -> int | None:
    return None if rate is None else expected_samples(rate, share, duration)


def render(plan: RolloutPlan) -> str:
    """The plan as one reads it before applying it."""
    rate = f" at {format_rate(plan.expected_rate)}" if plan.expected_rate else ""
    lines = [f"{plan.environment}/{plan.manifest}{rate}, manifest {plan.digest[:12]}", ""]
    clock = timedelta(0)
    for number, step in enumerate(plan.steps, start=1):
        lines.append(f"  {number}. {_when(step, clock)}{step.title}")
        if step.expected_samples is not None:
            lines.append(f"       about {step.expected_samples:,} requests in {format_duration(step.duration)}")
        lines += [f"       {note}" for note in step.notes]
        lines += [f"       {line}" for gate in step.gates for line in _gate_lines(gate)]
        if not step.gates and step.stage == "gate":
            lines.append("       none: every registered model may enter this environment")
        if step.rolls_back_after is not None:
            back = _between(*step.rolls_back_after)
            lines.append(f"       back on the last good release {back} after every request has begun to fail")
        clock += step.duration
    skipped = [stage for stage in ("shadow", "canary", "watch") if any(step.stage == stage for step in plan.steps)]
    if skipped:
        stages = " and ".join(filter(None, [", ".join(skipped[:-1]), skipped[-1]]))
        lines += ["", f"  First release      skips {stages}: there is nothing to compare with or to return to"]
    lines += ["", f"  Time to promote    {format_duration(plan.time_to_promote)}{_people(plan)}"]
    if plan.time_to_roll_back is not None:
        made_of = f"slowest gate, the next look, {format_duration(REVERT)} to revert"
        lines.append(f"  Time to roll back  up to {format_duration(plan.time_to_roll_back)}, if all fails ({made_of})")
    if plan.watched_for:
        lines.append(
            f"  Watched            {format_duration(plan.watched_for)} after promotion, then a rollback is one call"
        )
    if plan.sequences:
        shared = f"shared by {plan.sequences} gates and steps" if plan.sequences > 1 else "of one gate"
        lines.append(f"  False alarms       at most {format_ratio(plan.false_alarms)} a rollout, {shared}")
    if plan.waiting is not None:
        lines += _waits(plan.waiting)
    if plan.drift is not None:
        lines.append(f"  Drift              {plan.drift}")
    return "\n".join(lines)


def _waits(waiting: Waiting) -> Iterator[str]:
    good, fair = (f"{100 * chance:.2g}%" for chance in (waiting.good, waiting.fair))
    yield f"  Waits for a person at most {good} of honest releases at half of each limit, {fair} at 0.8 of each"
    yield f"                     when a stage has had {waiting.patience:g} times its duration"
    allowed = f"at most {format_ratio(waiting.at_most)} of those at 0.8 wait"
    if waiting.works_from is None:
        yield f"                     at no traffic do its gates decide so soon that {allowed}"
    else:
        yield f"                     from {format_rate(waiting.works_from)} on, {allowed}"


def _when(step: PlannedStep, clock: timedelta) -> str:
    return f"+{format_duration(clock)}  " if step.duration else ""


def _gate_lines(gate: PlannedGate) -> Iterator[str]:
    samples = ""
    if gate.expected_samples is not None and gate.min_samples > 1:
        samples = f", about {gate.expected_samples:,} expected"
    detects = "" if gate.detects_after is None else f"; can fail after {format_duration(gate.detects_after)}"
    yield f"{'advisory' if gate.advisory else 'gate':8} {gate.rule}{samples}{detects}"
    if gate.says:
        yield f"{'':8} {gate.says}"


def _between(soonest: timedelta, latest: timedelta) -> str:
    words = [format_duration(soonest), format_duration(latest)]
    return " to ".join(dict.fromkeys(words))


def _people(plan: RolloutPlan) -> str:
    return f", plus a review of at most {format_duration(plan.review_at_most)}" if plan.review_at_most else ""
