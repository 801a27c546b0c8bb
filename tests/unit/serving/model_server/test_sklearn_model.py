"""A scikit-learn model is served without MLflow, and answers as MLflow's own loading of the same directory does."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.models import infer_signature
from mlflow.pyfunc.scoring_server import predictions_to_json
from sklearn.linear_model import LinearRegression, LogisticRegression

from airflow_provider_mlpipex.domain.release.inputs import INPUTS_PATH, ModelInputs, describe_column
from airflow_provider_mlpipex.serving.model_server.clean_process import classes_of
from airflow_provider_mlpipex.serving.model_server.loading import scorer_of
from airflow_provider_mlpipex.serving.model_server.sklearn_model import SklearnModel, load_sklearn
from airflow_provider_mlpipex.serving.model_server.typed_scoring import TypedScorer, written

ROWS = pd.DataFrame({"x": [0.5, 1.5, 2.5, 4.0], "n": [1, 2, 3, 4]})
INPUTS = ModelInputs(columns=tuple(describe_column(ROWS[name]) for name in ROWS))
REQUEST = json.dumps({"dataframe_split": ROWS.to_dict(orient="split", index=False)}).encode()


def saved(folder: Path, model: Any, *, method: str = "predict", form: str = "cloudpickle", **given: Any) -> Path:
    mlflow.sklearn.save_model(
        model, folder, pyfunc_predict_fn=method, serialization_format=form, pip_requirements=["scikit-learn"], **given
    )
    (folder / INPUTS_PATH).parent.mkdir(exist_ok=True)
    (folder / INPUTS_PATH).write_text(INPUTS.model_dump_json())
    return folder


def classifier(labels: list[Any]) -> LogisticRegression:
    return LogisticRegression().fit(ROWS, labels)


MODELS = {
    "numbers": (LinearRegression().fit(ROWS, [1.0, 2.5, 3.0, 4.5]), "predict"),
    "texts": (classifier(["late", "late", 'on "time" ü', 'on "time" ü']), "predict"),
    "flags": (classifier([True, True, False, False]), "predict"),
    "probabilities": (classifier(["a", "a", "b", "b"]), "predict_proba"),
    "their logarithms": (classifier(["a", "a", "b", "b"]), "predict_log_proba"),
}


@pytest.mark.parametrize("form", ["pickle", "cloudpickle"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_model_of_its_own_file_answers_as_mlflow_loads_it(kind: str, form: str, tmp_path: Path) -> None:
    model, method = MODELS[kind]
    folder = saved(tmp_path / "model", model, method=method, form=form)
    by_mlflow = mlflow.pyfunc.load_model(str(folder))
    scorer, plain = scorer_of(folder)
    assert isinstance(plain, SklearnModel)
    assert json.loads(scorer.score(REQUEST, "application/json").body) == json.loads(
        TypedScorer(by_mlflow, INPUTS).score(REQUEST, "application/json").body
    )
    assert classes_of(plain) == classes_of(by_mlflow)


@pytest.mark.parametrize(
    "answer",
    [
        np.array(["late", "ü😀", 'with "quotes"\n', "\ud800"]),
        np.array(["a", "b"], dtype=object),
        np.array([True, False]),
        np.array([[True, False], [False, True]]),
        np.array([1, 2**80], dtype=object),
        np.array([["a", "b"], ["c", "d"]], dtype=object),
        np.array(["a", None], dtype=object),
        np.array([1.5, float("nan")], dtype=object),
        np.array([1.5, float("inf")]),
        pd.Series(["a", "b"]),
        pd.DataFrame({"label": ["a"], "score": [0.5]}),
        np.array(["2026-01-01"], dtype="datetime64[ns]"),
        np.array([], dtype=object),
    ],
    ids=str,
)
def test_an_answer_is_written_as_mlflow_writes_it(answer: Any) -> None:
    expected = io.StringIO()
    predictions_to_json(answer, expected)
    body, _ = written(answer)
    # As text: NaN is not equal to itself.
    assert json.dumps(json.loads(body)) == json.dumps(json.loads(expected.getvalue()))


def test_a_server_does_not_import_mlflow_for_it(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", MODELS["texts"][0])
    code = (
        "import sys, pathlib\n"
        "from airflow_provider_mlpipex.serving.model_server.app import Drill, create_app\n"
        "from airflow_provider_mlpipex.serving.model_server.loading import scorer_of\n"
        "folder, body = pathlib.Path(sys.argv[1]), sys.argv[2].encode()\n"
        "answer = scorer_of(folder)[0].score(body, 'application/json')\n"
        "print(answer.status, sorted(name for name in sys.modules if name.partition('.')[0] == 'mlflow'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), REQUEST.decode()], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "200 []"


def test_code_that_the_model_ships_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    code = tmp_path / "theirs"
    code.mkdir()
    (code / "shipped_beside_a_model.py").write_text(
        "class Doubling:\n    def predict(self, rows):\n        return 2.0 * rows['x'].to_numpy()\n"
    )
    sys.path.insert(0, str(code))
    try:
        from shipped_beside_a_model import Doubling  # type: ignore[import-not-found]

        folder = saved(tmp_path / "model", Doubling(), code_paths=[str(code / "shipped_beside_a_model.py")])
    finally:
        sys.path.remove(str(code))
        del sys.modules["shipped_beside_a_model"]
    plain = load_sklearn(folder)
    assert plain is not None
    assert plain._predict_fn(ROWS).tolist() == [1.0, 3.0, 5.0, 8.0]
    assert sys.modules["shipped_beside_a_model"].__file__ == str(folder / "code" / "shipped_beside_a_model.py")
    del sys.modules["shipped_beside_a_model"]


def changed(folder: Path, **python_function: Any) -> Path:
    described = yaml.safe_load((folder / "MLmodel").read_text())
    described["flavors"]["python_function"] |= python_function
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    return folder


@pytest.mark.parametrize(
    "what",
    [
        {"loader_module": "mlflow.xgboost"},
        {"predict_fn": "fit"},
        {"config": {"threshold": 0.5}},
        {"data": "data"},
        {"model_path": "nowhere.pkl"},
    ],
    ids=lambda what: next(iter(what)),
)
def test_what_only_mlflow_knows_is_left_to_it(what: dict[str, Any], tmp_path: Path) -> None:
    assert load_sklearn(changed(saved(tmp_path / "model", MODELS["numbers"][0]), **what)) is None


def test_parameters_are_left_to_mlflow(tmp_path: Path) -> None:
    signature = infer_signature(ROWS, np.array([1.0]), params={"threshold": 0.5})
    folder = saved(tmp_path / "model", MODELS["numbers"][0], signature=signature)
    assert load_sklearn(folder) is None
    assert not isinstance(scorer_of(folder)[1], SklearnModel)
