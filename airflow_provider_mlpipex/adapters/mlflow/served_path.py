"""The model's own answers beside those of the served path: what is served must be what was evaluated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import SignatureMismatch, TrainingFailed
from airflow_provider_mlpipex.domain.release.inputs import ModelInputs
from airflow_provider_mlpipex.domain.release.release import ModelVersion
from airflow_provider_mlpipex.domain.release.training import ModelAnswers
from airflow_provider_mlpipex.serving.model_server.clean_process import CleanAnswers
from airflow_provider_mlpipex.serving.model_server.input_frame import cells_of, dump, frame_of, request_of
from airflow_provider_mlpipex.serving.model_server.loading import AnyScorer
from airflow_provider_mlpipex.serving.model_server.request_rows import JSON
from airflow_provider_mlpipex.serving.model_server.same_answers import same
from airflow_provider_mlpipex.serving.model_server.typed_scoring import written

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.domain.release.training import TrainedModel

#: Rows of one request. Its size must not matter; golden rows are also asked one by one.
CHUNK_ROWS = 1000
#: Golden rows that are also asked alone, as most clients ask.
ROWS_ALONE = 50
#: Single precision and the order of a sum may move an answer by this share of it, and no further.
_TOLERANCE = 1e-6


class Difference(Exception):
    """:param row: position of the first row that is answered otherwise. :param served: what a client would get."""

    def __init__(self, row: int, own: Any, served: Any) -> None:
        super().__init__(row)
        self.row, self.own, self.served = row, own, served


def chunks(rows: pd.DataFrame, size: int = CHUNK_ROWS) -> Iterator[dict[str, Any]]:
    """``rows`` as requests of at most ``size`` rows."""
    for start in range(0, len(rows), size):
        yield request_of(cells_of(rows.iloc[start : start + size]))


def served_answers(scorer: AnyScorer, rows: pd.DataFrame, *, size: int = CHUNK_ROWS) -> list[Any]:
    """One answer a row, through JSON.

    :raises TrainingFailed: the served path refuses these rows.
    """
    answers: list[Any] = []
    for request in chunks(rows, size):
        answer = scorer.score(dump(request), JSON)
        body = json.loads(answer.body)
        if answer.status != 200:
            raise TrainingFailed(
                "model as it is served, on its own evaluation rows",
                value=f"{answer.status} {body.get('message', '')}",
                limit="an answer to every row that it was evaluated on",
                remedy="let the data source and the model agree on what a column may hold",
            )
        answers += body["predictions"] if isinstance(body["predictions"], list) else [body["predictions"]]
    return answers


def served_answers_of(model: ModelVersion, clean: CleanAnswers) -> ModelAnswers:
    """:raises SignatureMismatch: the server of ``model`` refused a request; the message names the column."""
    predictions: list[Any] = []
    for at, (status, body) in enumerate(clean.bodies):
        if status != 200:
            raise SignatureMismatch(
                f"model {model.name} {model.version} as it is served",
                value=f"rows from {at * CHUNK_ROWS} on: {status} {body.get('message', '')}",
                limit="an answer to every row",
                remedy="let the data source give this column as it was when that model was trained",
            )
        predictions += body["predictions"] if isinstance(body["predictions"], list) else [body["predictions"]]
    return ModelAnswers(predictions=predictions, classes=clean.classes)


def require_same(trained: TrainedModel, scorer: AnyScorer, inputs: ModelInputs, loaded: Any) -> list[Any]:
    """The served answers to the golden rows, once the model's own are seen to be the same for these and all others.

    :raises TrainingFailed: a row is answered otherwise; it names the column that does it, and both answers.
    """
    golden = trained.examples
    own = own_answers(trained, golden)
    served = served_answers(scorer, golden)
    try:
        _compare(own, served)
    except Difference as difference:
        raise _refused(trained, golden, inputs, loaded, difference) from None
    try:
        alone = golden.head(ROWS_ALONE)
        _compare(own[: len(alone)], served_answers(scorer, alone, size=1))
        if trained.evaluated is not None:
            _compare(own_answers(trained, trained.evaluated), served_answers(scorer, trained.evaluated))
    except Difference as difference:
        rows = golden if difference.row < len(golden) and trained.evaluated is None else trained.evaluated
        raise _refused(trained, golden if rows is None else rows, inputs, loaded, difference) from None
    return served


def own_answers(trained: TrainedModel, rows: pd.DataFrame) -> list[Any]:
    """The model's own answers to ``rows`` as JSON has them, one a row.

    :raises TrainingFailed: not one answer for each row.
    """
    _, answers = written(trained.ask(rows))
    if len(answers) != len(rows):
        raise TrainingFailed(
            f"model {type(trained.model).__name__}, method {trained.predict_method}",
            value=f"{len(answers)} answers",
            limit=f"one for each of {len(rows)} rows",
            remedy="let the model answer each row by itself",
        )
    return answers


def _compare(own: list[Any], served: list[Any]) -> None:
    scale = 1e-3 * max((abs(number) for number in _numbers(own)), default=1.0)
    if len(own) != len(served):
        raise Difference(min(len(own), len(served)), f"{len(own)} answers", f"{len(served)} answers")
    for row, (mine, theirs) in enumerate(zip(own, served, strict=True)):
        if not same(mine, theirs, tolerance=_TOLERANCE, scale=scale):
            raise Difference(row, mine, theirs)


def _numbers(answers: Any) -> Iterator[float]:
    for answer in answers.values() if isinstance(answers, dict) else answers:
        if isinstance(answer, (list, dict)):
            yield from _numbers(answer)
        elif isinstance(answer, (int, float)) and abs(answer) < float("inf"):
            yield answer


def _refused(
    trained: TrainedModel, rows: pd.DataFrame, inputs: ModelInputs, loaded: Any, difference: Difference
) -> TrainingFailed:
    row = rows.iloc[[difference.row]].reset_index(drop=True)
    return TrainingFailed(
        f"model {type(trained.model).__name__} as it is served, {_cause(trained, row, inputs, loaded)}",
        value=f"the model itself answers {_short(difference.own)}, the server {_short(difference.served)}",
        limit="the same answer to the same row: what is served is what was evaluated",
        remedy="let the answer depend on the row's values alone, in a type that JSON can say",
    )


def _cause(trained: TrainedModel, row: pd.DataFrame, inputs: ModelInputs, loaded: Any) -> str:
    """Why one row is answered otherwise: by which column, or by what else.

    A column is the cause if the served model answers as the model itself once that column is given as it was.
    """
    try:
        once, again = (own_answers(trained, row) for _ in range(2))
        if not same(once, again, tolerance=_TOLERANCE):
            return "the model answers the same row twice in two ways"
        served = frame_of(cells_of(row), inputs)
        if not same(_asked(loaded, row), once, tolerance=_TOLERANCE):
            return "saved and loaded it is another model"
        for column in inputs.columns:
            if not same(_asked(loaded, served.assign(**{column.name: row[column.name]})), _asked(loaded, served)):
                what = "missing" if row[column.name].isna().any() else f"a {column.kind}"
                return f"column {column.name} ({column.dtype}), {what}"
    except Exception as error:  # noqa: BLE001 - the model's own; a refusal must not fail for want of a reason
        return f"a row that it cannot answer alone ({type(error).__name__})"
    return "the answer to a row depends on the rows beside it"


def _asked(loaded: Any, row: pd.DataFrame) -> list[Any]:
    return written(loaded._predict_fn(row.copy()))[1]


def _short(answer: Any) -> str:
    return json.dumps(answer)[:200]
