"""The outcome of judging a table."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.values import Value


class BrokenExpectation(Value):
    """One expectation that did not hold. ``sample`` holds a few offending values, never whole rows."""

    expectation: str
    column: str | None
    expected: str
    observed: str
    sample: tuple[str, ...] = ()


class QualityReport(Value):
    """``subject`` is the table judged. No expectation judged is not a success: ``passed`` is false then."""

    subject: str
    rows: int
    judged: int
    broken: tuple[BrokenExpectation, ...] = ()

    @property
    def passed(self) -> bool:
        return self.judged > 0 and not self.broken
