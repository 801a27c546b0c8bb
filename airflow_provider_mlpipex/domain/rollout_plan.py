"""What a release would go through in one environment, before anything is applied: steps, gates, times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Literal

from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.gates import Gate, known_metric
from airflow_provider_mlpipex.domain.manifest import CanarySpec, EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.names import Name
from airflow_provider_mlpipex.domain.quantities import Duration, Ratio, format_duration, format_rate, format_ratio
from airflow_provider_mlpipex.domain.sampling import expected_samples, needed_duration, spans_canary
from airflow_provider_mlpipex.domain.values import Value

#: How often a trigger looks at the gates of a live stage.
LOOK_EVERY = timedelta(seconds=2)
#: From the decision to the last request that the bad release answers; the embedded plane needs milliseconds.
REVERT = timedelta(seconds=1)


class PlannedGate(Value):
    """One gate of a step. ``detects_after``: the soonest that it can say *fail* at the declared rate."""

    name: Name
    rule: str
    advisory: bool
    min_samples: int
    expected_samples: int | None = None
    detects_after: Duration | None = None


class PlannedStep(Value):
    """One step. ``rolls_back_after``: soonest and latest, by the binding gate that sees the failure first or last:
    its evidence, a look, and the revert."""

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
    ``time_to_roll_back`` is the latest of every step."""

    manifest: Name
    environment: Name
    digest: str
    expected_rate: float | None
    steps: tuple[PlannedStep, ...]
    time_to_promote: Duration
    review_at_most: Duration | None
    time_to_roll_back: Duration | None
    watched_for: Duration


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
    steps = tuple(_steps(spec, manifest.traffic.expected_rate))
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
    )


def _steps(spec: EnvironmentSpec, rate: float | None) -> Iterator[PlannedStep]:
    gates = tuple(_offline(gate) for gate in spec.gates)
    yield PlannedStep(stage="gate", title="offline gates", gates=gates)
    if spec.review:
        notes = [f"a person approves: {', '.join(spec.review.required_for) or 'what is not named'}"]
        if spec.review.auto_approve:
            notes.append(f"approved by policy: {', '.join(spec.review.auto_approve)}")
        notes.append(f"rejected without an answer after {format_duration(spec.review.timeout)}")
        yield PlannedStep(stage="review", title="review", notes=tuple(notes))
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
            gates=tuple(_live(gate, rate, shadow.fraction, shadow.duration) for gate in shadow.gates),
            notes=(f"at least {shadow.min_pairs} requests answered by both releases",),
        )
    if spec.canary:
        yield from _canary(spec.canary, rate)
    yield PlannedStep(stage="promote", title="promote: 100% of traffic; the previous release stays warm")
    if spec.rollback:
        window = spec.rollback.window
        watched = tuple(_live(gate, rate, 1.0, gate.window or window) for gate in spec.rollback.gates)
        yield PlannedStep(
            stage="watch",
            title="watch: a failed gate returns traffic to the previous release by itself",
            duration=window,
            share=1.0,
            expected_samples=_expected(rate, 1.0, window),
            gates=watched,
            rolls_back_after=_reverted(watched),
        )


def _canary(canary: CanarySpec, rate: float | None) -> Iterator[PlannedStep]:
    for index, share in enumerate(canary.steps):
        observed = canary.step_duration
        gates = []
        for gate in canary.gates:
            pooled = sum(canary.steps[: index + 1])
            gates.append(_live(gate, rate, share, observed, pooled=pooled if spans_canary(gate, canary) else None))
        yield PlannedStep(
            stage="canary",
            title=f"canary {index + 1} of {len(canary.steps)}: {format_ratio(share)} of live requests",
            duration=observed,
            share=share,
            expected_samples=_expected(rate, share, observed),
            gates=tuple(gates),
            rolls_back_after=_reverted(gates),
        )


def _offline(gate: Gate) -> PlannedGate:
    return PlannedGate(name=gate.name, rule=gate.rule, advisory=gate.advisory, min_samples=gate.min_samples)


def _live(
    gate: Gate, rate: float | None, share: float, duration: timedelta, *, pooled: float | None = None
) -> PlannedGate:
    """:param pooled: sum of the shares up to this step, for a gate that is judged over the whole canary."""
    return PlannedGate(
        name=gate.name,
        rule=gate.rule,
        advisory=gate.advisory,
        min_samples=gate.min_samples,
        expected_samples=_expected(rate, share if pooled is None else pooled, duration),
        detects_after=_detects_after(gate, rate, share),
    )


def _detects_after(gate: Gate, rate: float | None, share: float) -> timedelta | None:
    if rate is None:
        return None
    at_once = gate.max is not None and known_metric(gate.metric).only_grows
    samples = int(gate.bound) + 1 if at_once else gate.min_samples
    sampled = needed_duration(samples, rate, share)
    return sampled if at_once else max(sampled, gate.window or timedelta(0))


def _reverted(gates: Sequence[PlannedGate]) -> tuple[timedelta, timedelta] | None:
    detected = [gate.detects_after for gate in gates if gate.detects_after is not None and not gate.advisory]
    return (min(detected) + LOOK_EVERY + REVERT, max(detected) + LOOK_EVERY + REVERT) if detected else None


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
        lines += [f"       {_gate_line(gate)}" for gate in step.gates]
        if not step.gates and step.stage == "gate":
            lines.append("       none: every registered model may enter this environment")
        if step.rolls_back_after is not None:
            lines.append(f"       back on the last good release {_between(*step.rolls_back_after)} after a failure")
        clock += step.duration
    lines += ["", f"  Time to promote    {format_duration(plan.time_to_promote)}{_people(plan)}"]
    if plan.time_to_roll_back is not None:
        made_of = f"slowest gate, a look every {format_duration(LOOK_EVERY)}, {format_duration(REVERT)} to revert"
        lines.append(f"  Time to roll back  up to {format_duration(plan.time_to_roll_back)} ({made_of})")
    if plan.watched_for:
        lines.append(
            f"  Watched            {format_duration(plan.watched_for)} after promotion, then a rollback is one call"
        )
    return "\n".join(lines)


def _when(step: PlannedStep, clock: timedelta) -> str:
    return f"+{format_duration(clock)}  " if step.duration else ""


def _gate_line(gate: PlannedGate) -> str:
    samples = ""
    if gate.expected_samples is not None and gate.min_samples > 1:
        samples = f", about {gate.expected_samples:,} expected"
    detects = "" if gate.detects_after is None else f"; can fail after {format_duration(gate.detects_after)}"
    return f"{'advisory' if gate.advisory else 'gate':8} {gate.rule}{samples}{detects}"


def _between(soonest: timedelta, latest: timedelta) -> str:
    words = [format_duration(soonest), format_duration(latest)]
    return " to ".join(dict.fromkeys(words))


def _people(plan: RolloutPlan) -> str:
    return f", plus a review of at most {format_duration(plan.review_at_most)}" if plan.review_at_most else ""
