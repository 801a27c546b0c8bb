"""What every model registry promises, on the fake and on a real MLflow server."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

from airflow_provider_mlpipex.adapters.mlflow.registry import MlflowRegistry
from airflow_provider_mlpipex.domain.errors import (
    ArtifactMismatch,
    ConfigurationInvalid,
    InvalidName,
    ModelNotFound,
    RegistrationRefused,
    RegistryUnavailable,
    SignatureMismatch,
    TrainingFailed,
)
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot
from airflow_provider_mlpipex.domain.release.training import TrainedModel, TrainingRecord
from airflow_provider_mlpipex.domain.rollout.ledger_head import LedgerHead
from airflow_provider_mlpipex.ports import ModelRegistry
from airflow_provider_mlpipex.serving.artifacts import directory_digest
from airflow_provider_mlpipex.testing.registry import MemoryRegistry
from carriers import Halving, double
from tests.support.factories import make_snapshot
from tests.support.mlflow_server import free_port

# Most register a model that is complete, and are about something else.
pytestmark = pytest.mark.usefixtures("warm_processes")

_numbers = itertools.count()


@pytest.fixture(params=["memory", "mlflow"])
def registry(request: pytest.FixtureRequest) -> ModelRegistry:
    if request.param == "memory":
        return MemoryRegistry()
    return MlflowRegistry(request.getfixturevalue("mlflow_uri"))


@pytest.fixture
def real(mlflow_uri: str) -> MlflowRegistry:
    return MlflowRegistry(mlflow_uri)


@pytest.fixture
def name() -> str:
    """A model of its own for every test, because all tests share one MLflow server."""
    return f"model-{next(_numbers)}"


FEATURES = pd.DataFrame(
    {
        "distance": np.arange(60) * 10,
        "wind": np.where(np.arange(60) % 7, np.arange(60) / 3, np.nan),
        "carrier": (["AA", "B6", "UA"] * 20),
    }
)
LATE = pd.Series((np.arange(60) % 3 == 0).astype(int))


def fitted() -> Pipeline:
    carriers = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer(
        [("carrier", carriers, ["carrier"]), ("double", FunctionTransformer(double), ["distance"])],
        remainder="passthrough",
    )
    pipeline = Pipeline([("columns", columns), ("trees", HistGradientBoostingClassifier(max_iter=5, random_state=0))])
    return pipeline.fit(FEATURES, LATE)


MODEL = fitted()


def trained(model: Any = MODEL, **changes: Any) -> TrainedModel:
    facts: dict[str, Any] = {
        "model": model,
        "predict_method": "predict_proba",
        "examples": FEATURES.head(20),
        "metrics": {"auc": 0.75, "accuracy": 0.8},
        "evaluation_rows": 1000,
        "parameters": {"max_iter": 5, "nested": {"a": [1, 2]}},
    }
    return TrainedModel(**{**facts, **changes})


def record(name: str, **changes: Any) -> TrainingRecord:
    facts: dict[str, Any] = {
        "model_name": name,
        "endpoint_name": name,
        "dataset": make_snapshot(),
        "architecture": "Pipeline[HistGradientBoostingClassifier]",
        "configuration_digest": "a" * 64,
        "code_version": "0123abcd",
        "task": "binary",
    }
    return TrainingRecord(**{**facts, **changes})


def test_log_training_completes_the_record(registry: ModelRegistry, name: str) -> None:
    assert isinstance(registry, ModelRegistry)
    done = registry.log_training(trained(), record(name))
    assert done.run_id
    assert done.artifact_uri
    assert len(done.artifact_digest) == 64
    inputs = json.loads(str(done.signature["inputs"]))
    assert [(column["name"], column["type"]) for column in inputs] == [
        ("distance", "long"),
        ("wind", "double"),
        ("carrier", "string"),
    ]
    assert (done.metrics, done.evaluation_rows) == ({"auc": 0.75, "accuracy": 0.8}, 1000)
    assert done.key == record(name).key


def test_the_signature_does_not_depend_on_which_examples_lack_a_value(registry: ModelRegistry, name: str) -> None:
    examples = FEATURES.head(20)
    samples = {"a": examples, "b": examples.dropna(), "c": FEATURES.head(40)}
    signatures = [
        registry.log_training(trained(examples=rows), record(name, configuration_digest=digit * 64)).signature
        for digit, rows in samples.items()
    ]
    assert signatures[0] == signatures[1] == signatures[2]
    assert all(column["required"] for column in json.loads(str(signatures[0]["inputs"])))


def test_same_key_is_the_same_run(registry: ModelRegistry, name: str) -> None:
    first = registry.log_training(trained(), record(name))
    assert registry.log_training(trained(metrics={"auc": 0.1}), record(name)) == first
    other = registry.log_training(trained(), record(name, configuration_digest="b" * 64))
    assert other.run_id != first.run_id


def test_a_model_that_cannot_answer_its_examples_is_refused(registry: ModelRegistry, name: str) -> None:
    with pytest.raises(TrainingFailed, match="predict_proba"):
        registry.log_training(trained(examples=FEATURES[["wind"]]), record(name))
    with pytest.raises(TrainingFailed, match="predict_probability"):
        registry.log_training(trained(predict_method="predict_probability"), record(name))
    # Nothing half-logged stands in the way of a good try.
    assert registry.log_training(trained(), record(name)).run_id


def test_register_get_and_versions(registry: ModelRegistry, name: str) -> None:
    assert registry.versions(name) == []
    expected = []
    for number, version in enumerate(["1.0.0", "1.9.0", "1.10.0"]):
        done = registry.log_training(trained(), record(name, configuration_digest=str(number) * 64))
        expected.append(registry.register(done, version=version))
    assert registry.versions(name) == expected
    assert registry.get(name, "1.9.0") == expected[1]
    assert expected[0].signature_digest == record(name, signature=expected[0].signature).signature_digest
    assert (expected[0].metrics["auc"], expected[0].evaluation_rows) == (0.75, 1000)


def test_same_record_keeps_its_version(registry: ModelRegistry, name: str) -> None:
    done = registry.log_training(trained(), record(name))
    first = registry.register(done, version="1.0.0")
    assert registry.register(done, version="1.0.0") == first
    assert registry.register(done, version="1.1.0") == first
    assert registry.versions(name) == [first]


def test_a_version_belongs_to_one_record(registry: ModelRegistry, name: str) -> None:
    one = registry.log_training(trained(), record(name))
    two = registry.log_training(trained(), record(name, code_version="fedcba98"))
    registry.register(one, version="1.0.0")
    with pytest.raises(RegistrationRefused, match=one.run_id):
        registry.register(two, version="1.0.0")
    assert [model.run_id for model in registry.versions(name)] == [one.run_id]
    # A record that has a version keeps it, whichever it is offered next.
    assert registry.register(two, version="1.1.0") == registry.register(two, version="1.0.0")


def test_of_two_at_once_one_is_refused(registry: ModelRegistry, name: str) -> None:
    records = [registry.log_training(trained(), record(name, configuration_digest=digit * 64)) for digit in "abcd"]

    def attempt(done: TrainingRecord) -> str:
        try:
            return registry.register(done, version="1.0.0").run_id
        except RegistrationRefused:
            return "refused"

    with ThreadPoolExecutor(len(records)) as pool:
        outcomes = list(pool.map(attempt, records))
    held = [model.run_id for model in registry.versions(name)]
    assert len(held) == 1
    assert sorted(outcomes) == sorted([held[0], "refused", "refused", "refused"])


@pytest.mark.parametrize(
    ("lacking", "named"),
    [
        ({"metrics": {}}, "metrics"),
        ({"signature": {}}, "signature"),
        ({"code_version": ""}, "code version"),
        ({"artifact_digest": ""}, "artifact digest"),
        ({"run_id": ""}, "run id"),
        ({"metrics": {}, "signature": {}, "code_version": ""}, "metrics, signature, code version"),
    ],
)
def test_refuses_a_record_that_lacks_something(
    registry: ModelRegistry, name: str, lacking: dict[str, Any], named: str
) -> None:
    done = record(
        name, metrics={"auc": 0.7}, signature={"inputs": "[]"}, artifact_digest="a" * 64, artifact_uri="x:", run_id="r"
    )
    with pytest.raises(RegistrationRefused, match=f"missing: {named}") as refused:
        registry.register(done.model_copy(update=lacking), version="1.0.0")
    assert ("MLPIPEX_CODE_VERSION" in str(refused.value)) == ("code_version" in lacking)
    assert registry.versions(name) == []


def test_a_registered_model_answers_as_the_trained_model(registry: ModelRegistry, name: str) -> None:
    done = registry.log_training(trained(), record(name))
    answers = registry.answer(registry.register(done, version="1.0.0"), FEATURES)
    assert answers.predictions == MODEL.predict_proba(FEATURES).tolist()
    assert answers.classes == [0, 1]


def test_an_answer_that_its_server_would_refuse_names_the_column(registry: ModelRegistry, name: str) -> None:
    model = registry.register(registry.log_training(trained(), record(name)), version="1.0.0")
    with pytest.raises(SignatureMismatch, match="column distance in row 1") as refused:
        registry.answer(model, FEATURES.assign(distance=FEATURES["distance"].where(FEATURES.index != 1)))
    assert "B6" not in str(refused.value)


def test_other_bytes_are_not_asked(registry: ModelRegistry, name: str) -> None:
    done = registry.log_training(trained(), record(name))
    model = registry.register(done, version="1.0.0").model_copy(update={"artifact_digest": "0" * 64})
    with pytest.raises(ArtifactMismatch, match=done.artifact_digest):
        registry.answer(model, FEATURES)


def test_unknown_versions_are_not_found(registry: ModelRegistry, name: str) -> None:
    with pytest.raises(ModelNotFound, match="no version at all"):
        registry.get(name, "1.0.0")
    model = registry.register(registry.log_training(trained(), record(name)), version="1.0.0")
    with pytest.raises(ModelNotFound, match=r"2\.0\.0.*one of 1\.0\.0"):
        registry.get(name, "2.0.0")
    with pytest.raises(ModelNotFound):
        registry.mirror_alias(model.model_copy(update={"version": "2.0.0"}), "production")


@pytest.mark.parametrize("wrong", ["../x", "a.b", "a b", "x" * 300, "x' or '1'='1"])
def test_names_are_checked(registry: ModelRegistry, wrong: str, name: str) -> None:
    with pytest.raises(InvalidName):
        registry.versions(wrong)
    with pytest.raises(InvalidName):
        registry.get(wrong, "1.0.0")
    model = registry.register(registry.log_training(trained(), record(name)), version="1.0.0")
    with pytest.raises(InvalidName):
        registry.mirror_alias(model, wrong)


# What only MLflow has.


def test_the_run_tells_how_to_repeat_it(real: MlflowRegistry, mlflow_uri: str, name: str) -> None:
    snapshot = make_snapshot()
    done = real.log_training(trained(), record(name))
    run = mlflow.MlflowClient(mlflow_uri).get_run(done.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"auc": 0.75, "accuracy": 0.8, "evaluation_rows": 1000}
    assert run.data.params == {"max_iter": "5", "nested": "{'a': [1, 2]}"}
    assert run.data.tags["mlflow.source.git.commit"] == "0123abcd"
    (dataset,) = run.inputs.dataset_inputs
    assert {tag.key: tag.value for tag in dataset.tags}["mlpipex.digest"] == snapshot.digest
    assert json.loads(dataset.dataset.source) == {"uri": snapshot.uri}
    assert json.loads(dataset.dataset.profile) == {"num_rows": snapshot.rows, "digest": snapshot.digest}


def test_the_artifact_is_fetched_whole_by_mlflows_own_command(
    real: MlflowRegistry, mlflow_uri: str, name: str, tmp_path: Path
) -> None:
    done = real.log_training(trained(), record(name))
    command = [sys.executable, "-m", "mlflow", "artifacts", "download", "-u", done.artifact_uri, "-d", str(tmp_path)]
    environment = os.environ | {"MLFLOW_TRACKING_URI": mlflow_uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert directory_digest(tmp_path / "model") == done.artifact_digest
    golden = json.loads((tmp_path / "model" / "mlpipex" / "golden.json").read_text())
    split = golden["request"]["dataframe_split"]
    assert split["columns"] == ["distance", "wind", "carrier"]
    assert split["data"][0] == [0, None, "AA"]
    assert golden["predictions"] == MODEL.predict_proba(FEATURES.head(20)).tolist()
    requirements = (tmp_path / "model" / "requirements.txt").read_text().splitlines()
    assert f"mlflow=={mlflow.__version__}" in requirements


def test_the_run_of_a_killed_try_is_marked_and_done_again(real: MlflowRegistry, mlflow_uri: str, name: str) -> None:
    client = mlflow.MlflowClient(mlflow_uri)
    key = record(name).key
    killed = client.create_run(client.create_experiment(name), tags={"mlpipex.key": key}).info.run_id
    done = real.log_training(trained(), record(name))
    assert done.run_id != killed
    assert client.get_run(killed).info.status == "KILLED"
    assert real.log_training(trained(), record(name)) == done


def test_a_long_record_survives_the_limits_of_tags(real: MlflowRegistry, name: str) -> None:
    columns = {f"column_{number}": "double" for number in range(1000)}
    dataset = DatasetSnapshot.model_validate({**make_snapshot().to_json(), "columns": columns})
    done = real.log_training(trained(parameters={f"p{i}": i for i in range(150)}), record(name, dataset=dataset))
    model = real.register(done, version="1.0.0")
    assert real.get(name, "1.0.0") == model
    assert model.dataset == dataset
    assert real.log_training(trained(), record(name, dataset=dataset)) == done


def test_versions_made_by_others_are_left_alone(real: MlflowRegistry, mlflow_uri: str, name: str) -> None:
    done = real.log_training(trained(), record(name))
    client = mlflow.MlflowClient(mlflow_uri)
    client.create_registered_model(name)
    client.create_model_version(name, client.get_run(done.run_id).info.artifact_uri, done.run_id)
    assert real.versions(name) == []
    assert real.versions(name) + [real.register(done, version="1.0.0")] == real.versions(name)


def test_alias_follows(real: MlflowRegistry, mlflow_uri: str, name: str) -> None:
    model = real.register(real.log_training(trained(), record(name)), version="1.0.0")
    real.mirror_alias(model, "production")
    real.mirror_alias(model, "production")
    held = mlflow.MlflowClient(mlflow_uri).get_model_version_by_alias(name, "production")
    assert held.tags["mlpipex.version"] == "1.0.0"


def test_a_python_model_is_served_too(real: MlflowRegistry, name: str) -> None:
    done = real.log_training(
        trained(model=Halving(), predict_method="predict", examples=FEATURES[["distance"]]), record(name)
    )
    answers = real.answer(real.register(done, version="1.0.0"), FEATURES[["distance"]])
    assert answers.predictions == (FEATURES["distance"] / 2).tolist()


VERBS: dict[str, Callable[[MlflowRegistry], object]] = {
    "log_training": lambda registry: registry.log_training(trained(), record("away")),
    "register": lambda registry: registry.register(
        record(
            "away",
            metrics={"a": 1.0},
            signature={"inputs": "[]"},
            artifact_digest="a" * 64,
            artifact_uri="x:",
            run_id="r",
        ),
        version="1.0.0",
    ),
    "get": lambda registry: registry.get("away", "1.0.0"),
    "versions": lambda registry: registry.versions("away"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_dead_server_is_told_at_once_and_without_its_password(verb: str) -> None:
    registry = MlflowRegistry(f"http://user:secret@127.0.0.1:{free_port()}")
    with pytest.raises(RegistryUnavailable, match="127.0.0.1") as away:
        VERBS[verb](registry)
    assert "secret" not in str(away.value)


def test_a_server_that_fails_after_the_probe_is_an_outage_too() -> None:
    class Failing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 503)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(RegistryUnavailable, match="versions of away"):
            MlflowRegistry(f"http://127.0.0.1:{server.server_port}").versions("away")
        server.shutdown()


def test_a_deleted_experiment_is_not_mistaken_for_an_outage(real: MlflowRegistry, mlflow_uri: str, name: str) -> None:
    client = mlflow.MlflowClient(mlflow_uri)
    client.delete_experiment(client.create_experiment(name))
    with pytest.raises(ConfigurationInvalid, match=name):
        real.log_training(trained(), record(name))


def test_heads_of_chains_are_noted_at_the_model(registry: ModelRegistry, name: str) -> None:
    registry.register(registry.log_training(trained(), record(name)), version="1.0.0")
    shop, lab = EndpointRef.parse("production/shop"), EndpointRef.parse("staging/shop-2")
    assert registry.anchored_heads(name) == {}
    registry.anchor_head(name, shop, LedgerHead(seq=7, hash="a" * 64))
    registry.anchor_head(name, shop, LedgerHead(seq=9, hash="b" * 64))
    registry.anchor_head(name, lab, LedgerHead(seq=1, hash="c" * 64))
    assert registry.anchored_heads(name) == {
        "production/shop": LedgerHead(seq=9, hash="b" * 64),
        "staging/shop-2": LedgerHead(seq=1, hash="c" * 64),
    }
    assert registry.anchored_heads(f"{name}-of-nobody") == {}


def test_a_tag_that_is_no_head_is_none(real: MlflowRegistry, mlflow_uri: str, name: str) -> None:
    real.register(real.log_training(trained(), record(name)), version="1.0.0")
    client = mlflow.MlflowClient(mlflow_uri)
    for text in ("", "x:y", "0:" + "a" * 64, "7:short"):
        client.set_registered_model_tag(name, "mlpipex.ledger_head.production.shop", text)
        assert real.anchored_heads(name) == {}
