"""Paired comparison of two releases' answers to the same requests, by DuckDB over their prediction logs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.errors import PlaneUnavailable
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import slug_of
from airflow_provider_mlpipex.domain.shadow.comparison import (
    ABSOLUTE_EDGES,
    LATENCY_EDGES,
    Differences,
    Log,
    OutputDifference,
    ShadowComparison,
    histogram,
)
from airflow_provider_mlpipex.domain.shadow.score_distributions import ScoreDistributions, compare_scores
from airflow_provider_mlpipex.domain.shadow.slices import Slice, SlicedColumn
from airflow_provider_mlpipex.serving.prediction_log import comparison_sql as sql
from airflow_provider_mlpipex.serving.prediction_log.database import MEMORY, database
from airflow_provider_mlpipex.serving.prediction_log.outputs import MAX_OUTPUTS
from airflow_provider_mlpipex.serving.prediction_log.reader import is_silent, read_segments, records

#: How far (seconds) the clocks of two model servers may lie apart before their records no longer find each other.
SLACK_S = 60.0
#: A shadow's answer is not missing its other half before the current release has had this long (seconds) to log it.
SETTLE_S = 3.0
#: Scores that distributions are compared of; of more pairs an even part is taken.
MAX_SCORES = 1_000_000
#: Records among which one is looked for that names its outputs.
_NAMING = 1000


def log_folder(root: Path, endpoint: EndpointRef, release_id: str) -> Path:
    """Where the predictions of one release of one endpoint are logged."""
    return root / endpoint.environment / endpoint.name / slug_of(release_id)


def compare(
    root: Path,
    endpoint: EndpointRef,
    *,
    primary: str,
    shadow: str,
    since: datetime,
    until: datetime,
    slices: Sequence[str] = (),
) -> ShadowComparison:
    """Join both logs on request id; the first answer to an id counts, later ones with the same id do not.

    :param slices: model inputs that pairs are grouped by.
    :raises PlaneUnavailable: the logs cannot be read, or the disk has no room for what does not fit into memory.
    """
    import duckdb

    folders = {
        name: log_folder(root, endpoint, release) for name, release in (("current", primary), ("shadow", shadow))
    }
    empty = ShadowComparison(primary=primary, shadow=shadow, since=since, until=until)
    try:
        with database(root, memory=MEMORY) as opened:
            counts = _Joined(opened, folders, since.timestamp(), until.timestamp(), tuple(slices)).counts()
    except (duckdb.Error, OSError) as error:
        raise PlaneUnavailable(
            f"prediction logs of {endpoint}",
            value=f"{type(error).__name__}: {error}"[:300],
            limit="both logs read and joined",
            remedy=f"see that {root} can be read and that its disk has room; the next look tries again",
        ) from error
    if any(is_silent(folder, until) for folder in folders.values()):
        # A log that does not even say how much it lost may have lost everything.
        counts["dropped_share"] = 1.0
    return empty.model_copy(update=counts)


@dataclass
class _Joined:
    """Both logs of one window in one database, counted step by step.

    :param folders: of the logs, ``current`` and ``shadow``.
    :param since: with ``until`` the window, in seconds since 1970.
    """

    database: Any
    folders: dict[str, Path]
    since: float
    until: float
    slices: tuple[str, ...]
    _logs: dict[str, dict[str, int]] = field(default_factory=dict)
    _kept: int = 0
    _lost: int = 0

    def counts(self) -> dict[str, Any]:
        """Everything that a comparison holds, but whose it is."""
        for name in self.folders:
            self._read(name)
        window = (self.since, self.until)
        self.database.execute(sql.join(self.slices), [*window, self.since, self.until - SETTLE_S])
        for name, log in self._logs.items():
            log["answers"], log["requests"] = sql.fetch(self.database, sql.COUNT_ANSWERS.format(name=name), window)
            self.database.execute(f"DROP TABLE {name}")
        *counted, self._logs["current"]["not_finite"], self._logs["shadow"]["not_finite"] = sql.fetch(
            self.database, sql.COUNT_PAIRED
        )
        self.database.execute(sql.MAKE_FIRSTS)
        inputs, flipped_inputs = sql.fetch(self.database, sql.COUNT_FIRSTS)
        repeat = inputs < counted[0]
        names = ("pairs", "missing", "failed_current", "failed_shadow", "failed_both", "flips", "probabilities")
        return {
            **dict(zip(names, counted, strict=True)),
            "inputs": inputs,
            "flipped_inputs": flipped_inputs,
            "difference": self._differences("difference", "abs(difference)", ABSOLUTE_EDGES),
            "first_difference": self._differences("difference", "abs(difference)", ABSOLUTE_EDGES, firsts=True)
            if repeat
            else None,
            "latency": self._differences("latency", "latency", LATENCY_EDGES),
            "outputs": self._outputs(),
            "scores": self._scores(sql.SCORES, pairs=counted[0]),
            "first_scores": self._scores(sql.SCORES_OF_FIRSTS, pairs=inputs) if repeat else None,
            "slices": tuple(self._sliced(number, column) for number, column in enumerate(self.slices)),
            "current_log": Log(**self._logs["current"]),
            "shadow_log": Log(**self._logs["shadow"]),
            "dropped_share": self._lost / (self._kept + self._lost) if self._lost else 0.0,
        }

    def _read(self, name: str) -> None:
        """Table ``name``: the first record of each id, as far as the slack around the window reaches."""
        # Both were asked the same: what they were asked is read once.
        slices = self.slices if name == "current" else ()
        first, last = self.since - SLACK_S, self.until + SLACK_S
        self._load(name, slices, first, last)
        torn, unnamed, kept, lost, repeated = sql.fetch(
            self.database, sql.COUNT_LOG.format(name=name), (self.since, self.until) * 2
        )
        self._logs[name] = {"torn": torn, "unnamed": unnamed, "repeated": repeated}
        self._kept, self._lost = self._kept + kept, self._lost + int(lost)
        self.database.execute(sql.DROP_UNNAMED.format(name=name))
        if repeated:
            self.database.execute(sql.FIRST_OF_ID.format(name=name))

    def _load(self, name: str, slices: Sequence[str], first: float, last: float) -> None:
        import duckdb

        def read(paths: list[Path]) -> None:
            self.database.execute(sql.make_log(name, slices))
            if paths:
                self.database.execute(
                    sql.read_log(name, slices, inputs=name == "current"), [*slices, [*map(str, paths)], first, last]
                )

        read_segments([self.folders[name]], read, gone=duckdb.IOException, since=first)

    def _differences(self, column: str, counted: str, edges: tuple[float, ...], *, firsts: bool = False) -> Differences:
        count, total, absolute, squares, quantiles, buckets = sql.fetch(
            self.database, sql.differences(column, counted, firsts=firsts), [list(edges)]
        )
        if not count:
            return Differences()
        return Differences(
            count=count,
            total=total,
            absolute=absolute,
            squares=squares,
            quantiles=tuple(quantiles),
            histogram=histogram(edges, buckets.items()),
        )

    def _outputs(self) -> tuple[OutputDifference, ...]:
        (most,) = sql.fetch(self.database, sql.MAX_OUTPUTS)
        if not most:
            return ()
        rows = self.database.execute(sql.COUNT_OUTPUTS, [min(most, MAX_OUTPUTS)]).fetchall()
        names = self._output_names()
        return tuple(
            OutputDifference(
                output=names[place - 1] if place <= len(names) else str(place - 1),
                count=count,
                mean_absolute=apart / count,
            )
            for place, count, apart in rows
        )

    def _output_names(self) -> list[str]:
        """As the current release names its outputs, in the order that they are logged in; empty for a list of them."""
        for record in islice(records(self.folders["current"]), _NAMING):
            if record.get("outputs"):
                labels = json.loads(record["label"])
                return list(labels) if isinstance(labels, dict) else []
        return []

    def _scores(self, query: str, *, pairs: int) -> ScoreDistributions | None:
        if not pairs:
            return None
        taken = self.database.execute(query, [-(-pairs // MAX_SCORES)]).fetchnumpy()
        return compare_scores(taken["current"], taken["shadow"])

    def _sliced(self, number: int, column: str) -> SlicedColumn:
        self.database.execute(sql.group_by_slice(number))
        values, large_enough, pairs = sql.fetch(self.database, sql.COUNT_SLICES)
        names = ("value", "pairs", "flips", "count", "total", "squares", "inputs", "flipped_inputs")
        slices = [
            Slice.model_validate(dict(zip(names, row, strict=True)))
            for row in self.database.execute(sql.TOP_SLICES_QUERY).fetchall()
        ]
        return SlicedColumn(
            column=column,
            slices=tuple(slices),
            large_enough=large_enough,
            values=values,
            others=int(pairs) - sum(part.pairs for part in slices),
        )
