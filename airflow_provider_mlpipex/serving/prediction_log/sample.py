"""Predictions as they were served: an even sample of a release's log, read by DuckDB."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.predictions import Prediction, PredictionSample
from airflow_provider_mlpipex.serving.prediction_log.database import database
from airflow_provider_mlpipex.serving.prediction_log.reader import is_silent, read_segments
from airflow_provider_mlpipex.serving.prediction_log.record import LABEL, OUTPUT, records_in_sql

#: Parameters: paths, window, batch or NULL for all. Records, answered ones of the batch, and those lost to full queues.
_COUNTS = (
    "SELECT count(rid), count(rid) FILTER (status = 200 AND ($4 IS NULL OR coalesce(batch, '') = $4)), "
    f"coalesce(sum(dropped), 0) FROM {records_in_sql('t', 'rid', 'status', 'batch', 'dropped', paths='$1')} "
    "WHERE t BETWEEN $2 AND $3"
)
_ROWS = ("t", "rid", "status", "batch", "columns", "inputs", "output", "score", "label", "keys", "looked_up_at")
#: By a hash of the id, so that no minute and no client is preferred, and a second look takes the same rows. The log is
#: read through and only what is taken is kept: as a table, a full log cost 645 MB for one row of it.
_SAMPLE = (
    f"SELECT rid, t, batch, columns, inputs, {OUTPUT}, score, {LABEL}, keys, looked_up_at "
    f"FROM {records_in_sql(*_ROWS, paths='$1')} WHERE t BETWEEN $2 AND $3 "
    "AND status = 200 AND rid IS NOT NULL AND ($4 IS NULL OR coalesce(batch, '') = $4) "
    "ORDER BY hash(rid), t LIMIT $5"
)


def sample(
    folder: Path, *, release: str, since: datetime, until: datetime, limit: int, batch: str | None = None
) -> PredictionSample:
    """At most ``limit`` rows that ``release`` answered in the window.

    :param batch: of this batch only, if given. What was lost may have been of any batch.
    :param folder: its prediction log; none that exists, where it was never asked.
    """
    import duckdb

    drawn = PredictionSample(release=release, since=since, until=until)
    window = [since.timestamp(), until.timestamp()]
    silent = 1.0 if is_silent(folder, until) else 0.0
    with database(folder.parents[2]) as opened:

        def read(paths: list[Path]) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]] | None:
            if not paths:
                return None
            asked = [[str(path) for path in paths], *window, batch]
            counted = opened.execute(_COUNTS, asked).fetchone()
            assert counted is not None
            return counted, opened.execute(_SAMPLE, [*asked, limit]).fetchall()

        answer = read_segments([folder], read, gone=duckdb.IOException, since=window[0])
    if answer is None:
        return drawn.model_copy(update={"dropped_share": silent})
    (kept, total, lost), rows = answer
    dropped_share = silent or (float(lost / (kept + lost)) if lost else 0.0)
    return drawn.model_copy(
        update={"rows": tuple(_predictions(rows)), "total": int(total), "dropped_share": dropped_share}
    )


def _predictions(rows: list[tuple[Any, ...]]) -> Iterator[Prediction]:
    for rid, t, batch, columns, inputs, output, score, label, keys, looked_up_at in rows:
        names, values = _json(columns), _json(inputs)
        named = isinstance(names, list) and isinstance(values, list) and len(names) == len(values)
        yield Prediction(
            request_id=rid,
            at=datetime.fromtimestamp(t, tz=UTC),
            batch=batch or "",
            inputs={str(name): value for name, value in zip(names, values, strict=True)} if named else {},
            keys=_json(keys) or {},
            looked_up_at=None if looked_up_at is None else datetime.fromtimestamp(looked_up_at, tz=UTC),
            output=_json(output),
            score=score if score is not None and math.isfinite(score) else None,
            label=label or "",
        )


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
