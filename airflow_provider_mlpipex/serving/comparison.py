"""Paired comparison of two releases' answers to the same requests, by DuckDB over their prediction logs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from airflow_provider_mlpipex.domain.evidence import ShadowComparison
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release import slug_of
from airflow_provider_mlpipex.serving.prediction_log import read_stats, segments

#: Two numbers closer than this, relative to the larger, count as the same answer of a regression.
TOLERANCE = 1e-6


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
    folders = {release: log_folder(root, endpoint, release) for release in (primary, shadow)}
    stats = [read_stats(folder) for folder in folders.values()]
    total = sum(s["written"] + s["dropped"] for s in stats)
    dropped_share = sum(s["dropped"] for s in stats) / total if total else 0.0
    empty = ShadowComparison(primary=primary, shadow=shadow, since=since, until=until, dropped_share=dropped_share)
    paths = {release: [str(path) for path in segments(folder)] for release, folder in folders.items()}
    if not all(paths.values()):
        return empty
    import duckdb

    window = [since.timestamp(), until.timestamp()]
    with duckdb.connect(config={"threads": 1}) as database:
        for name, release in (("a", primary), ("b", shadow)):
            database.execute(
                f"CREATE TABLE {name} AS "
                "SELECT rid, first(score ORDER BY t) AS score, first(label ORDER BY t) AS label "
                "FROM read_json(?, format='newline_delimited', ignore_errors=true, columns="
                "{t: 'DOUBLE', rid: 'VARCHAR', status: 'INTEGER', score: 'DOUBLE', label: 'VARCHAR'}) "
                "WHERE status = 200 AND t BETWEEN ? AND ? GROUP BY rid",
                [paths[release], *window],
            )
        row = database.execute(
            "SELECT count(*) FILTER (a.rid IS NOT NULL AND b.rid IS NOT NULL), "
            "count(*) FILTER (a.rid IS NULL), "
            "avg(CASE WHEN a.label = b.label OR abs(try_cast(a.label AS DOUBLE) - try_cast(b.label AS DOUBLE)) "
            "<= ? * greatest(abs(a.score), abs(b.score), 1e-12) THEN 1.0 ELSE 0.0 END) "
            "FILTER (a.rid IS NOT NULL AND b.rid IS NOT NULL), "
            "avg(abs(a.score - b.score)) FROM a FULL OUTER JOIN b ON a.rid = b.rid",
            [TOLERANCE],
        ).fetchone()
    assert row is not None
    pairs, missing, agreement, difference = row
    return empty.model_copy(
        update={
            "pairs": int(pairs),
            "missing": int(missing),
            "agreement": agreement,
            "mean_absolute_difference": difference,
        }
    )
