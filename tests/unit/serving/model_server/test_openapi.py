"""The OpenAPI document of a model server says what the server itself does: JSON Schema and the real app are asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from airflow_provider_mlpipex.adapters.mlflow.model import save_model
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.inputs import INPUTS_PATH
from airflow_provider_mlpipex.domain.release.training import TrainedModel
from airflow_provider_mlpipex.serving.model_server.app import Drill, create_app
from airflow_provider_mlpipex.serving.model_server.loading import scorer_of
from airflow_provider_mlpipex.serving.model_server.openapi import openapi_of
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec
from tests.support.plane import release_of

CARRIERS = ["secret-customer", "other-customer"]
REQUEST = "#/components/schemas/Request"


def rows() -> pd.DataFrame:
    random = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "distance": random.uniform(50, 3000, 60),
            "hour": random.integers(0, 24, 60),
            "weekend": random.integers(0, 2, 60).astype(bool),
            "carrier": random.choice(CARRIERS, 60),
        }
    )


def app_of(
    folder: Path, *, method: str = "predict_proba", unknown: str = "ignore", inputs: bool = True
) -> tuple[httpx.AsyncClient, Any]:
    """A client of the real app over a classifier of texts, and the classifier."""
    table = rows()
    encode = ColumnTransformer([("words", OneHotEncoder(handle_unknown=unknown), ["carrier"])], remainder="passthrough")
    model = Pipeline([("encode", encode), ("fit", LogisticRegression(max_iter=2000))])
    model.fit(table, np.where(table["distance"] > 1500, "on time", "late"))
    trained = TrainedModel(
        model=model, predict_method=method, examples=table.head(4), metrics={"auc": 0.9}, evaluation_rows=60
    )
    save_model(trained, folder / "model")
    if not inputs:
        (folder / "model" / INPUTS_PATH).unlink()
    spec = ModelServerSpec(
        endpoint=EndpointRef.parse("production/shop"),
        release=release_of(folder / "model", "1.2.0"),
        model_dir=str(folder / "model"),
        socket=str(folder / "it.sock"),
        log_dir=str(folder / "log"),
    )
    app = create_app(spec, scorer_of(folder / "model")[0], Drill(folder / "fault.json"))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://it"), model


def validator(document: Any, reference: str) -> Draft202012Validator:
    """Of one schema; its references are resolved within the document."""
    schema = {"$ref": reference, "components": document["components"]}
    for named in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(named)
    return Draft202012Validator(schema)


def example_of(document: Any) -> Any:
    return document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"].get("example")


@pytest.mark.parametrize("inputs", [True, False], ids=["typed", "by signature"])
@pytest.mark.parametrize("method", ["predict_proba", "predict"])
async def test_a_request_and_its_answer_are_as_the_document_says(tmp_path: Path, method: str, inputs: bool) -> None:
    client, model = app_of(tmp_path, method=method, inputs=inputs)
    async with client:
        document = (await client.get("/openapi.json")).json()
        example = example_of(document)
        answer = await client.post("/invocations", json=example)
    assert document["openapi"] == "3.1.0" and document["servers"][0]["url"] == "/endpoints/production/shop"
    assert document["info"]["version"].startswith("1.2.0")
    (row,) = example["dataframe_split"]["data"]
    record = dict(zip(example["dataframe_split"]["columns"], row, strict=True))
    for form in (example, {"dataframe_records": [record]}, {"inputs": {name: [record[name]] for name in record}}):
        validator(document, REQUEST).validate(form)
    assert answer.status_code == 200, answer.text
    (predicted,) = answer.json()["predictions"]
    schema = document["components"]["schemas"]["Answer"]
    validator(document, "#/components/schemas/Answer").validate(predicted)
    assert schema["x-mlpipex-classes"] == list(model.classes_) == ["late", "on time"]
    if method == "predict_proba":
        assert [place["title"] for place in schema["prefixItems"]] == ["probability of late", "probability of on time"]
        asked = pd.DataFrame([record])
        np.testing.assert_allclose(predicted, model.predict_proba(asked)[0])


@pytest.mark.parametrize("wrong", ["no column", "text for a number", "null for a flag", "two forms", "no rows"])
async def test_what_the_server_refuses_the_document_does_not_allow(tmp_path: Path, wrong: str) -> None:
    client, _ = app_of(tmp_path)
    record: dict[str, Any] = {"distance": 100.5, "hour": 5, "weekend": True, "carrier": None}
    request: dict[str, Any] = {"dataframe_records": [record]}
    async with client:
        document = (await client.get("/openapi.json")).json()
        judge = validator(document, REQUEST)
        assert judge.is_valid(request)
        if wrong == "no column":
            del record["hour"]
        elif wrong == "text for a number":
            record["distance"] = "far"
        elif wrong == "null for a flag":
            record["weekend"] = None
        elif wrong == "two forms":
            request["instances"] = [record]
        else:
            request["dataframe_records"] = []
        answer = await client.post("/invocations", json=request)
    assert answer.status_code == 400
    assert not judge.is_valid(request)
    error = document["paths"]["/invocations"]["post"]["responses"]["400"]["content"]["application/json"]["schema"]
    validator(document, error["$ref"]).validate(answer.json())


async def test_no_row_of_the_training_is_in_it_also_where_the_model_knows_no_other_text(tmp_path: Path) -> None:
    client, _ = app_of(tmp_path, unknown="error")
    async with client:
        body = (await client.get("/openapi.json")).text
    assert example_of(json.loads(body)) is None
    assert not [carrier for carrier in CARRIERS if carrier in body]


class Constant(mlflow.pyfunc.PythonModel):
    """A model that another pipeline has logged with plain MLflow."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return [1.0] * len(model_input)


TAGS = ColSpec(Array(DataType.string), "tags")
SINCE = ColSpec(DataType.datetime, "since", required=False)
TOP = ParamSchema([ParamSpec("top", DataType.long, 3)])


@pytest.mark.parametrize(
    ("signature", "properties", "params"),
    [
        (ModelSignature(Schema([TensorSpec(np.dtype("float64"), (-1, 2))])), None, None),
        (
            ModelSignature(Schema([TAGS, SINCE]), params=TOP),
            {"tags": {}, "since": {"type": ["string", "null"], "format": "date-time"}},
            {"top": {"type": "integer"}},
        ),
    ],
    ids=["tensor", "lists and params"],
)
def test_what_json_schema_has_no_word_for_is_left_open(
    tmp_path: Path, signature: Any, properties: Any, params: Any
) -> None:
    folder = tmp_path / "model"
    mlflow.pyfunc.save_model(str(folder), python_model=Constant(), signature=signature, pip_requirements=["mlflow"])
    spec = ModelServerSpec(
        endpoint=EndpointRef.parse("production/shop"),
        release=release_of(folder, "1.0.0"),
        model_dir=str(folder),
        socket=str(tmp_path / "it.sock"),
        log_dir=str(tmp_path / "log"),
    )
    document = openapi_of(spec, scorer_of(folder)[0], golden=folder / "none.json")
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    assert schemas["Row"].get("properties") == properties
    assert [form["properties"].get("params", {}).get("properties") for form in schemas["Request"]["oneOf"]] == [
        params
    ] * 4
    assert example_of(document) is None
