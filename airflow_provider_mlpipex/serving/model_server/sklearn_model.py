"""scikit-learn models of an MLflow directory, loaded without MLflow.

Importing MLflow takes a core for longer than importing scikit-learn itself, and a model server that died makes users
wait for it. What MLflow does to load such a model is to open its pickle and to name the method that is called; the
golden rows, which every server has to answer before it serves, say whether that is the same model.
"""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOADER = "mlflow.sklearn"
#: How MLflow opens the file; its third format, skops, is left to it.
_FORMATS = ("pickle", "cloudpickle")
#: Methods that MLflow calls beside ``predict``, if the model was saved for them.
_METHODS = ("predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba", "score")


class WithoutParams:
    """What a request is told of a model whose signature has no parameters."""

    def get_params_schema(self) -> None:
        return None


@dataclass(frozen=True)
class _Holder:
    sklearn_model: Any


class SklearnModel:
    """What serving asks of MLflow's ``PyFuncModel``.

    :param model: the estimator. :param method: name of the one that predicts.
    """

    metadata = WithoutParams()

    def __init__(self, model: Any, *, method: str) -> None:
        self._model_impl = _Holder(model)
        self._predict_fn = getattr(model, method)


def load_sklearn(folder: Path) -> SklearnModel | None:
    """The model of the directory ``folder``; ``None`` where MLflow is needed to load it, or to hear its parameters.

    Opening a pickle runs code: the digest of ``folder`` has been verified before. Whatever it raises comes through.
    """
    import yaml

    described = yaml.load((folder / "MLmodel").read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    try:
        served, own = described["flavors"]["python_function"], described["flavors"]["sklearn"]
        file, method = folder / served["model_path"], served.get("predict_fn", "predict")
        is_plain = (
            served["loader_module"] == _LOADER
            and own.get("serialization_format", "pickle") in _FORMATS
            and method in _METHODS
            and file.is_file()
            # What only MLflow knows how to give to a model.
            and not (served.get("data") or served.get("config") or described.get("metadata"))
            and not (described.get("signature") or {}).get("params")
        )
    except (LookupError, TypeError, AttributeError):
        return None
    if not is_plain:
        return None
    if code := served.get("code"):
        # First, as MLflow puts it: modules that the model ships hide others of their names.
        sys.path.insert(0, str(folder / code))
    with file.open("rb") as stream:
        return SklearnModel(pickle.load(stream), method=method)
