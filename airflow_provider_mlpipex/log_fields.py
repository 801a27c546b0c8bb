"""Fields of log lines that belong to others, and a log that never writes them."""

from __future__ import annotations

from textwrap import fill
from typing import Any, Protocol

from airflow_provider_mlpipex.domain.errors import MlpipexError

#: Characters of a line that a log page shows beside its time and level.
PAGE_WIDTH = 100

#: What Airflow, its task supervisor, its log page or structlog read as their own in a line of a task's log. The page
#: maps over ``error_detail``, which is what ``exception`` is renamed to, so that text there blanks the whole page; a
#: field named like a parameter of the supervisor's own call (``target``, ``msg``) ends the supervisor.
OF_OTHERS = frozenset(
    {
        "args",
        "chan",
        "dag_id",
        "error_detail",
        "event",
        "exc_info",
        "exception",
        "filename",
        "level",
        "lineno",
        "loc",
        "logger",
        "map_index",
        "msg",
        "positional_args",
        "run_id",
        "self",
        "stack",
        "stack_info",
        "target",
        "task_id",
        "ti_id",
        "timestamp",
        "try_number",
    }
)


class Log(Protocol):
    """A structured logger: event name first, facts as fields (``self.log`` of an Airflow task is one)."""

    def info(self, event: str, **facts: Any) -> Any: ...
    def warning(self, event: str, **facts: Any) -> Any: ...
    def error(self, event: str, **facts: Any) -> Any: ...


class NoLog:
    """For a terminal, whose own lines say the same."""

    def info(self, event: str, **facts: Any) -> None: ...
    def warning(self, event: str, **facts: Any) -> None: ...
    def error(self, event: str, **facts: Any) -> None: ...


class ReadableLog:
    """A log whose lines Airflow's pages can show, whatever facts they are given.

    A fact named like a field of others gets an underscore behind its name. Flags are written as words and what is not
    known as nothing, because the log page shows neither ``False`` nor ``None``.
    """

    def __init__(self, log: Log) -> None:
        self._log = log

    def info(self, event: str, /, **facts: Any) -> None:
        self._log.info(event, **readable(facts))

    def warning(self, event: str, /, **facts: Any) -> None:
        self._log.warning(event, **readable(facts))

    def error(self, event: str, /, **facts: Any) -> None:
        self._log.error(event, **readable(facts))


def on_lines(error: MlpipexError) -> str:
    """The sentence of ``error`` in lines that a page shows to their end: the thing, then value, limit, remedy, page."""
    fields = error.as_dict()
    named = [f"{name}: {fields[key]}" for name, key in _ON_LINES.items() if fields[key]]
    parts = [f"{fields['error']}: {fields['thing']}", *named]
    return "".join(f"\n{fill(part, PAGE_WIDTH, initial_indent='  ', subsequent_indent='    ')}" for part in parts)


_ON_LINES = {"value": "value", "limit": "limit", "do": "remedy", "runbook": "runbook"}


def readable(facts: dict[str, Any]) -> dict[str, Any]:
    """``facts`` under names, and with values, that a log page can show."""
    return {f"{name}_" if name in OF_OTHERS else name: _shown(value) for name, value in facts.items()}


def _shown(value: Any) -> Any:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value
