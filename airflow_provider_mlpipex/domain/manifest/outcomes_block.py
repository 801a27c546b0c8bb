"""The ``outcomes`` block of an environment: how good a release must prove to be once labels come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from airflow_provider_mlpipex.domain.changes import Change
from airflow_provider_mlpipex.domain.fields.quantities import Duration, format_duration
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.manifest.gate_lists import gate_of
from airflow_provider_mlpipex.domain.manifest.gates_diff import NONE, diff_gates, loosened, tightened
from airflow_provider_mlpipex.domain.values import Value

OutcomeGates = tuple[Annotated[Gate, gate_of("outcomes")], ...]


class OutcomesSpec(Value):
    """Gates that are judged again whenever labels come; one that fails reopens the promotion.

    :param window: of what was *served*, back from the newest labelled row: labels come weeks late.
    :param gates: a relative one compares with the metrics that the release was registered with.
    """

    window: Duration
    gates: OutcomeGates = Field(min_length=1)


def diff_outcomes(what: str, before: OutcomesSpec | None, after: OutcomesSpec | None) -> Iterator[Change]:
    """Changes of what reopens a promotion."""
    if before is None or after is None:
        if before is not after:
            change = tightened if before is None else loosened
            yield change(what, NONE if before is None else "declared", NONE if after is None else "declared")
        return
    if before.window != after.window:
        # A longer one thins out what is new, a shorter one has fewer labels: neither is only stricter.
        yield loosened(f"{what} window", format_duration(before.window), format_duration(after.window))
    yield from diff_gates(f"{what}.gates", before.gates, after.gates)
