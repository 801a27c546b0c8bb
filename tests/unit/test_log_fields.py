"""No line that the provider logs may carry a field that Airflow's log page or supervisor reads as its own."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_mlpipex
from airflow_provider_mlpipex.domain import errors
from airflow_provider_mlpipex.log_fields import OF_OTHERS, ReadableLog, on_lines

PACKAGE = Path(airflow_provider_mlpipex.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log", "msg"}


class Kept:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **facts: Any) -> None:
        self.lines.append((event, facts))

    warning = error = info


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call of a log method in the package, and where it stands."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                receiver = ast.unparse(node.func.value).lower()
                if receiver.endswith(("log", "logger", "lines")) or "getlogger" in receiver:
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node


def test_no_call_names_a_field_of_others() -> None:
    calls = list(log_calls())
    assert len(calls) > 10, "the log calls of the package are not found any more"
    broken = {where: named for where, call in calls if (named := OF_OTHERS & {str(k.arg) for k in call.keywords})}
    assert broken == {}


def test_what_a_call_unpacks_goes_through_the_readable_log() -> None:
    """``**facts`` may hold any name, so only a log that looks at names may be given some."""
    unpacking = {where.partition(":")[0] for where, call in log_calls() if any(k.arg is None for k in call.keywords)}
    triggers = {f"triggers/{name}.py" for name in ("rollout", "drift", "standing_watch")}
    assert unpacking <= {"observability.py", "log_fields.py", *triggers}


def test_no_error_tells_of_itself_under_a_field_of_others() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.MlpipexError)]
    assert len(classes) > 20
    assert not {field for each in classes for field in each("a thing").as_dict()} & OF_OTHERS


@pytest.mark.parametrize("level", ["info", "warning", "error"])
@pytest.mark.parametrize("name", sorted(OF_OTHERS))
def test_a_fact_under_such_a_name_is_written_under_another(level: str, name: str) -> None:
    kept = Kept()
    getattr(ReadableLog(kept), level)("stage ended", **{name: "text", "release": "1.0.0"})
    assert kept.lines == [("stage ended", {f"{name}_": "text", "release": "1.0.0"})]


def test_an_error_is_told_in_lines_that_a_page_shows_to_their_end() -> None:
    long = "; ".join(
        f"gate-{number} fail: observed 1% from 12000 samples, threshold at least 80%" for number in range(9)
    )
    error = errors.GateFailed(
        "release 1.1.0 to production/fraud", value=long, limit="every gate passes", remedy="mend it"
    )
    told = on_lines(error).splitlines()
    assert max(map(len, told)) <= 100
    assert told[:2] == ["", "  GateFailed: release 1.1.0 to production/fraud"]
    assert told[-3:] == ["  limit: every gate passes", "  do: mend it", "  runbook: gate-failed"]
    assert long in " ".join(line.strip() for line in told)


def test_flags_and_gaps_are_written_as_the_page_can_show_them() -> None:
    kept = Kept()
    ReadableLog(kept).info("stage ended", needs_person=False, approved=True, column=None, rows=0)
    assert kept.lines == [("stage ended", {"needs_person": "false", "approved": "true", "column": "", "rows": 0})]
