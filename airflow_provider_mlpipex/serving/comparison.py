"""Paired comparison of two releases' answers to the same requests, by DuckDB over their prediction logs."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.evidence import ShadowComparison
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release import slug_of
from airflow_provider_mlpipex.serving.prediction_log import read_stats, segments

#: Two numbers closer than this, relative to the larger, count as the same answer of a regression.
TOLERANCE = 1e-6
#: A log that lives says every second how much it lost; after this long (seconds) its silence counts as loss.
SILENT_S = 5.0
_TRIES = 3


def log_folder(root: Path, endpoint: EndpointRef, release_id: str) -> Path:
    """Where the predictions of one release of one endpoint are logged."""
    return root / endpoint.environment / endpoint.name / slug_of(release_id)


def compare(
    root: Path, endpoint: EndpointRef, *, primary: str, shadow: str, since: datetime, until: datetime
) -> ShadowComparison:
    """Join on request id; the first answer to an id counts, later ones with the same id do not.

    Each record holds ``score`` (first output: probability of the last class, or the value itself) and ``label``
    (thresholded, arg max, or the value). Labels that are both numbers agree within :data:`TOLERANCE`.
    """
    import duckdb

    empty = ShadowComparison(primary=primary, shadow=shadow, since=since, until=until)
    folders = [log_folder(root, endpoint, release) for release in (primary, shadow)]
    with duckdb.connect(config={"threads": 1}) as database:
        for name, folder in zip(("a", "b"), folders, strict=True):
            _read_window(database, name, folder, since, until)
        row = database.execute(_PAIRED, [TOLERANCE]).fetchone()
    assert row is not None
    pairs, missing, agreement, scored, difference, squared, kept, lost = row
    silent = any(_is_silent(folder, until) for folder in folders)
    return empty.model_copy(
        update={
            "pairs": int(pairs),
            "missing": int(missing),
            "agreement": agreement,
            "scored": int(scored),
            "mean_absolute_difference": difference,
            "mean_squared_difference": squared,
            # A log that does not even say how much it lost may have lost everything.
            "dropped_share": 1.0 if silent else float(lost / (kept + lost)) if lost else 0.0,
        }
    )


def _read_window(database: Any, name: str, folder: Path, since: datetime, until: datetime) -> None:
    """Table ``name_log``: the records and loss markers of one release in the window."""
    import duckdb

    window = [since.timestamp(), until.timestamp()]
    database.execute(
        f"CREATE TABLE {name}_log (t DOUBLE, rid VARCHAR, status INTEGER, score DOUBLE, label VARCHAR, dropped BIGINT)"
    )
    for tries_left in reversed(range(_TRIES)):
        try:
            # Nothing is written to a closed segment: one that ends before the window has nothing in it.
            paths = [str(path) for path in segments(folder) if path.stat().st_mtime >= window[0]]
            if paths:
                database.execute(
                    f"INSERT INTO {name}_log SELECT t, rid, status, score, label, dropped "
                    "FROM read_json(?, format='newline_delimited', ignore_errors=true, columns={t: 'DOUBLE', "
                    "rid: 'VARCHAR', status: 'INTEGER', score: 'DOUBLE', label: 'VARCHAR', dropped: 'BIGINT'}) "
                    "WHERE t BETWEEN ? AND ?",
                    [paths, *window],
                )
            return
        except (duckdb.IOException, FileNotFoundError):
            # A segment was closed, which renames it, or pruned since it was listed.
            if not tries_left:
                raise


def _is_silent(folder: Path, until: datetime) -> bool:
    told_at = read_stats(folder).told_at
    return told_at is not None and min(until.timestamp(), time.time()) - told_at > SILENT_S


_FIRST = (
    "SELECT rid, first(score ORDER BY t) AS score, first(label ORDER BY t) AS label "
    "FROM {name}_log WHERE status = 200 AND rid <> '' GROUP BY rid"
)
_PAIRED = f"""
    WITH a AS ({_FIRST.format(name="a")}), b AS ({_FIRST.format(name="b")}),
    every_record AS (SELECT * FROM a_log UNION ALL SELECT * FROM b_log)
    SELECT
        count(*) FILTER (a.rid IS NOT NULL AND b.rid IS NOT NULL),
        count(*) FILTER (a.rid IS NULL AND b.rid IS NOT NULL),
        avg(CASE WHEN a.label = b.label OR abs(try_cast(a.label AS DOUBLE) - try_cast(b.label AS DOUBLE))
            <= ? * greatest(abs(a.score), abs(b.score), 1e-12) THEN 1.0 ELSE 0.0 END)
            FILTER (a.rid IS NOT NULL AND b.rid IS NOT NULL),
        count(a.score - b.score),
        avg(abs(a.score - b.score)),
        avg(pow(a.score - b.score, 2)),
        (SELECT count(*) FROM every_record WHERE rid IS NOT NULL),
        (SELECT coalesce(sum(dropped), 0) FROM every_record)
    FROM a FULL OUTER JOIN b ON a.rid = b.rid
"""
