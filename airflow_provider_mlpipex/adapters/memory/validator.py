"""A judge of tables that finds what it is told to find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.expectations import Expectation
from airflow_provider_mlpipex.domain.quality import BrokenExpectation, QualityReport

if TYPE_CHECKING:
    import pandas as pd


class MemoryValidator:
    """Looks at no value.

    ``broken``: what every table is found to break; empty: nothing. ``judged``: the tables' subjects, in order.
    """

    def __init__(self) -> None:
        self.broken: tuple[BrokenExpectation, ...] = ()
        self.judged: list[str] = []

    def validate(self, frame: pd.DataFrame, expectations: Sequence[Expectation], *, subject: str) -> QualityReport:
        self.judged.append(subject)
        return QualityReport(subject=subject, rows=len(frame), judged=len(expectations), broken=self.broken)
