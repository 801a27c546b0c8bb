"""The gates that are looked at while traffic flows, each with its share of the false alarms that a rollout may raise.

A rollout in one environment has one alpha, ``false_alarms``: the probability that it rolls back, or is reverted in its
watch, although every limit is kept. It is split evenly among the sequences of looks that can do so (union bound, so
they may depend on one another): each gate of the shadow, each gate of the canary in each of its steps, or once if it
spans them, each gate of the watch. Windows of a watch share their gate's part (:mod:`watch_windows`). An advisory gate
is judged at the same share but spends nothing, because it stops nothing; a count is exact and needs none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from airflow_provider_mlpipex.domain import watch_windows
from airflow_provider_mlpipex.domain.gates import Gate
from airflow_provider_mlpipex.domain.manifest import CanarySpec, EnvironmentSpec
from airflow_provider_mlpipex.domain.sampling import canary_duration, expected_samples, spans_canary
from airflow_provider_mlpipex.domain.statistics import share_alpha

LiveStage = Literal["shadow", "canary", "watch"]


@dataclass(frozen=True)
class LiveGate:
    """One gate where it is judged.

    :param index: its place in the block of the manifest.
    :param step: the canary step; ``None`` elsewhere and for a gate that spans the canary.
    :param share: share of the endpoint's requests that the candidate sees there, ``baseline_share`` those that the
        release sees that it is compared with.
    :param duration: for how long evidence gathers.
    :param alpha: chance of a false alarm of this one sequence.
    :param compared_for: for how long it can be compared with a control arm; nothing for all but gates of a watch.
    """

    stage: LiveStage
    index: int
    gate: Gate
    share: float
    baseline_share: float
    duration: timedelta
    alpha: float
    step: int | None = None
    compared_for: timedelta = timedelta(0)

    @property
    def has_control(self) -> bool:
        """Whether a broken limit is held against the release only beside a control arm. A relative gate compares
        anyway, and one that only waits for a count never breaks."""
        waits = self.gate.counts and self.gate.min is not None
        return self.stage == "watch" and self.baseline_share > 0 and not self.gate.relative and not waits

    def samples(self, rate: float) -> int:
        """Requests that the candidate sees at ``rate`` requests a second."""
        return expected_samples(rate, self.share, self.duration)

    def baseline_samples(self, rate: float) -> int:
        return expected_samples(rate, self.baseline_share, self.duration)


def stage_gates(environment: EnvironmentSpec, stage: LiveStage) -> tuple[Gate, ...]:
    """The gates that ``environment`` sets for ``stage``; for a shadow also the pairs that it must gather."""
    if stage == "shadow":
        return environment.shadow.judged_gates if environment.shadow else ()
    spec = environment.canary if stage == "canary" else environment.rollback
    return tuple(spec.gates) if spec else ()


def live_gates(environment: EnvironmentSpec) -> tuple[LiveGate, ...]:
    """Every sequence of looks of a rollout in ``environment``, in the order of its stages; none where it serves
    nobody."""
    return tuple(_live_gates(environment)) if environment.serve else ()


def alpha_of(environment: EnvironmentSpec, stage: LiveStage, gate: Gate) -> float:
    """The chance of a false alarm that one sequence of looks at ``gate`` may take."""
    part = share_alpha(environment.false_alarms, max(1, sequences(environment)))
    if stage == "watch" and environment.rollback is not None:
        return part / watch_windows.beginnings(gate.window, environment.rollback.window)
    return part


def sequences(environment: EnvironmentSpec) -> int:
    """How many sequences of looks may raise a false alarm; the windows of a watch count as one."""
    shadow, canary, rollback = environment.shadow, environment.canary, environment.rollback
    in_shadow = sum(_may_err(gate) for gate in shadow.gates) if shadow else 0
    in_canary = sum(_looks(gate, canary) for gate in canary.gates if _may_err(gate)) if canary else 0
    in_watch = sum(_may_err(gate) for gate in rollback.gates) if rollback else 0
    return in_shadow + in_canary + in_watch


def _live_gates(environment: EnvironmentSpec) -> Iterator[LiveGate]:
    shadow, canary, rollback = environment.shadow, environment.canary, environment.rollback
    for index, gate in enumerate(shadow.gates if shadow else ()):
        assert shadow is not None
        alpha = alpha_of(environment, "shadow", gate)
        yield LiveGate("shadow", index, gate, shadow.fraction, 1.0, shadow.duration, alpha)
    for index, gate in enumerate(canary.gates if canary else ()):
        assert canary is not None
        alpha = alpha_of(environment, "canary", gate)
        if spans_canary(gate, canary):
            share = sum(canary.steps) / len(canary.steps)
            yield LiveGate("canary", index, gate, share, 1.0 - share, canary_duration(canary), alpha)
            continue
        for step, share in enumerate(canary.steps):
            yield LiveGate("canary", index, gate, share, 1.0 - share, canary.step_duration, alpha, step)
    for index, gate in enumerate(rollback.gates if rollback else ()):
        assert rollback is not None
        alpha, control = alpha_of(environment, "watch", gate), rollback.control or 0.0
        window, whole = gate.window or rollback.window, rollback.window
        yield LiveGate("watch", index, gate, 1.0 - control, control, window, alpha, compared_for=whole)


def _looks(gate: Gate, canary: CanarySpec) -> int:
    return 1 if spans_canary(gate, canary) else len(canary.steps)


def _may_err(gate: Gate) -> bool:
    return not gate.advisory and not gate.counts
