"""Whether features as served are the features that training would have seen at the same moment: row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from airflow_provider_mlpipex.domain.features.service import ServedRow
from airflow_provider_mlpipex.domain.values import Value

#: Unequal rows that a report names for each feature.
SHOWN = 3


class FeatureInequality(Value):
    """One feature that was served otherwise than it is recomputed; ``examples`` name a few of the rows."""

    feature: str
    unequal: int
    examples: tuple[str, ...] = ()


class ParityReport(Value):
    """A sample of served rows beside their recomputation.

    :param equal: rows that are equal in every feature.
    :param dropped: rows that the offline path cannot answer as of that moment; they are not equal.
    :param dropped_examples: a few of them. :param features: most unequal first.
    """

    service: str
    rows: int = Field(ge=0)
    equal: int = Field(ge=0)
    dropped: int = Field(default=0, ge=0)
    dropped_examples: tuple[str, ...] = ()
    features: tuple[FeatureInequality, ...] = ()

    @property
    def equality(self) -> float | None:
        """Share of rows that are equal in every feature; ``None`` without a row."""
        return self.equal / self.rows if self.rows else None

    def explain(self) -> str:
        """What is unequal, by feature and row; empty where nothing is."""
        parts = [
            f"{skew.feature} differs in {skew.unequal} of {self.rows} rows ({'; '.join(skew.examples)})"
            for skew in self.features[:SHOWN]
        ]
        if len(self.features) > SHOWN:
            parts.append(f"and {', '.join(skew.feature for skew in self.features[SHOWN:])}")
        if self.dropped:
            parts.append(
                f"{self.dropped} rows have no value offline by the moment they were served "
                f"({'; '.join(self.dropped_examples)}): a backfill that came later, or clocks that differ"
            )
        return ", ".join(parts)


def compare(
    service: str,
    served: Sequence[ServedRow],
    offline: Sequence[Mapping[str, Any] | None],
    *,
    features: Sequence[str],
    tolerance: float,
) -> ParityReport:
    """Hold ``served`` rows against ``offline`` ones, position by position.

    :param offline: feature -> value (``None`` where missing); ``None`` for a row that the offline path dropped.
    :param tolerance: two numbers closer than this, relative to the larger, are equal.
    """
    unequal: dict[str, list[str]] = {}
    counts = dict.fromkeys(features, 0)
    equal, dropped = 0, []
    for row, expected in zip(served, offline, strict=True):
        if expected is None:
            dropped.append(_named(row))
            continue
        apart = [name for name in features if not same(row.values.get(name), expected.get(name), tolerance)]
        equal += not apart
        for name in apart:
            counts[name] += 1
            if counts[name] <= SHOWN:
                example = f"{_named(row)}: served {row.values.get(name)!r}, offline {expected.get(name)!r}"
                unequal.setdefault(name, []).append(example)
    ranked = sorted(unequal, key=lambda name: -counts[name])
    return ParityReport(
        service=service,
        rows=len(served),
        equal=equal,
        dropped=len(dropped),
        dropped_examples=tuple(dropped[:SHOWN]),
        features=tuple(
            FeatureInequality(feature=name, unequal=counts[name], examples=tuple(unequal[name])) for name in ranked
        ),
    )


def same(served: Any, offline: Any, tolerance: float) -> bool:
    """Whether two values of one feature are the same: missing equals missing, and nothing else.

    ``tolerance`` is for what was computed. Integers are counts or names, so they are equal or not, in every digit.
    """
    if served is None or offline is None:
        return served is offline
    if isinstance(served, list) and isinstance(offline, list):
        return len(served) == len(offline) and all(
            same(left, right, tolerance) for left, right in zip(served, offline, strict=True)
        )
    if isinstance(served, int) and isinstance(offline, int):
        return served == offline
    if isinstance(served, (int, float)) and isinstance(offline, (int, float)):
        return served == offline or math.isclose(served, offline, rel_tol=tolerance, abs_tol=0.0)
    return bool(served == offline)


def _named(row: ServedRow) -> str:
    keys = ", ".join(f"{name}={value}" for name, value in row.keys.items())
    request = f", request {row.request_id}" if row.request_id else ""
    return f"{keys} as of {row.as_of:%Y-%m-%dT%H:%M:%S%z}{request}"
