"""A team's training callable, called and measured: in the worker, or in the environment that will serve the model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import ManifestInvalid, TrainingFailed
from airflow_provider_mlpipex.domain.manifest.training_block import TrainingSpec
from airflow_provider_mlpipex.domain.release.training import Fitted, TrainedModel, TrainingContext, ask
from airflow_provider_mlpipex.services.training.code_failure import describe_failure
from airflow_provider_mlpipex.services.training.evaluation import evaluate
from airflow_provider_mlpipex.services.training.golden_rows import golden_rows
from airflow_provider_mlpipex.services.training.labels import labelled
from airflow_provider_mlpipex.services.training.rows import SplitRows
from airflow_provider_mlpipex.services.training.user_code import import_callable, source_digest

if TYPE_CHECKING:
    import pandas as pd


def fit(training: TrainingSpec, columns: list[str], rows: SplitRows, *, time_column: str) -> Fitted:
    """Call the training callable on the older rows, and measure what it returns on the newer ones.

    :param time_column: of ``rows``, by which drift is later told from the time of day.
    :raises TrainingFailed: the callable is missing, raised, or returned something that cannot be served.
    """
    older, newer = (labelled(part, training.target) for part in rows)
    context = TrainingContext(
        features=older.rows[columns],
        target=older.labels,
        parameters=dict(training.parameters),
        seed=training.seed,
    )
    learned, evaluated = older.rows[columns].copy(), newer.rows[columns]
    model, predictions = _call(training, context, evaluated, rows)
    trained = TrainedModel(
        model=model,
        predict_method=training.predict_method,
        examples=golden_rows(evaluated, learned),
        metrics=evaluate(training.task, newer.labels, predictions, classes=getattr(model, "classes_", None)),
        evaluation_rows=len(evaluated),
        parameters=dict(training.parameters),
        evaluated=rows.evaluation[columns],
        evaluated_at=rows.evaluation[time_column],
        learned=learned,
        code=(training.callable.partition(":")[0],),
    )
    return Fitted(
        trained=trained,
        architecture=architecture_of(model),
        source_digest=source_digest(training.callable),
        unlabelled=older.unlabelled + newer.unlabelled,
    )


def architecture_of(model: Any) -> str:
    """The types that a fitted estimator is made of: ``Pipeline[ColumnTransformer[OrdinalEncoder], Ridge]``.

    A model may say it itself in an attribute ``architecture_``. Hyper-parameters are left out: changing one of them is
    a patch, changing a type is a major version.
    """
    if stated := getattr(model, "architecture_", None):
        return str(stated)
    if isinstance(model, str):
        return model
    composed = [part[1] for parts in _COMPOSED for part in getattr(model, parts, None) or ()]
    wrapped = [part for single in _WRAPPED if (part := getattr(model, single, None)) is not None]
    parts = composed or wrapped[:1]
    inside = f"[{', '.join(architecture_of(part) for part in parts)}]" if parts else ""
    return f"{type(model).__name__}{inside}"


#: Attributes in which scikit-learn keeps ``(name, part, …)`` tuples, and those that hold one wrapped estimator.
_COMPOSED = ("steps", "transformers", "transformer_list", "estimators")
_WRAPPED = ("best_estimator_", "estimator")


def _call(training: TrainingSpec, context: TrainingContext, features: pd.DataFrame, rows: SplitRows) -> tuple[Any, Any]:
    """The fitted model and its predictions for ``features``; an exception is told without values of ``rows``."""
    code = f"training callable {training.callable}"
    failed = partial(TrainingFailed, code, remedy="correct it at that line; the task log has the way to it")
    described = partial(describe_failure, code=code, rows=rows)
    try:
        train = import_callable(training.callable, field="training.callable")
    except ManifestInvalid as error:
        raise failed(value=error.value, limit=error.limit, remedy=error.remedy) from error
    try:
        model = train(context)
    except Exception as error:  # noqa: BLE001  whatever the code of a team raises
        # Nothing of the exception is chained: its text and those of its causes may quote rows.
        raise failed(value=described(error), limit="a fitted model") from None
    predict = getattr(model, training.predict_method, None)
    if not callable(predict):
        raise failed(
            value=type(model).__name__,
            limit=f"a fitted model with the method {training.predict_method}",
            remedy="return the fitted estimator, or name another training.predict_method",
        )
    try:
        return model, ask(model, training.predict_method, features.copy())
    except Exception as error:  # noqa: BLE001  whatever the code of a team raises
        limit = f"predictions for {len(features)} evaluation rows"
        raise failed(value=described(error), limit=limit) from None
