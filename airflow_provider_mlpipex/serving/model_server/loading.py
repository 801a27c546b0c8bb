"""A model directory as the scorer that serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.serving.model_server.input_frame import read_inputs
from airflow_provider_mlpipex.serving.model_server.scoring import Scorer
from airflow_provider_mlpipex.serving.model_server.sklearn_model import load_sklearn
from airflow_provider_mlpipex.serving.model_server.typed_scoring import TypedScorer

AnyScorer = Scorer | TypedScorer


def scorer_of(folder: Path) -> tuple[AnyScorer, Any]:
    """The scorer of ``folder`` and the model inside it, a pyfunc or what serves as one; whatever loading raises comes
    through.

    A model that was registered without its inputs is answered as MLflow's own server would, which takes MLflow.
    """
    inputs = read_inputs(folder)
    plain = load_sklearn(folder) if inputs is not None else None
    if inputs is not None and plain is not None:
        return TypedScorer(plain, inputs), plain
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
    return (Scorer(model) if inputs is None else TypedScorer(model, inputs)), model
