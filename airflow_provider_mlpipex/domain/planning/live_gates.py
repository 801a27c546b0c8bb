"""The gates that are looked at while traffic flows: where, with how many requests, for how long, at which alpha."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from airflow_provider_mlpipex.domain.gates.concurrent_baseline import is_compared
from airflow_provider_mlpipex.domain.gates.gate import LIVE_SOURCES, Gate
from airflow_provider_mlpipex.domain.gates.patience import PATIENCE
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec
from airflow_provider_mlpipex.domain.planning.canary_schedule import step_durations
from airflow_provider_mlpipex.domain.planning.false_alarms import LiveStage, alpha_of
from airflow_provider_mlpipex.domain.planning.sampling import expected_samples, ignored, spans_canary


@dataclass(frozen=True)
class LiveGate:
    """One gate where it is judged.

    :param index: its place in the block of the manifest.
    :param step: the canary step; ``None`` elsewhere and for a gate that spans the canary.
    :param share: share of the endpoint's requests that the candidate sees there, ``baseline_share`` those that the
        release sees that it is compared with.
    :param duration: for how long evidence gathers.
    :param alpha: chance of a false alarm of this one sequence.
    :param compared_for: for how long it can be compared with the other release.
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
    def is_compared(self) -> bool:
        """Whether a broken limit is held against the release only beside another one."""
        return self.baseline_share > 0 and is_compared(self.gate)

    def samples(self, rate: float) -> int:
        """Requests that the candidate sees at ``rate`` requests a second."""
        return expected_samples(rate, self.share, self.duration)

    def baseline_samples(self, rate: float) -> int:
        return expected_samples(rate, self.baseline_share, self.duration)


def live_gates(environment: EnvironmentSpec, rate: float | None = None) -> tuple[LiveGate, ...]:
    """Every sequence of looks of a rollout in ``environment``, in the order of its stages; none where it serves
    nobody.

    :param rate: requests a second; steps that last by an exposure budget last for nothing without it.
    """
    return tuple(_live_gates(environment, rate)) if environment.serve else ()


def _live_gates(environment: EnvironmentSpec, rate: float | None) -> Iterator[LiveGate]:
    shadow, canary, rollback = environment.shadow, environment.canary, environment.rollback
    durations = step_durations(environment, rate)
    for index, gate in enumerate(shadow.gates if shadow else ()):
        assert shadow is not None
        alpha = alpha_of(environment, "shadow", gate)
        patience = PATIENCE * shadow.duration
        watched = max(timedelta(0), shadow.duration - ignored(gate, shadow.ignore_first))
        yield LiveGate("shadow", index, gate, shadow.fraction, 1.0, watched, alpha, compared_for=patience)
    for index, gate in enumerate(canary.gates if canary else ()):
        assert canary is not None
        alpha = alpha_of(environment, "canary", gate)
        if spans_canary(gate, canary):
            whole = sum(durations, timedelta(0))
            share = average_share(canary.judged_steps, durations)
            yield LiveGate("canary", index, gate, share, 1.0 - share, whole, alpha, compared_for=PATIENCE * whole)
            continue
        for step, (share, lasting) in enumerate(zip(canary.judged_steps, durations, strict=True)):
            patience = PATIENCE * lasting
            watched = max(timedelta(0), lasting - ignored(gate, canary.ignore_first))
            yield LiveGate("canary", index, gate, share, 1.0 - share, watched, alpha, step, compared_for=patience)
    for index, gate in enumerate(rollback.gates if rollback else ()):
        assert rollback is not None
        if gate.source not in LIVE_SOURCES:
            continue  # looked at once, when its window is over: no sequence of looks
        alpha, control = alpha_of(environment, "watch", gate), rollback.control or 0.0
        window, whole = gate.window or rollback.window, rollback.window
        yield LiveGate("watch", index, gate, 1.0 - control, control, window, alpha, compared_for=whole)


def average_share(shares: Sequence[float], durations: Sequence[timedelta]) -> float:
    """Of the requests that come in all of ``durations``, those that the candidate sees."""
    whole = sum(durations, timedelta(0))
    if not whole:
        return sum(shares) / len(shares)
    return sum(share * (lasting / whole) for share, lasting in zip(shares, durations, strict=True))
