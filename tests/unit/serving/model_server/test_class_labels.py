"""Class labels on request: what they say is what scikit-learn's own ``predict`` says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.tree import DecisionTreeClassifier
from starlette.testclient import TestClient

from airflow_provider_mlpipex.adapters.mlflow.model import save_model
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.training import TrainedModel
from airflow_provider_mlpipex.domain.rollout.traffic_plan import FAULT_HEADER
from airflow_provider_mlpipex.serving.model_server.app import Drill, create_app
from airflow_provider_mlpipex.serving.model_server.class_labels import labelled
from airflow_provider_mlpipex.serving.model_server.loading import scorer_of
from airflow_provider_mlpipex.serving.model_server.scoring import Scored
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec
from tests.support.plane import release_of

ROWS = pd.DataFrame({"amount": np.arange(60) % 13 * 1.0, "age": np.arange(60) % 7 * 1.0})
TRUTH = {
    "texts": np.where(ROWS["amount"] > 6, "fraud", "ok"),
    "flags": (ROWS["amount"] > 6).to_numpy(),
    "numbers": np.select([ROWS["amount"] > 8, ROWS["amount"] > 4], [30, 20], 10),
}
WISH = {"x-mlpipex-classes": "true"}


def server(folder: Path, model: Any, method: str) -> TestClient:
    trained = TrainedModel(model=model, predict_method=method, examples=ROWS.head(4), metrics={}, evaluation_rows=60)
    save_model(trained, folder / "model")
    spec = ModelServerSpec(
        endpoint=EndpointRef.parse("production/shop"),
        release=release_of(folder / "model", "1.2.0"),
        model_dir=str(folder / "model"),
        socket=str(folder / "it.sock"),
        log_dir=str(folder / "log"),
    )
    return TestClient(create_app(spec, scorer_of(folder / "model")[0], Drill(folder / "fault.json")))


def ask(client: TestClient, headers: dict[str, str]) -> Any:
    body = {"dataframe_split": {"columns": list(ROWS.columns), "data": ROWS.to_numpy().tolist()}}
    return client.post("/invocations", json=body, headers=headers)


@pytest.mark.parametrize("method", ["predict_proba", "predict"])
@pytest.mark.parametrize("truth", TRUTH.values(), ids=TRUTH)
def test_labels_are_what_the_model_itself_predicts(tmp_path: Path, truth: Any, method: str) -> None:
    model = LogisticRegression(max_iter=2000).fit(ROWS, truth)
    client = server(tmp_path, model, method)
    plain, asked = ask(client, {}).json(), ask(client, WISH).json()
    assert asked["classes"] == model.classes_.tolist()
    assert asked["labels"] == model.predict(ROWS).tolist()
    assert plain.keys() == {"predictions"} and asked["predictions"] == plain["predictions"]
    assert ask(client, {"x-mlpipex-classes": "false"}).json() == plain
    document = client.get("/openapi.json").json()
    (wish,) = [p for p in document["paths"]["/invocations"]["post"]["parameters"] if p["name"] == "x-mlpipex-classes"]
    assert wish["schema"]["enum"] == ["true", "false"]
    answer = document["paths"]["/invocations"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    valid = Draft202012Validator({**answer, "components": document["components"]})
    assert valid.is_valid(asked) and valid.is_valid(plain)
    assert not valid.is_valid({**asked, "labels": ["nobody"]})


def test_a_model_without_classes_refuses_and_is_not_to_blame(tmp_path: Path) -> None:
    client = server(tmp_path, LinearRegression().fit(ROWS, ROWS["amount"]), "predict")
    refused = ask(client, WISH)
    assert refused.status_code == 400 and "has no classes" in refused.json()["message"]
    assert FAULT_HEADER not in refused.headers
    assert ask(client, {}).status_code == 200
    names = [each["name"] for each in client.get("/openapi.json").json()["paths"]["/invocations"]["post"]["parameters"]]
    assert "x-mlpipex-classes" not in names


@pytest.mark.parametrize("wish", ["yes please", "2", "true,true", "\x00"])
def test_an_odd_wish_is_the_clients_fault(tmp_path: Path, wish: str) -> None:
    client = server(tmp_path, LogisticRegression().fit(ROWS, TRUTH["texts"]), "predict_proba")
    refused = ask(client, {"x-mlpipex-classes": wish})
    assert refused.status_code == 400 and "true or false" in refused.json()["message"]


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        ([[0.2, 0.8], [0.9, 0.1]], ["b", "a"]),
        ([{"a": 0.2, "b": 0.8}], ["b"]),
        (["b"], ["b"]),
        ([[0.2, 0.3, 0.5]], None),
        (["c"], None),
        ([0.7], None),
        ([["a", "b"]], None),
        ([[True, False]], None),
    ],
    ids=str,
)
def test_an_answer_that_names_no_class_is_refused(outputs: list[Any], labels: list[str] | None) -> None:
    answer = labelled(
        Scored(200, json.dumps({"predictions": outputs}).encode(), "application/json", outputs=outputs), "ab"
    )
    if labels is None:
        assert (answer.status, answer.is_fault) == (400, False)
    else:
        assert json.loads(answer.body) == {"predictions": outputs, "classes": ["a", "b"], "labels": labels}


@pytest.mark.parametrize(
    "model",
    [MultiOutputClassifier(LogisticRegression()), OneVsRestClassifier(LogisticRegression()), DecisionTreeClassifier()],
    ids=lambda model: type(model).__name__,
)
def test_a_model_that_gives_a_row_several_labels_answers_and_names_none(tmp_path: Path, model: Any) -> None:
    both = np.column_stack([ROWS["amount"] > 6, ROWS["age"] > 3]).astype(int)
    model.fit(ROWS, both)
    client = server(tmp_path, model, "predict")
    assert ask(client, {}).json()["predictions"] == model.predict(ROWS).tolist()
    refused = ask(client, WISH)
    assert refused.status_code == 400 and "several a row" in refused.json()["message"]
    operation = client.get("/openapi.json").json()["paths"]["/invocations"]["post"]
    assert "x-mlpipex-classes" not in [each["name"] for each in operation["parameters"]]
