"""A trained model as an MLflow model directory, with signature, pinned requirements, golden rows, drift reference."""

from __future__ import annotations

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.drift.references import REFERENCE_PATH
from airflow_provider_mlpipex.domain.errors import TrainingFailed
from airflow_provider_mlpipex.serving.prediction_log.outputs import drift_answers

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

    from airflow_provider_mlpipex.domain.drift.references import Reference
    from airflow_provider_mlpipex.domain.release.training import TrainedModel

#: Inside the model directory: one request and the answer that every server of this model must give to it.
GOLDEN_PATH = Path("mlpipex/golden.json")
#: Given, not inferred: inference imports the model in another process and takes half a minute.
_REQUIREMENTS = ("mlflow", "scikit-learn", "pandas", "numpy", "cloudpickle")

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

    A model that another pipeline saved is copied as it is; its own signature stays, if it has one.

    scikit-learn models are saved by cloudpickle, not in MLflow's default skops format: skops refuses every type that
    is not on its list, a team's own transformer among them, and then cannot be loaded without that list. What makes
    the pickle safe to load is the artifact digest, checked before it is opened.

    :raises TrainingFailed: the model does not answer its own example rows, or cannot be saved.
    """
    settle_environment()
    import mlflow.sklearn
    from mlflow.exceptions import MlflowException

    requirements = [f"{package}=={version(package)}" for package in _REQUIREMENTS]
    try:
        answers = getattr(trained.model, trained.predict_method)(trained.examples)
        if trained.folder is not None:
            signature = _copy(trained.folder, folder) or _sign(folder, _signature(trained.examples, answers))
        elif isinstance(trained.model, mlflow.pyfunc.PythonModel):
            signature = _signature(trained.examples, answers)
            mlflow.pyfunc.save_model(
                folder, python_model=trained.model, signature=signature, pip_requirements=requirements
            )
        else:
            signature = _signature(trained.examples, answers)
            mlflow.sklearn.save_model(
                trained.model,
                folder,
                signature=signature,
                pip_requirements=requirements,
                pyfunc_predict_fn=trained.predict_method,
                serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
            )
        golden = _golden(folder, trained.examples)
    except (MlflowException, ValueError, TypeError, AttributeError) as error:
        raise TrainingFailed(
            f"model {type(trained.model).__name__}, method {trained.predict_method}",
            value=str(error),
            limit="a model that MLflow can save and that answers its own example rows",
            remedy="return a fitted scikit-learn estimator, or an mlflow PythonModel with predict(self, model_input)",
        ) from error
    (folder / GOLDEN_PATH).parent.mkdir()
    (folder / GOLDEN_PATH).write_text(json.dumps(golden), encoding="utf-8")
    if trained.evaluated is not None:
        reference = _drift_reference(trained, trained.evaluated)
        (folder / REFERENCE_PATH).write_text(json.dumps(reference.to_json()), encoding="utf-8")
    return dict(signature.to_dict())


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
    from airflow_provider_mlpipex.domain.drift.references import make_reference

    answers = getattr(trained.model, trained.predict_method)(rows)
    outputs = answers.to_dict("records") if hasattr(answers, "to_dict") and answers.ndim == 2 else answers.tolist()
    return make_reference({str(name): rows[name] for name in rows.columns}, scores=drift_answers(outputs))


def _signature(examples: pd.DataFrame, answers: Any) -> ModelSignature:
    """What the column types say.

    MLflow would also make a column optional whenever one of the examples lacks a value: the signature, and with it the
    major version, would follow the weather. A required column may hold missing values; it may not be left out.
    """
    from mlflow.models import infer_signature
    from mlflow.types import ColSpec, Schema

    signature = infer_signature(examples, answers)
    signature.inputs = Schema([ColSpec(column.type, column.name, required=True) for column in signature.inputs])
    return signature


def _golden(folder: Path, examples: pd.DataFrame) -> dict[str, Any]:
    """The request, and the answer that MLflow's own scoring server gives to it."""
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server
    from mlflow.utils.proto_json_utils import NumpyEncoder

    # JSON has no NaN: what is missing travels as null, as a client would send it.
    rows = examples.astype(object).where(examples.notna(), None)
    split = {"columns": list(rows.columns), "data": rows.to_numpy().tolist()}
    request = json.dumps({"dataframe_split": split}, cls=NumpyEncoder, allow_nan=False)
    model = mlflow.pyfunc.load_model(str(folder))
    answer = scoring_server.invocations(request, "application/json", model, model.metadata.get_input_schema())  # type: ignore[no-untyped-call]
    if answer.status != 200:
        raise ValueError(f"the model refuses its example rows: {answer.response[:300]}")
    return {"request": json.loads(request), **json.loads(answer.response)}
