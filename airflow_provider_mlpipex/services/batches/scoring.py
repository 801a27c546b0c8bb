"""Scoring a table through a live endpoint, so that its rows are seen as every client's are.

Rows go in chunks, each with the batch's name. What was answered is kept chunk by chunk: a
task that was ended on its way goes on where it stopped. The ledger learns of the batch also when it fails half-way,
because what was answered until then is in the prediction log.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.batches import (
    AnsweredChunk,
    PredictionAnswer,
    PredictionRequest,
    check_batch,
    inputs_of,
)
from airflow_provider_mlpipex.domain.errors import (
    BatchRefused,
    BatchUnanswered,
    DataQualityFailed,
    IllegalTransition,
    NotAuthorised,
    SignatureMismatch,
)
from airflow_provider_mlpipex.domain.features.service import plain
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.values import Value, digest_of
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.batches.origin import record_batch
from airflow_provider_mlpipex.services.platform import Platform

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.ports import AnsweredBatch

#: Seconds before a chunk is sent again, after its first failure and after each further one.
PAUSES_S = (0.5, 1.0, 2.0, 4.0)
#: What JSON has a word for.
_JSON = (str, bool, int, float, list, dict, type(None))
#: Columns that the table of answers has beside those of its rows.
PREDICTION, RELEASE, REQUEST = "prediction", "release", "request_id"


class ScoredBatch(Value):
    """A batch that was answered as a whole.

    :param digest: of all columns of its rows, as of a dataset snapshot.
    :param answered: release id -> rows that it answered.
    :param resumed: rows that an earlier try of the task had been answered already.
    :param output: where the answers stand beside the rows.
    """

    batch: str
    rows: int
    digest: str
    answered: dict[str, int]
    resumed: int
    output: str


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """What every chunk of a batch has in common. ``key`` is the same whenever the same rows are sent the same way;
    ``rows_sent`` counts them by chunk, as often as they are sent."""

    endpoint: EndpointRef
    address: str
    name: str
    key: str
    columns: Sequence[str]
    chunks: int
    try_number: int
    rows_sent: Counter[int]

    def chunk_name(self, number: int) -> str:
        return f"batch {self.name} of {self.endpoint}, chunk {number + 1} of {self.chunks}"


def score_batch(
    platform: Platform,
    endpoint: EndpointRef,
    rows: pd.DataFrame,
    *,
    batch: str,
    chunk_rows: int,
    answers: AnsweredBatch,
    pause: Callable[[float], None],
) -> ScoredBatch:
    """Send ``rows`` to ``endpoint`` and keep what it answers beside them: :data:`PREDICTION`, :data:`RELEASE` and
    :data:`REQUEST`, the id of the request that carried the row.

    The same batch may be sent again: it stays one batch, whose newest entry in the ledger counts.

    :param batch: at most 200 printable ASCII characters.
    :param chunk_rows: rows a request.
    :param pause: waits for so many seconds; called between two sendings of a chunk that failed.
    :raises InvalidName: ``batch`` cannot name one.
    :raises DataQualityFailed: no rows, a missing input, an infinite value, or a column of a name that is taken.
    :raises BatchRefused: a status of 4xx, or not one prediction a row.
    :raises BatchUnanswered: 429, 5xx or no answer, though sent as often as :data:`PAUSES_S` says.
    :raises NotAuthorised: the client token is not the ingress's.
    """
    check_batch(batch)
    digest = platform.snapshots.digest(rows, name=f"of batch {batch}")
    columns = _columns(journal.load(platform, endpoint), endpoint, rows)
    sent = _Batch(
        endpoint=endpoint,
        address=platform.plane.observe(endpoint).address,
        name=batch,
        key=digest_of([str(endpoint), batch, digest, chunk_rows])[:16],
        columns=columns,
        chunks=math.ceil(len(rows) / chunk_rows),
        try_number=platform.origin.try_number,
        rows_sent=Counter(),
    )
    values = _values(rows, columns)
    done = {chunk.number: chunk for chunk in answers.chunks(sent.key)}
    resumed = _count(done)
    try:
        for number in range(sent.chunks):
            if number not in done:
                part = values[number * chunk_rows : (number + 1) * chunk_rows]
                done[number] = _ask(platform, sent, number, part, pause)
                answers.keep(sent.key, done[number])
    finally:
        if done:
            record_batch(
                platform,
                endpoint,
                batch=batch,
                rows=len(rows),
                digest=digest,
                answered=_by_release(done),
                sent=resumed + sent.rows_sent.total(),
            )
    output = answers.finish(_beside(rows, [done[number] for number in range(sent.chunks)]))
    return ScoredBatch(
        batch=batch,
        rows=len(rows),
        digest=digest,
        answered=_by_release(done),
        resumed=resumed,
        output=output,
    )


def _ask(
    platform: Platform, batch: _Batch, number: int, rows: Sequence[Sequence[Any]], pause: Callable[[float], None]
) -> AnsweredChunk:
    """One chunk, sent until it is answered or there is no hope.

    Each sending says by an id of its own which it is: who reads the log can tell rows that were sent again, and by
    which try. Labels are joined by the id that the plane answers with.
    """
    answer = PredictionAnswer(status=0)
    for sending in range(len(PAUSES_S) + 1):
        if sending:
            pause(PAUSES_S[sending - 1])
        request = PredictionRequest(
            endpoint=batch.endpoint,
            address=batch.address,
            batch=batch.name,
            request_id=f"{batch.key}-{number}-{batch.try_number}-{sending}",
            columns=batch.columns,
            rows=rows,
        )
        batch.rows_sent[number] += len(rows)
        answer = platform.predictor.predict(request)
        if answer.status == 200:
            return _taken(batch, number, request, answer)
        if answer.status != 429 and 0 < answer.status < 500:
            raise _refused(batch, number, answer)
    raise BatchUnanswered(
        batch.chunk_name(number),
        value=_said(answer),
        limit=f"an answer to one of {len(PAUSES_S) + 1} requests",
        remedy="see what the endpoint serves with: mlpipex status; the task's next try goes on after what was answered",
    )


def _taken(batch: _Batch, number: int, request: PredictionRequest, answer: PredictionAnswer) -> AnsweredChunk:
    """:raises BatchRefused: not one prediction a row, or nobody who says that they are his."""
    signed = answer.release and answer.request_id
    if answer.predictions is None or len(answer.predictions) != len(request.rows) or not signed:
        given = "none" if answer.predictions is None else len(answer.predictions)
        raise BatchRefused(
            batch.chunk_name(number),
            value=f"{given} predictions by {answer.release or 'no release'}; {answer.detail}".removesuffix("; "),
            limit=f"one for each of {len(request.rows)} rows, by a release that names itself and the request",
            remedy="release a model that answers row by row, or correct the ingress url",
        )
    return AnsweredChunk(
        number=number, request_id=answer.request_id, release=answer.release, predictions=answer.predictions
    )


def _refused(batch: _Batch, number: int, answer: PredictionAnswer) -> BatchRefused | NotAuthorised:
    if answer.status in (401, 403):
        return NotAuthorised(
            batch.chunk_name(number),
            value=_said(answer),
            limit="the plane's batch token, which may name a batch",
            remedy="set client_token_file of the connection to batch-token in the plane's folder, or client_token",
        )
    return BatchRefused(
        batch.chunk_name(number),
        value=_said(answer),
        limit="rows that the current release takes",
        remedy="correct the rows at their source, then run the task again",
    )


def _said(answer: PredictionAnswer) -> str:
    status = f"HTTP {answer.status}" if answer.status else "no answer"
    return f"{status}: {answer.detail}" if answer.detail else status


def _columns(state: EndpointState, endpoint: EndpointRef, rows: pd.DataFrame) -> list[str]:
    """Columns of ``rows`` that are sent: those of the current model's signature, in its order.

    Where the release has a feature service and the rows do not bring all features, the entities: the model server looks
    the features up.
    """
    current = state.current
    if current is None:
        raise IllegalTransition(
            str(endpoint), limit="a current release", remedy="promote a release first; see: mlpipex status"
        )
    there = set(rows.columns)
    taken = [name for name in (PREDICTION, RELEASE, REQUEST) if name in there]
    if taken:
        raise DataQualityFailed(
            f"rows for {endpoint}, columns {', '.join(taken)}",
            limit=f"names other than {PREDICTION}, {RELEASE} and {REQUEST}, where the answers go",
            remedy="rename the columns in the source",
        )
    if not len(rows):
        raise DataQualityFailed(f"rows for {endpoint}", value=0, limit="at least one row", remedy="see the source")
    inputs = inputs_of(current.model)
    if not inputs:
        raise SignatureMismatch(
            f"release {current.id}, signature",
            limit="inputs with names, which rows of a table can be matched to",
            remedy="train on named columns, or call the endpoint in the form that the model takes",
        )
    missing = [name for name, required in inputs.items() if required and name not in there]
    entities = _entities(state)
    if missing and entities and there.issuperset(entities):
        return entities
    if missing:
        raise DataQualityFailed(
            f"rows for {endpoint}, columns {', '.join(missing)}",
            value=f"the table has {', '.join(map(str, rows.columns))}",
            limit=f"every input of {current.id}: {', '.join(inputs)}"
            + (f"; or its entities: {', '.join(entities)}" if entities else ""),
            remedy="let the source give these columns",
        )
    return [name for name in inputs if name in there]


def _entities(state: EndpointState) -> list[str]:
    if state.current is None or state.current.feature_digest is None or state.current_manifest is None:
        return []
    return list(Manifest.model_validate(state.current_manifest).features.entities)


def _values(rows: pd.DataFrame, columns: Sequence[str]) -> list[list[Any]]:
    """JSON values, one list a row. What is missing is ``None``.

    :raises DataQualityFailed: an infinite number, for which JSON has no word.
    """
    by_column = [_column(rows[name], name) for name in columns]
    return [list(row) for row in zip(*by_column, strict=True)]


def _column(values: pd.Series[Any], name: str) -> list[Any]:
    if values.dtype.kind == "f":
        infinite = int(values.isin([math.inf, -math.inf]).sum())
        if infinite:
            raise DataQualityFailed(
                f"rows to score, column {name}",
                value=f"{infinite} infinite values",
                limit="numbers, or nothing",
                remedy="leave them missing in the source",
            )
    plain = [_value(value) for value in values.tolist()]
    odd = {type(value).__name__ for value in plain if not isinstance(value, _JSON)}
    if odd:
        raise DataQualityFailed(
            f"rows to score, column {name}",
            value=", ".join(sorted(odd)),
            limit="numbers, texts, moments, truth values and lists of them, which travel as JSON",
            remedy="convert the column in the source",
        )
    return plain


def _value(value: Any) -> Any:
    # A moment without a zone stays one: it is what the model has learnt from.
    naive = isinstance(value, datetime) and value == value and value.tzinfo is None
    day = isinstance(value, date) and not isinstance(value, datetime)
    return value.isoformat() if naive or day else plain(value)


def _beside(rows: pd.DataFrame, chunks: Sequence[AnsweredChunk]) -> pd.DataFrame:
    lengths = [len(chunk.predictions) for chunk in chunks]
    spread = [chunk for chunk, length in zip(chunks, lengths, strict=True) for _ in range(length)]
    return rows.reset_index(drop=True).assign(
        **{
            PREDICTION: [prediction for chunk in chunks for prediction in chunk.predictions],
            RELEASE: [chunk.release for chunk in spread],
            REQUEST: [chunk.request_id for chunk in spread],
        }
    )


def _count(done: dict[int, AnsweredChunk]) -> int:
    return sum(len(chunk.predictions) for chunk in done.values())


def _by_release(done: dict[int, AnsweredChunk]) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for chunk in done.values():
        counted[chunk.release] += len(chunk.predictions)
    return dict(counted)
