"""Which release answered which client: requests found again in the prediction logs by their ids, by DuckDB."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from airflow_provider_mlpipex.domain.errors import PlaneUnavailable
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import ServedAnswer, ServedAnswers
from airflow_provider_mlpipex.serving.prediction_log.database import database
from airflow_provider_mlpipex.serving.prediction_log.reader import read_segments, records
from airflow_provider_mlpipex.serving.prediction_log.record import LABEL, records_in_sql
from airflow_provider_mlpipex.serving.timeouts import REQUEST_TIMEOUT_S

_RECORDS = records_in_sql("t", "rid", "release", "status", "ms", "shadow", "kind", "score", "label", "output")
#: Parameters: the paths, the ids. One row an answer that was meant for a client.
_FIND = f"""
    SELECT rid, release, t, t - coalesce(ms, 0) / 1000 AS begun, coalesce(kind, ''),
        CASE WHEN isfinite(score) THEN score END, coalesce({LABEL}, ''), CASE WHEN kind = 'probability' THEN output END
    FROM {_RECORDS}
    WHERE status = 200 AND NOT coalesce(shadow, false) AND release IS NOT NULL AND t IS NOT NULL
        AND rid IN (SELECT unnest(?::VARCHAR[]))"""


class LoggedAnswer(NamedTuple):
    """One record; ``begun`` is when the model server was asked. Both times in seconds since 1970."""

    rid: str
    release: str
    t: float
    begun: float
    kind: str
    score: float | None
    label: str
    output: str | None

    @property
    def said(self) -> tuple[float | None, str]:
        return self.score, self.label


def find(root: Path, endpoint: EndpointRef, request_ids: Sequence[str]) -> ServedAnswers:
    """The answers that clients got to ``request_ids``, in their order.

    :param root: folder of all prediction logs; those of releases that no longer run count as long as they are kept.
    :raises PlaneUnavailable: the logs cannot be read.
    """
    import duckdb

    folders = sorted(path for path in (root / endpoint.environment / endpoint.name).glob("*") if path.is_dir())
    try:
        answers = _find(root, folders, request_ids)
        log_since = dict(oldest for folder in folders if (oldest := _oldest(folder)))
    except (duckdb.Error, OSError) as error:
        raise PlaneUnavailable(
            f"prediction logs of {endpoint}",
            value=f"{type(error).__name__}: {error}"[:300],
            limit="logs that can be read",
            remedy=f"see that {root} can be read; nothing was ingested, so run it again",
        ) from error
    return served_answers(request_ids, answers, log_since)


def served_answers(
    request_ids: Sequence[str], answers: Iterable[LoggedAnswer], log_since: Mapping[str, datetime]
) -> ServedAnswers:
    """Of ``answers``, none of them to a mirrored copy, those that clients got to ``request_ids``, in their order."""
    by_id: dict[str, list[LoggedAnswer]] = defaultdict(list)
    for answer in answers:
        by_id[answer.rid].append(answer)
    asked = [rid for rid in dict.fromkeys(request_ids) if rid in by_id]
    ambiguous = tuple(rid for rid in asked if _is_ambiguous(by_id[rid]))
    doubtful = set(ambiguous)
    # Envoy asks the next release only when it has given up the one before: the client got what was begun last.
    served = [max(by_id[rid], key=lambda logged: (logged.begun, logged.t)) for rid in asked if rid not in doubtful]
    return ServedAnswers(rows=tuple(map(_served, served)), ambiguous=ambiguous, log_since=dict(log_since))


def _find(root: Path, folders: Sequence[Path], request_ids: Sequence[str]) -> list[LoggedAnswer]:
    import duckdb

    with database(root) as opened:

        def read(paths: list[Path]) -> list[LoggedAnswer]:
            asked = [[str(path) for path in paths], list(request_ids)]
            return [LoggedAnswer(*row) for row in opened.execute(_FIND, asked).fetchall()] if paths else []

        return read_segments(folders, read, gone=duckdb.IOException)


def _is_ambiguous(answers: Sequence[LoggedAnswer]) -> bool:
    """Whether these are of several requests, for all that one can see: a client has used an id again.

    Within one request, one release gives one answer, and several of them are asked before its time is up.
    """
    if len(answers) == 1:
        return False
    by_release: dict[str, set[Any]] = defaultdict(set)
    for answer in answers:
        by_release[answer.release].add(answer.said)
    if any(len(said) > 1 for said in by_release.values()):
        return True
    begun = [answer.begun for answer in answers]
    return len(by_release) > 1 and max(begun) - min(begun) > REQUEST_TIMEOUT_S


def _served(answer: LoggedAnswer) -> ServedAnswer:
    output = None if answer.output is None else json.loads(answer.output)
    several = isinstance(output, list) and len(output) > 2
    return ServedAnswer(
        request_id=answer.rid,
        release=answer.release,
        at=datetime.fromtimestamp(answer.t, tz=UTC),
        kind=answer.kind,
        score=answer.score,
        predicted=answer.label,
        probabilities=tuple(output) if several and output is not None else None,
    )


def _oldest(folder: Path) -> tuple[str, datetime] | None:
    """The release that a log is of, and its first record; ``None`` for a log without any."""
    for record in records(folder):
        if isinstance(record, dict) and "release" in record and "t" in record:
            return str(record["release"]), datetime.fromtimestamp(float(record["t"]), tz=UTC)
    return None
