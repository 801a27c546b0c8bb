"""How the false alarms that a rollout may raise are shared among the looks at its gates.

A rollout in one environment has one alpha, ``false_alarms``: the probability that it rolls back, or is reverted in its
watch, although every limit is kept. It is split evenly among the sequences of looks that can do so (union bound, so
they may depend on one another): each gate of the shadow, each gate of the canary in each of its steps, or once if it
spans them, each gate of the watch. Windows of a watch share their gate's part (:mod:`watch_windows`). An advisory gate
is judged at the same share but spends nothing, because it stops nothing; a count is exact and needs none.
"""

from __future__ import annotations

from typing import Literal

from airflow_provider_mlpipex.domain.gates import watch_windows
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec
from airflow_provider_mlpipex.domain.manifest.stage_blocks import CanarySpec
from airflow_provider_mlpipex.domain.planning.sampling import spans_canary
from airflow_provider_mlpipex.domain.statistics.confidence import share_alpha

LiveStage = Literal["shadow", "canary", "watch"]


def stage_gates(environment: EnvironmentSpec, stage: LiveStage) -> tuple[Gate, ...]:
    """The gates that ``environment`` sets for ``stage``; for a shadow also the pairs that it must gather."""
    if stage == "shadow":
        return environment.shadow.judged_gates if environment.shadow else ()
    spec = environment.canary if stage == "canary" else environment.rollback
    return tuple(spec.gates) if spec else ()


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
    in_canary = sum(_sequences(gate, canary) for gate in canary.gates if _may_err(gate)) if canary else 0
    in_watch = sum(_may_err(gate) for gate in rollback.gates) if rollback else 0
    return in_shadow + in_canary + in_watch


def _sequences(gate: Gate, canary: CanarySpec) -> int:
    return 1 if spans_canary(gate, canary) else len(canary.steps)


def _may_err(gate: Gate) -> bool:
    return not gate.advisory and not gate.counts
