"""Prediction logs of two releases as model servers leave them, written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.shadow.comparison import ShadowComparison
from airflow_provider_mlpipex.serving.prediction_log.comparison import compare, log_folder
from airflow_provider_mlpipex.serving.prediction_log.outputs import describe_all
from airflow_provider_mlpipex.serving.prediction_log.reader import STATS_FILE
from airflow_provider_mlpipex.testing.paired_answers import Answer, compare_answers
from tests.support.factories import make_release

FRAUD = EndpointRef.parse("production/fraud-scorer")
OLD, NEW = make_release("1.0.0").id, make_release("1.1.0").id


class Logs:
    """Logs of a current release, :data:`OLD`, and its shadow, :data:`NEW`. Times are seconds before ``now``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = datetime.now(UTC)

    def write(self, release: str, *lines: Mapping[str, Any] | str, segment: str = "00000001.jsonl") -> Path:
        folder = log_folder(self.root, FRAUD, release)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / segment
        with path.open("a") as stream:
            stream.writelines((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        return path

    def answer(self, rid: str, output: Any = 0.5, *, ago: float = 10.0, row: int = 0, **changes: Any) -> dict[str, Any]:
        """A record as the model server logs it. ``inputs`` may be given as a mapping."""
        (told,) = describe_all([output])
        record: dict[str, Any] = {
            "rid": f"{rid}#{row}" if row else rid,
            "t": self.now.timestamp() - ago,
            "status": 200,
            "ms": 3.0,
            **told,
        }
        if row:
            record["row"] = row
        if isinstance(inputs := changes.pop("inputs", None), Mapping):
            changes |= {"columns": list(inputs), "inputs": list(inputs.values())}
        return record | changes

    def error(self, rid: str, *, ago: float = 10.0, status: int = 500) -> dict[str, Any]:
        return {"rid": rid, "t": self.now.timestamp() - ago, "status": status, "ms": 1.0}

    def both(self, *pairs: tuple[str, Any, Any], **changes: Any) -> None:
        """(request id, current output, shadow output) of requests that both have answered."""
        self.write(OLD, *(self.answer(rid, current, **changes) for rid, current, _ in pairs))
        self.write(NEW, *(self.answer(rid, shadow, **changes) for rid, _, shadow in pairs))

    def lost(self, count: int, ago: float = 10.0) -> dict[str, Any]:
        return {"t": self.now.timestamp() - ago, "dropped": count}

    def told(self, release: str, ago: float | None) -> None:
        """When a log last said how much it had lost; ``None``: it was closed in good order."""
        told = {"t": self.now.timestamp() - (ago or 0.0), "written": 1, "dropped": 0, "closed": ago is None}
        (log_folder(self.root, FRAUD, release) / STATS_FILE).write_text(json.dumps(told))

    def compare(self, *, since: float = 60.0, until: float = 0.0, slices: Sequence[str] = ()) -> ShadowComparison:
        return compare(self.root, FRAUD, primary=OLD, shadow=NEW, slices=slices, **self._window(since, until))

    def compare_in_memory(
        self,
        current: Mapping[str, Sequence[Answer]],
        shadow: Mapping[str, Sequence[Answer]],
        *,
        since: float = 60.0,
        until: float = 0.0,
        slices: Sequence[str] = (),
    ) -> ShadowComparison:
        """The same by the fake."""
        window = self._window(since, until)
        return compare_answers(current, shadow, primary=OLD, shadow=NEW, slices=slices, **window)

    def _window(self, since: float, until: float) -> dict[str, datetime]:
        return {"since": self.now - timedelta(seconds=since), "until": self.now - timedelta(seconds=until)}
