"""The ``drills`` block of an environment: whether what serves there may be broken on purpose."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_mlpipex.domain.changes import Change
from airflow_provider_mlpipex.domain.fields.quantities import Duration, format_duration
from airflow_provider_mlpipex.domain.manifest.gates_diff import NONE, Strictness, compare
from airflow_provider_mlpipex.domain.values import Recorded


class DrillsSpec(Recorded):
    """:param allowed: whether releases of this environment may be broken on purpose, to see that found and taken back.

    :param every: a rollback here has to be shown to work at least so often, by a drill or for real; else its readiness
        lamp is red.

    Where nothing is said, they may in every environment but the last one that serves: that one has users.
    """

    added_later = frozenset({"every"})

    allowed: bool = False
    every: Duration | None = None


def diff_drills(path: str, before: DrillsSpec | None, after: DrillsSpec | None) -> Iterator[Change]:
    """A drill that becomes allowed is a gate that became loose: users get what it breaks."""
    yield from compare(path, [_demand(before), _often(before)], [_demand(after), _often(after)])


def _often(drills: DrillsSpec | None) -> Strictness:
    if drills is None or drills.every is None:
        return Strictness("every", float("-inf"), NONE)
    return Strictness("every", -drills.every.total_seconds(), format_duration(drills.every))


def _demand(drills: DrillsSpec | None) -> Strictness:
    if drills is None:
        return Strictness("", 1, "allowed before the last environment")
    return Strictness("", 0, "allowed") if drills.allowed else Strictness("", 2, "forbidden")
