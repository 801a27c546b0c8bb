"""A trained model as an MLflow model directory, with signature, pinned requirements, golden rows, drift reference."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.adapters.mlflow.code_paths import copy_modules, own_modules
from airflow_provider_mlpipex.adapters.mlflow.served_path import own_answers, require_same
from airflow_provider_mlpipex.domain.drift.references import REFERENCE_PATH
from airflow_provider_mlpipex.domain.errors import ReleaseNotReady, TrainingFailed
from airflow_provider_mlpipex.domain.release.inputs import (
    INPUTS_PATH,
    SERVABLE,
    InputColumn,
    ModelInputs,
    Unservable,
    describe_column,
)
from airflow_provider_mlpipex.services.training.code_failure import log_places
from airflow_provider_mlpipex.serving.model_server.clean_process import ask_in_clean_process
from airflow_provider_mlpipex.serving.model_server.input_frame import cells_of, request_of
from airflow_provider_mlpipex.serving.model_server.loading import scorer_of
from airflow_provider_mlpipex.serving.model_server.same_answers import same
from airflow_provider_mlpipex.serving.prediction_log.outputs import drift_answers

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

    from airflow_provider_mlpipex.domain.drift.references import Reference
    from airflow_provider_mlpipex.domain.drift.sketches import Ints
    from airflow_provider_mlpipex.domain.release.training import LockedRuntime, TrainedModel

#: Inside the model directory: one request and the answer that every server of this model must give to it.
GOLDEN_PATH = Path("mlpipex/golden.json")
#: Given, not inferred: inference imports the model in another process and takes half a minute.
_REQUIREMENTS = ("scikit-learn", "pandas", "numpy", "cloudpickle")

#: Vendor settings that exist only as environment variables; whatever the user has set stays.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own are 7 retries of 120 s: a task would hang for minutes before it said that the registry is away.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def settle_environment() -> None:
    """Call before MLflow is imported: it reads some of these only then."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def save_model(trained: TrainedModel, folder: Path) -> dict[str, object]:
    """Write ``trained`` to ``folder``, which must not exist; return its signature in MLflow's dict form.

    A model that another pipeline saved is copied as it is, and served by its own signature, if it has one.

    scikit-learn models are saved by cloudpickle, not in MLflow's default skops format: skops refuses every type that
    is not on its list, a team's own transformer among them, and then cannot be loaded without that list. What makes
    the pickle safe to load is the artifact digest, checked before it is opened. Modules of the team's own, which the
    pickle only names, lie beside it.

    :raises TrainingFailed: a column cannot be served, the model does not answer its own example rows, answers them
        otherwise once it is served, or cannot be saved.
    """
    settle_environment()
    from mlflow.exceptions import MlflowException

    inputs = _inputs_of(trained)
    try:
        made = _signature(inputs, trained.ask(trained.examples))
        if trained.folder is not None:
            signature = _copy(trained.folder, folder) or _sign(folder, made)
        else:
            signature = made
            _save(trained, folder, signature)
        (folder / GOLDEN_PATH).parent.mkdir()
        if trained.folder is None:
            (folder / INPUTS_PATH).write_text(inputs.model_dump_json(), encoding="utf-8")
        with _path_as_it_was():
            scorer, loaded = scorer_of(folder)
        predictions = require_same(trained, scorer, inputs, loaded)
    except TrainingFailed:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the model and MLflow raise
        # What MLflow says of a schema begins with the rows; what other libraries say quotes values.
        said = str(error) if isinstance(error, AttributeError) else type(error).__name__
        log_places(error, code="saving the model")
        raise TrainingFailed(
            f"model {type(trained.model).__name__}, method {trained.predict_method}",
            value=said.partition("\n")[0][:200] if not isinstance(error, MlflowException) else said,
            limit="a model that MLflow can save and that answers its own example rows",
            remedy="return a fitted scikit-learn estimator, or an mlflow PythonModel; the error's lines are in the log",
        ) from None
    golden = {"request": request_of(cells_of(trained.examples)), "predictions": predictions}
    (folder / GOLDEN_PATH).write_text(json.dumps(golden), encoding="utf-8")
    if trained.evaluated is not None:
        reference = _drift_reference(trained, trained.evaluated)
        (folder / REFERENCE_PATH).write_text(json.dumps(reference.to_json()), encoding="utf-8")
    return dict(signature.to_dict())


def prove_in_clean_process(folder: Path, *, runtime: LockedRuntime | None = None, python: Path | None = None) -> None:
    """Load ``folder`` where nothing of this process is, and ask it its golden rows.

    :param runtime: the environment that will serve it, or ``python``, its interpreter; this one's if not given.
    :raises TrainingFailed: it does not load there, or answers otherwise than it does here.
    """
    golden = json.loads((folder / GOLDEN_PATH).read_text(encoding="utf-8"))
    python = runtime.python if runtime else python
    where = "in a clean process of its runtime" if python else "in a clean process"
    try:
        ((status, body),) = ask_in_clean_process(folder, [golden["request"]], python=python).bodies
    except ReleaseNotReady as error:
        raise TrainingFailed(
            f"model {where}",
            value=error.value,
            limit=error.limit,
            remedy=_PIN_IT if python else error.remedy,
        ) from error
    if status != 200 or not same(body.get("predictions"), golden["predictions"]):
        raise TrainingFailed(
            f"model {where}",
            value=f"{status}, other answers to its golden rows",
            limit="the answers that it gives where it was trained",
            remedy=_TRAIN_THERE if python else _HOLD_ALL,
        )


_PIN_IT = "pin what it lacks in the runtime's lock (pip freeze of the training has it), and bump runtime.version"
_TRAIN_THERE = "pin the training's own versions in the lock, or train where it serves: training: {runtime: serving}"
_HOLD_ALL = "let the model hold all that it needs: no global variable, file or environment of the worker"


def _inputs_of(trained: TrainedModel) -> ModelInputs:
    import pandas as pd

    parts = [rows for rows in (trained.learned, trained.evaluated) if rows is not None] or [trained.examples]
    columns = []
    for name in trained.examples.columns:
        try:
            columns.append(describe_column(pd.concat([rows[name] for rows in parts], ignore_index=True)))
        except Unservable as error:
            raise TrainingFailed(
                f"features, {error}",
                limit=SERVABLE,
                remedy="convert the column in the data source, or leave it out of features.columns",
            ) from error
    return ModelInputs(columns=tuple(columns))


def _save(trained: TrainedModel, folder: Path, signature: ModelSignature) -> None:
    import mlflow.sklearn

    requirements = [f"{package}=={version(package)}" for package in (_mlflow(), *_REQUIREMENTS)]
    with tempfile.TemporaryDirectory(prefix="mlpipex-code-") as scratch:
        pickle = Path(scratch) / "model.pkl"
        _pickle(trained.model, pickle)
        code = copy_modules(own_modules(pickle, trained.code), Path(scratch) / "code") or None
        if isinstance(trained.model, mlflow.pyfunc.PythonModel):
            mlflow.pyfunc.save_model(
                folder,
                python_model=trained.model,
                signature=signature,
                pip_requirements=requirements,
                code_paths=code,
            )
        else:
            mlflow.sklearn.save_model(
                trained.model,
                folder,
                signature=signature,
                pip_requirements=requirements,
                pyfunc_predict_fn=trained.predict_method,
                serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
                code_paths=code,
            )


def _mlflow() -> str:
    """The distribution that brings MLflow here: a runtime may hold the small one."""
    try:
        version("mlflow")
    except PackageNotFoundError:
        return "mlflow-skinny"
    return "mlflow"


def _pickle(model: Any, path: Path) -> None:
    import cloudpickle

    with path.open("wb") as stream:
        cloudpickle.dump(model, stream)


@contextmanager
def _path_as_it_was() -> Iterator[None]:
    """MLflow puts a model's code on the path for good; in a worker it would shadow the next version of that code."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before


def _copy(saved: Path, folder: Path) -> ModelSignature | None:
    """Copy a saved model, and say what signature it has."""
    from mlflow.models import Model

    # What MLflow writes into a download is no part of what was logged.
    shutil.copytree(saved, folder, symlinks=True, ignore=shutil.ignore_patterns("registered_model_meta"))
    own: ModelSignature | None = Model.load(str(folder)).signature
    return own


def _sign(folder: Path, signature: ModelSignature) -> ModelSignature:
    from mlflow.models import set_signature

    set_signature(str(folder), signature)
    return signature


def _drift_reference(trained: TrainedModel, rows: pd.DataFrame) -> Reference:
    """Bins and counts of the evaluation rows, and of what the model says of them.

    Scores are told as the prediction log tells them: what is served later must be compared with the same number.
    """
    from airflow_provider_mlpipex.domain.drift.references import make_reference, with_effects

    scores = drift_answers(own_answers(trained, rows))
    columns = {str(name): rows[name] for name in rows.columns}
    reference = make_reference(columns, scores=scores, times=trained.evaluated_at)
    return with_effects(reference, columns, partial(_permuted_scores, trained, rows))


def _permuted_scores(
    trained: TrainedModel, rows: pd.DataFrame, own: Ints, column: str, others: Ints
) -> list[float | None]:
    """What the model says of rows ``own`` with the values that ``column`` has in rows ``others``; nothing where it does
    not answer such rows, or answers them in words."""
    name = next(name for name in rows.columns if str(name) == column)
    permuted = rows.iloc[own].reset_index(drop=True)
    permuted[name] = rows[name].iloc[others].reset_index(drop=True)
    try:
        answers = drift_answers(own_answers(trained, permuted))
    except Exception as error:  # noqa: BLE001  whatever a model raises on values that never came together
        # Its text may quote rows.
        what = "column %s is not permuted, its damage is known by association only: the model raised %s"
        logging.getLogger(__name__).warning(what, column, type(error).__name__)
        return [None] * len(own)
    return [answer if isinstance(answer, float | int) else None for answer in answers]


def _signature(inputs: ModelInputs, answers: Any) -> ModelSignature:
    """What the columns of all rows say, each required: it may hold missing values, it may not be left out."""
    import pandas as pd
    from mlflow.models import infer_signature
    from mlflow.types import ColSpec, Schema

    signature = infer_signature(pd.DataFrame({"x": [0.5]}), answers)
    signature.inputs = Schema([ColSpec(_mlflow_type(column), column.name, required=True) for column in inputs.columns])
    return signature


def _mlflow_type(column: InputColumn) -> str:
    """The type that MLflow infers for such a column."""
    if column.kind == "integer":
        return "long" if column.dtype.lower() in ("int64", "uint32") else "integer"
    if column.kind == "number":
        return "double" if column.dtype.lower() == "float64" else "float"
    return {"flag": "boolean", "time": "datetime"}.get(column.kind, "string")
