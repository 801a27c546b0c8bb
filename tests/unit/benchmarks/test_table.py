"""A bar that is not held is said, and fails the run."""

from __future__ import annotations

import sys
import types

import pytest

import benchmarks.__main__ as benchmarks_main
from benchmarks.table import Bar, Table


@pytest.mark.parametrize(
    ("bar", "within"),
    [
        (Bar("age", 1.2, 1.2), True),
        (Bar("age", 1.21, 1.2), False),
        (Bar("caught", 0.95, 0.95, at_least=True), True),
        (Bar("caught", 0.94, 0.95, at_least=True), False),
        (Bar("never measured", float("nan"), 1.0), False),
        (Bar("never measured", float("nan"), 1.0, at_least=True), False),
    ],
)
def test_a_bar_says_within_or_beyond(bar: Bar, within: bool) -> None:
    assert bar.within is within
    assert bar.render().endswith("within" if within else "BEYOND")


@pytest.mark.parametrize(("value", "code"), [(1.0, 0), (2.0, 1)])
def test_a_run_with_a_bar_beyond_exits_1(
    value: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = types.ModuleType("benchmarks.rollback", "One line.")
    measured.run = lambda *, quick: Table(("what",), bars=[Bar("the wait", value, 1.5, unit=" s")])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "benchmarks.rollback", measured)
    assert benchmarks_main.main(["rollback"]) == code
    said = capsys.readouterr()
    assert f"the wait: {value:.4g} s (bar: at most 1.5 s)" in said.out
    assert ("the wait" in said.err) is bool(code)
