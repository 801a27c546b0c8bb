"""What every registry promises of models that other pipelines logged, on the fake and on a real MLflow server."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.models import infer_signature

from airflow_provider_mlpipex.adapters.mlflow.registry import MlflowRegistry
from airflow_provider_mlpipex.domain.errors import ModelNotFound, RegistrationRefused
from airflow_provider_mlpipex.domain.manifest.evaluation_block import EvaluationSpec
from airflow_provider_mlpipex.domain.release.adoption import ModelReference
from airflow_provider_mlpipex.ports import ModelRegistry
from airflow_provider_mlpipex.services.training.adopt import Adopted, AdoptionRequest, adopt_model
from airflow_provider_mlpipex.serving.artifacts import ArtifactCache
from airflow_provider_mlpipex.testing.clock import ManualClock
from airflow_provider_mlpipex.testing.registry import MemoryRegistry
from airflow_provider_mlpipex.testing.snapshots import MemorySnapshots
from tests.support.plain_mlflow import FEATURES, payments, save_lightgbm, train_lightgbm

# Most register a model that is complete, and are about something else.
pytestmark = pytest.mark.usefixtures("warm_processes")

_numbers = itertools.count()
ROWS = payments(seed=2)


@dataclass
class Logged:
    """A registry, and what a pipeline has put there: version 1 of ``name``, which ``champion`` names."""

    registry: ModelRegistry
    name: str
    run: str
    model_uri: str

    @property
    def version(self) -> str:
        return f"models:/{self.name}/1"


@pytest.fixture(params=["memory", "mlflow"])
def logged(request: pytest.FixtureRequest, tmp_path: Path) -> Logged:
    name = f"fraud-{next(_numbers)}"
    if request.param == "memory":
        registry = MemoryRegistry()
        folder = save_lightgbm(tmp_path / "model")
        registry.elsewhere |= {
            f"models:/{name}/1": folder,
            f"models:/{name}@champion": f"models:/{name}/1",
            f"models:/{name}/latest": f"models:/{name}/1",
            "runs:/0123abcd/model": folder,
            folder.as_uri(): folder,
        }
        return Logged(registry, name, "runs:/0123abcd/model", folder.as_uri())
    uri = request.getfixturevalue("mlflow_uri")
    logged = log_by_plain_mlflow(uri, name)
    return Logged(MlflowRegistry(uri), *logged)


def log_by_plain_mlflow(uri: str, name: str) -> tuple[str, str, str]:
    """As MLflow's own documentation does it: fluent, with a signature, a registered name and an alias."""
    with MlflowRegistry(uri).team_code():
        mlflow.set_experiment(name)
        model, rows = train_lightgbm(), payments(seed=0)[FEATURES]
        with mlflow.start_run() as run:
            mlflow.set_tag("mlflow.source.git.commit", "4f2a9c1d77")
            mlflow.log_params({"n_estimators": 20})
            mlflow.log_input(mlflow.data.from_pandas(payments(seed=0), name="payments"), context="training")
            info = mlflow.lightgbm.log_model(
                model,
                name="model",
                signature=infer_signature(rows, model.predict(rows)),
                registered_model_name=name,
                pip_requirements=["lightgbm"],
            )
        MlflowClient().set_registered_model_alias(name, "champion", "1")
    return name, f"runs:/{run.info.run_id}/model", info.model_uri


def adopt(logged: Logged, reference: str) -> Adopted:
    return adopt_model(
        AdoptionRequest(
            reference=ModelReference.parse(reference),
            endpoint_name="fraud",
            model_name=f"{logged.name}-adopted",
            evaluation=EvaluationSpec(file="holdout.csv", task="binary", target="fraud"),
        ),
        load=lambda: ROWS,
        registry=logged.registry,
        snapshots=MemorySnapshots(),
        clock=ManualClock(),
    )


REFERENCES: dict[str, Callable[[Logged], str]] = {
    "version": lambda logged: logged.version,
    "alias": lambda logged: f"models:/{logged.name}@champion",
    "latest": lambda logged: f"models:/{logged.name}/latest",
    "run": lambda logged: logged.run,
    "logged model or folder": lambda logged: logged.model_uri,
}


@pytest.mark.parametrize("reference", REFERENCES.values(), ids=REFERENCES)
def test_a_fetched_model_answers_as_the_model_that_was_logged(
    logged: Logged, reference: Callable[[Logged], str], tmp_path: Path
) -> None:
    found = logged.registry.fetch(
        logged.registry.resolve(ModelReference.parse(reference(logged))), tmp_path / "fetched"
    )
    loaded = logged.registry.open(found)
    assert loaded.predict(ROWS[FEATURES]).tolist() == train_lightgbm().predict(ROWS[FEATURES]).tolist()


def test_an_alias_is_resolved_to_its_version(logged: Logged) -> None:
    for named in (f"models:/{logged.name}@champion", f"models:/{logged.name}/latest", logged.version):
        source = logged.registry.resolve(ModelReference.parse(named))
        assert (source.uri, source.number) == (logged.version, 1)


@pytest.mark.parametrize(
    "named", ["models:/{}/99", "models:/{}@gone", "models:/nobodys/1", "models:/nobodys/latest", "runs:/00ff00ff/model"]
)
def test_what_is_not_there_is_not_found(logged: Logged, named: str) -> None:
    with pytest.raises(ModelNotFound, match="model to adopt"):
        logged.registry.resolve(ModelReference.parse(named.format(logged.name)))


def test_adopted_once_it_is_the_same_version_for_ever(logged: Logged) -> None:
    first = adopt(logged, f"models:/{logged.name}@champion")
    again = adopt(logged, logged.version)
    assert first.model.version == "1.0.0"
    assert (again.known, again.model) == (True, first.model)
    assert logged.registry.versions(f"{logged.name}-adopted") == [first.model]
    assert logged.registry.get(f"{logged.name}-adopted", "1.0.0") == first.model


def test_what_is_registered_answers_as_what_was_logged(logged: Logged) -> None:
    model = adopt(logged, logged.version).model
    own = train_lightgbm().predict(ROWS[FEATURES])
    assert logged.registry.answer(model, ROWS[FEATURES]).predictions == own.tolist()


class TestOnMlflow:
    """What only the real server can show."""

    @pytest.fixture
    def real(self, mlflow_uri: str) -> Logged:
        name = f"fraud-{next(_numbers)}"
        return Logged(MlflowRegistry(mlflow_uri), *log_by_plain_mlflow(mlflow_uri, name))

    def test_what_the_run_recorded_is_known(self, real: Logged) -> None:
        adopted = adopt(real, real.version).model.adopted
        assert adopted is not None
        assert adopted.missing == ()
        assert adopted.training_data.startswith("payments ")

    def test_the_registered_model_of_the_pipeline_is_only_read(self, real: Logged, mlflow_uri: str) -> None:
        client = MlflowClient(tracking_uri=mlflow_uri)
        before = client.get_model_version(real.name, "1")
        adopt(real, real.version)
        assert dict(client.get_model_version(real.name, "1").tags) == dict(before.tags) == {}
        assert [str(each.version) for each in client.search_model_versions(f"name='{real.name}'")] == ["1"]
        assert client.get_registered_model(real.name).aliases == {"champion": "1"}

    def test_what_was_registered_here_is_released_and_not_adopted(self, real: Logged) -> None:
        adopt(real, real.version)
        with pytest.raises(RegistrationRefused, match=r"version: 1\.0\.0"):
            real.registry.resolve(ModelReference.parse(f"models:/{real.name}-adopted/1"))

    def test_the_plane_fetches_the_very_bytes(self, real: Logged, mlflow_uri: str, tmp_path: Path) -> None:
        model = adopt(real, real.version).model
        folder = ArtifactCache(tmp_path).fetch(model.artifact_uri, model.artifact_digest, tracking_uri=mlflow_uri)
        assert (folder / "mlpipex" / "golden.json").is_file()
