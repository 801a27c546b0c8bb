"""Whether the gates of live stages can decide in time: they are played, where the other rules only read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta

from airflow_provider_mlpipex.domain.fields.quantities import format_duration, format_rate, format_ratio
from airflow_provider_mlpipex.domain.fields.yaml_text import FieldPath, Problem
from airflow_provider_mlpipex.domain.gates.patience import PATIENCE
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec
from airflow_provider_mlpipex.domain.planning.false_alarms import LiveStage
from airflow_provider_mlpipex.domain.planning.honest_release import GOOD, MOSTLY, patience_at, stays_undecided, waits
from airflow_provider_mlpipex.domain.planning.live_gates import LiveGate, live_gates
from airflow_provider_mlpipex.domain.planning.power import (
    about,
    distinguished_after,
    outage_recognised_after,
    soonest_failure,
    time_to_decide,
)
from airflow_provider_mlpipex.domain.validation.live_rules import MIN_SHARE

_BLOCKS: dict[LiveStage, str] = {"shadow": "shadow", "canary": "canary", "watch": "rollback"}


def undecided(rate: float | None, environment: EnvironmentSpec, path: FieldPath) -> Iterator[Problem]:
    """Gates that could not decide at ``rate``, or not for most releases."""
    if rate is not None and environment.serve:
        problems = list(_undecided(environment, rate, path))
        yield from problems or _mostly_waits(environment, rate, path)


def _undecided(environment: EnvironmentSpec, rate: float, path: FieldPath) -> Iterator[Problem]:
    """A gate is refused that could not fail in its stage, or not see what it says that it detects. Of the steps of a
    canary the one with the fewest requests counts."""
    reported: set[tuple[LiveStage, int]] = set()
    for live in live_gates(environment, rate):
        if (live.stage, live.index) in reported or not _able(live):
            continue
        if live.gate.counts:
            problem = _never_distinguished(live, rate)
        else:
            problem = _never_fails(live, environment, rate) or _never_sees(live, environment, rate)
        if problem is not None:
            reported.add((live.stage, live.index))
            yield problem._replace(path=(*path, _BLOCKS[live.stage], "gates", live.index, *problem.path))


def _mostly_waits(environment: EnvironmentSpec, rate: float, path: FieldPath) -> Iterator[Problem]:
    """A policy is refused that would put most of the releases before a person which need half of each limit; the gate
    is named that does so most often."""
    lasting = PATIENCE
    chance = waits(environment, rate, GOOD, lasting)
    if chance > MOSTLY:
        lasting = patience_at(environment, rate)
        chance = waits(environment, rate, GOOD, lasting)
    tried = [
        live
        for live in live_gates(environment, rate)
        if live.stage != "watch" and not live.gate.advisory and _able(live)
    ]
    if chance <= MOSTLY or not tried:
        return
    worst = max(tried, key=lambda live: stays_undecided(live, rate, GOOD, lasting))
    yield Problem(
        (*path, _BLOCKS[worst.stage], "gates", worst.index),
        worst.gate.rule,
        f"decided in time: {_brought(worst, rate)}, and even after {lasting:g} times as long {100 * chance:.0f}% of "
        "the releases that need half of each limit would wait for a person",
        "lengthen the stages, take larger shares, or state limits that so few requests can tell",
    )


def _able(live: LiveGate) -> bool:
    """Whether other rules have nothing against its stage: it has requests, and a baseline where one is needed."""
    in_bounds = MIN_SHARE <= live.share <= 1 and live.duration > timedelta(0)
    return in_bounds and (not live.gate.relative or live.baseline_share > 0)


def _never_fails(live: LiveGate, environment: EnvironmentSpec, rate: float) -> Problem | None:
    needed = soonest_failure(live, rate)
    if needed is not None and needed <= live.duration:
        return _never_distinguished(live, rate)
    return Problem(
        (),
        live.gate.rule,
        f"{_brought(live, rate)}: not enough to fail even if every one of them were bad",
        f"lengthen {_longer(live, environment, needed)}" if needed else "state another threshold",
    )


def _never_distinguished(live: LiveGate, rate: float) -> Problem | None:
    """The other release must have enough requests to be compared with, or comparing would disarm the gate of a trial,
    and be without effect in a watch."""
    if not live.is_compared:
        return None
    if live.stage == "watch":
        return _reverts_first(live, rate)
    needed = distinguished_after(live, rate)
    # What no number of requests can show to be worse is a limit that nothing keeps: its proof refuses it.
    if live.gate.counts or needed is None or needed <= live.compared_for:
        return None
    return Problem(
        (),
        live.gate.rule,
        f"a total failure that shows beside the current release within {format_duration(live.compared_for)}; at "
        f"{format_rate(rate)} it needs {about(needed)}",
        "lengthen the stage, or take a larger share",
    )


def _reverts_first(live: LiveGate, rate: float) -> Problem | None:
    alone, shown = soonest_failure(live, rate), outage_recognised_after(live, rate)
    if live.gate.on_fail != "revert" or alone is None or (shown is not None and shown <= alone):
        return None
    return Problem(
        ("on_fail",),
        "revert",
        f"a control arm that shows an outage of both before the release is taken back: at {format_rate(rate)} and "
        f"{format_ratio(live.baseline_share)} after {about(shown) if shown else 'all time'}, and the limit is broken "
        f"after {about(alone)}",
        "write on_fail: grow-control, or give control a larger share",
    )


def _never_sees(live: LiveGate, environment: EnvironmentSpec, rate: float) -> Problem | None:
    gate = live.gate
    needed = None if gate.detects is None else time_to_decide(live, rate)
    if gate.detects is None or (needed is not None and needed <= live.duration):
        return None
    shown = gate.apart(gate.detects)
    if needed is None:
        return Problem(("detects",), shown, "an excess that can be measured", "write a smaller one")
    return Problem(
        ("detects",),
        shown,
        f"{_brought(live, rate)}, but this gate needs about {about(needed)}",
        f"lengthen {_longer(live, environment, needed)}, take a larger share, or detect more than {shown}",
    )


def _brought(live: LiveGate, rate: float) -> str:
    share = "" if live.share == 1 else f" and {format_ratio(round(live.share, 6))}"
    return f"{format_duration(live.duration)} at {format_rate(rate)}{share} bring {live.samples(rate)}"


def _longer(live: LiveGate, environment: EnvironmentSpec, needed: timedelta) -> str:
    """What to write so that the gate has ``needed``: a canary step has its part of it, where the gate spans them."""
    if live.stage == "watch":
        return f"{'the window' if live.gate.window else 'rollback.window'} to {format_duration(needed)}"
    if live.stage == "shadow":
        return f"shadow.duration to {format_duration(needed)}"
    if environment.canary and environment.canary.exposure:
        return "the steps with a smaller exposure.effect"
    steps = len(environment.canary.steps) if environment.canary and live.step is None else 1
    return f"canary.step_duration to {format_duration(timedelta(seconds=math.ceil(needed.total_seconds() / steps)))}"
