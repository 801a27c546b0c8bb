"""Rules for shadow, canary and rollback: each must be able to gather the evidence that its gates ask for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise

from airflow_provider_mlpipex.domain.fields.quantities import format_duration, format_rate, format_ratio
from airflow_provider_mlpipex.domain.fields.yaml_text import FieldPath, Problem
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.manifest.drift_block import MIN_WINDOW
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec
from airflow_provider_mlpipex.domain.manifest.stage_blocks import CanarySpec, ExposureSpec, RollbackSpec, ShadowSpec
from airflow_provider_mlpipex.domain.planning.canary_schedule import (
    bad_to_detect,
    exposure,
    finders,
    smallest_effect,
    step_durations,
)
from airflow_provider_mlpipex.domain.planning.false_alarms import alpha_of
from airflow_provider_mlpipex.domain.planning.sampling import (
    REVERT,
    expected_samples,
    look_every,
    needed_duration,
    spans_canary,
)
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TOTAL_WEIGHT

MIN_SHARE = 1 / TOTAL_WEIGHT
#: Beyond this a promotion would be another canary.
_MAX_CONTROL = 0.5
#: What is looked away from is at most one part in so many of a stage.
_MAX_IGNORED_PART = 4


def broken_rules(rate: float | None, environment: EnvironmentSpec, path: FieldPath) -> Iterator[Problem]:
    """Every rule that the live stages of ``environment`` break at ``rate`` requests a second."""
    shadow, canary, rollback = environment.shadow, environment.canary, environment.rollback
    live = {"shadow": shadow, "canary": canary, "rollback": rollback}
    if not environment.serve:
        for name, block in live.items():
            if block is not None:
                yield Problem((*path, name), "given", "serve: false serves nobody", "remove it, or write serve: true")
        return
    for name, block in live.items():
        if block is not None and not any(not gate.advisory for gate in block.gates):
            yield Problem(
                (*path, name, "gates"),
                "only advisory gates" if block.gates else "no gates",
                f"a {name} needs a signal: at least one gate that is not advisory",
                "add a gate, for example 'error rate at most 1%'",
            )
    if canary is not None and rollback is None:
        yield Problem(
            (*path, "rollback"),
            "missing",
            "what takes live traffic in steps must be able to go back after the last",
            "add a rollback block with a window and gates",
        )
    if rate is None:
        yield from _rate_needed(shadow, canary, rollback)
    if shadow is not None:
        yield from _shadow(shadow, rate, (*path, "shadow"))
    if canary is not None:
        yield from _canary(environment, canary, rate, (*path, "canary"))
    if rollback is not None:
        yield from _rollback(rollback, rate, (*path, "rollback"))


def _rate_needed(
    shadow: ShadowSpec | None, canary: CanarySpec | None, rollback: RollbackSpec | None
) -> Iterator[Problem]:
    gates = [gate for block in (shadow, canary, rollback) if block for gate in block.gates]
    if (shadow and shadow.min_pairs > 1) or any(gate.min_samples > 1 for gate in gates):
        yield Problem(
            ("traffic", "expected_rate"),
            "missing",
            "min_pairs and min_samples can only be checked against a rate",
            "declare the rate of a quiet day, for example 30/s",
        )
    elif any(gate.detects is not None for gate in gates):
        yield Problem(
            ("traffic", "expected_rate"),
            "missing",
            "whether a gate sees what it detects can only be checked against a rate",
            "declare the rate of a quiet day, for example 30/s",
        )


def _share(share: float, path: FieldPath) -> Iterator[Problem]:
    if not MIN_SHARE <= share <= 1:
        limit = f"from {format_ratio(MIN_SHARE)} to 100%"
        yield Problem(path, format_ratio(share), limit, "write a share of the live requests, for example 5%")


def _shadow(shadow: ShadowSpec, rate: float | None, path: FieldPath) -> Iterator[Problem]:
    yield from _share(shadow.fraction, (*path, "fraction"))
    yield from _ignores_little(shadow.ignore_first, shadow.duration, path)
    for index, gate in enumerate(shadow.gates):
        yield from window_fits(gate, (*path, "gates", index), shadow.duration, "shadow.duration")
    if rate is None or not MIN_SHARE <= shadow.fraction <= 1:
        return
    expected = expected_samples(rate, shadow.fraction, shadow.duration)
    asked = [((*path, "min_pairs"), shadow.min_pairs)]
    asked += [((*path, "gates", index, "min_samples"), gate.min_samples) for index, gate in enumerate(shadow.gates)]
    for at, samples in asked:
        if samples > expected:
            yield Problem(
                at,
                samples,
                f"{format_duration(shadow.duration)} at {format_rate(rate)} and {format_ratio(shadow.fraction)} "
                f"bring {expected}",
                f"lengthen shadow.duration to {format_duration(needed_duration(samples, rate, shadow.fraction))}, "
                "mirror a larger fraction, or ask for fewer",
            )


def _ignores_little(first: timedelta | None, stage: timedelta, path: FieldPath) -> Iterator[Problem]:
    if first is not None and not timedelta(0) < first <= stage / _MAX_IGNORED_PART:
        yield Problem(
            (*path, "ignore_first"),
            format_duration(first),
            f"more than nothing, and at most a quarter of the shortest stage ({format_duration(stage)})",
            "write for example 30s, or lengthen the stage",
        )


def _canary(environment: EnvironmentSpec, canary: CanarySpec, rate: float | None, path: FieldPath) -> Iterator[Problem]:
    steps = canary.steps
    for index, step in enumerate(steps):
        yield from _share(step, (*path, "steps", index))
    for index, (before, after) in enumerate(pairwise(steps), start=1):
        if round(after * TOTAL_WEIGHT) <= round(before * TOTAL_WEIGHT):
            yield Problem(
                (*path, "steps", index),
                format_ratio(after),
                f"more than the step before, {format_ratio(before)}",
                "let the steps rise",
            )
    if steps[-1] != 1:
        yield Problem(
            (*path, "steps", len(steps) - 1),
            format_ratio(steps[-1]),
            "the last step is 100%",
            "add 100% as the last step",
        )
    if canary.exposure is not None:
        yield from _exposure(environment, canary, canary.exposure, rate, (*path, "exposure"))
    durations = step_durations(environment, rate)
    whole = sum(durations, timedelta(0))
    if whole:
        yield from _ignores_little(canary.ignore_first, min(durations), path)
    for index, gate in enumerate(canary.gates):
        at: FieldPath = (*path, "gates", index)
        if whole:
            yield from window_fits(gate, at, whole, "the whole canary")
        if rate is not None and whole:
            yield from _canary_samples(gate, canary, durations, rate, at)


def _exposure(
    environment: EnvironmentSpec, canary: CanarySpec, budget: ExposureSpec, rate: float | None, path: FieldPath
) -> Iterator[Problem]:
    gates = finders(environment)
    if not gates:
        yield Problem(
            path,
            f"max_bad: {budget.max_bad}",
            "a binding gate that finds bad predictions by itself: with max or min, not beside a baseline",
            "add a gate, for example 'error rate at most 1%'",
        )
    if rate is None:
        yield Problem(
            ("traffic", "expected_rate"),
            "missing",
            "how long an exposure budget makes the steps is computed from a rate",
            "declare the rate of a quiet day, for example 30/s",
        )
    for gate in gates:
        alpha = alpha_of(environment, "canary", gate)
        bad = bad_to_detect(gate, budget.effect, alpha)
        if bad > budget.max_bad:
            larger = smallest_effect(gate, budget, alpha)
            other = "" if larger is None else f", or let effect be {format_ratio(math.ceil(larger * 1000) / 1000)}"
            yield Problem(
                (*path, "max_bad"),
                budget.max_bad,
                f"{gate.name} finds an excess of {format_ratio(budget.effect)} after about {math.ceil(bad)} bad "
                f"predictions, at false alarms of {format_ratio(float(f'{alpha:.2g}'))}",
                f"allow {math.ceil(bad)}{other}",
            )
            return
    planned = exposure(environment, rate)
    if rate is None or planned is None or planned.bad <= budget.max_bad:
        return
    delay = look_every(planned.durations[0]) + REVERT
    needed = max(bad_to_detect(gate, budget.effect, alpha_of(environment, "canary", gate)) for gate in gates)
    lightest = (budget.max_bad - needed) / (rate * delay.total_seconds())
    yield Problem(
        (*path, "max_bad"),
        budget.max_bad,
        f"at {format_rate(rate)} and {format_ratio(canary.steps[0])} about {math.ceil(planned.bad)} bad predictions, "
        f"those included that are served until the next look and the revert ({format_duration(delay)})",
        f"allow {math.ceil(planned.bad)}, or begin with {format_ratio(max(MIN_SHARE, round(lightest, 4)))}",
    )


def _canary_samples(
    gate: Gate, canary: CanarySpec, durations: Sequence[timedelta], rate: float, at: FieldPath
) -> Iterator[Problem]:
    """An exposure budget makes every step long enough for the candidate's samples, whatever they are."""
    shares = [share for share in canary.judged_steps if MIN_SHARE <= share <= 1]
    if not shares or len(shares) < len(durations):
        return
    over_all = spans_canary(gate, canary)
    step = durations[0]
    own = sum(shares) if over_all else min(shares)
    sides = [("", own)] if canary.exposure is None else []
    if gate.relative and over_all:
        beside = sum((1.0 - share) * (lasting / step) for share, lasting in zip(shares, durations, strict=True))
        sides.append((" of the current release", beside))
    elif gate.relative and canary.exposure is None:
        sides.append((" of the current release", 1.0 - max(shares)))
    where = "over all steps" if over_all else f"in the {format_ratio(own)} step"
    for whose, share in sides:
        expected = expected_samples(rate, share, step)
        if share > 0 and gate.min_samples > expected:
            needed = format_duration(needed_duration(gate.min_samples, rate, share))
            yield Problem(
                (*at, "min_samples"),
                gate.min_samples,
                f"{where}, {format_rate(rate)} for {format_duration(step)} bring {expected}{whose}",
                f"lengthen canary.step_duration to {needed}, or ask for fewer",
            )


def _rollback(rollback: RollbackSpec, rate: float | None, path: FieldPath) -> Iterator[Problem]:
    control = rollback.control
    if control is not None and not MIN_SHARE <= control <= _MAX_CONTROL:
        limit = f"from {format_ratio(MIN_SHARE)} to {format_ratio(_MAX_CONTROL)}"
        yield Problem((*path, "control"), format_ratio(control), limit, "write for example 1%")
    for index, gate in enumerate(rollback.gates):
        at: FieldPath = (*path, "gates", index)
        yield from window_fits(gate, at, rollback.window, "rollback.window")
        if gate.source == "drift" and gate.window is not None and gate.window < MIN_WINDOW:
            yield Problem(
                (*at, "window"),
                format_duration(gate.window),
                f"at least {format_duration(MIN_WINDOW)}: requests are counted by the minute",
                "write for example 15m",
            )
        if gate.relative and control is None:
            yield Problem(
                at,
                gate.rule,
                "after promotion nobody but the new release answers: there is nothing to compare with",
                "let the previous release keep a share with control: 1%, or state max or min",
            )
        watched = gate.window or rollback.window
        sides = [
            ("", 1.0 - (control or 0.0)),
            *([(" of the control arm", control)] if gate.relative and control else []),
        ]
        for whose, share in sides:
            expected = expected_samples(rate, share, watched) if rate is not None else gate.min_samples
            if rate is not None and gate.min_samples > expected and share > 0:
                needed = format_duration(needed_duration(gate.min_samples, rate, share))
                yield Problem(
                    (*at, "min_samples"),
                    gate.min_samples,
                    f"{format_duration(watched)} at {format_rate(rate)} bring {expected}{whose}",
                    f"widen the window to {needed}, or ask for fewer",
                )


def window_fits(gate: Gate, at: FieldPath, stage: timedelta, what: str) -> Iterator[Problem]:
    if gate.window is not None and gate.window > stage:
        yield Problem(
            (*at, "window"),
            format_duration(gate.window),
            f"at most {format_duration(stage)}: {what}",
            f"shorten the window, or lengthen {what}",
        )
