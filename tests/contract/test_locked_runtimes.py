"""A lock of its own from training to a fresh plane, on a real MLflow and in real environments built from it."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

import airflow_provider_mlpipex.demo
from airflow_provider_mlpipex.adapters.embedded.runtimes import LockedRuntimes
from airflow_provider_mlpipex.adapters.mlflow.registry import MlflowRegistry
from airflow_provider_mlpipex.domain.errors import RuntimeMismatch, TrainingFailed
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.release.release import ModelVersion, Release
from airflow_provider_mlpipex.domain.release.training import TrainingRecord
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout.opening import make_release
from airflow_provider_mlpipex.services.training.locked_runtime import locked_runtime, require_proven
from airflow_provider_mlpipex.services.training.register import register_model
from airflow_provider_mlpipex.services.training.train import reproduce, train_model
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support.factories import NOON
from tests.support.manifests import make_manifest

#: What the demo's model server needs, and what a training needs besides: pinned as this environment has them.
SERVING = (Path(airflow_provider_mlpipex.demo.__file__).parent / "runtime-1.1.0.txt").read_text(encoding="utf-8")
PYARROW = f"pyarrow=={__import__('pyarrow').__version__}\n"
LOCK = "serving.txt"
HOURS = pd.date_range(NOON - timedelta(days=10), NOON, freq="h", inclusive="left")
AMOUNT = np.arange(len(HOURS)) % 7.0
ROWS = pd.DataFrame({"at": HOURS, "amount": AMOUNT, "fraud": (AMOUNT > 3).astype(int)})

MODULE = '''
import sys
from sklearn.linear_model import LogisticRegression


class Shifted(LogisticRegression):
    """Answers with the help of a package that only the lock has."""

    def predict_proba(self, X):
        import tiny_wheel

        return super().predict_proba(X - tiny_wheel.ANSWER)


def train(context):
    import tiny_wheel

    print("trained by", sys.executable, file=sys.stderr)
    return Shifted().fit(context.features - tiny_wheel.ANSWER, context.target)


def train_plainly(context):
    return LogisticRegression().fit(context.features, context.target)


def train_and_raise(context):
    raise ValueError(f"cannot learn from {context.features['amount'].max()}")


def train_and_die(context):
    import os

    os._exit(7)
'''


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package index in a folder: ``tiny-wheel`` is on no other one."""
    folder = tmp_path_factory.mktemp("wheels")
    for version, answer in (("1.2.3", 42), ("1.2.4", 43)):
        dist = f"tiny_wheel-{version}.dist-info"
        with zipfile.ZipFile(folder / f"tiny_wheel-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("tiny_wheel.py", f"ANSWER = {answer}\n")
            wheel.writestr(f"{dist}/METADATA", f"Metadata-Version: 2.1\nName: tiny-wheel\nVersion: {version}\n")
            tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            wheel.writestr(f"{dist}/WHEEL", tag)
            wheel.writestr(f"{dist}/RECORD", f"tiny_wheel.py,,\n{dist}/METADATA,,\n{dist}/WHEEL,,\n{dist}/RECORD,,\n")
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of environments for all tests: each lock is built once."""
    return tmp_path_factory.mktemp("runtimes")


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the team's own, beside its manifest and installed nowhere."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "acme_scorer.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield "acme_scorer"
    sys.modules.pop("acme_scorer", None)


class Team:
    """A team with a manifest, its lock and its own MLflow model."""

    def __init__(self, uri: str, built: Path, wheels: Path, folder: Path, *, name: str) -> None:
        self.folder, self._name = folder, name
        self._options = f"--find-links {wheels}\n"
        runtimes = LockedRuntimes(built, tracking_uri=uri)
        self.platform: Platform = replace(memory_platform(), registry=MlflowRegistry(uri), runtimes=runtimes)

    def lock(self, *lines: str, version: str = "1.2.3") -> None:
        text = self._options + "".join(lines) + f"tiny-wheel=={version}\n"
        (self.folder / LOCK).write_text(text, encoding="utf-8")

    def manifest(self, callable: str, *, runtime: str = "", version: str = "1.0.0") -> Manifest:
        return make_manifest(
            ("  name: fraud-scorer", f"  name: {self._name}"),
            ("callable: acme.fraud:train", f"callable: acme_scorer:{callable}{runtime}"),
            ("parameters: {depth: 3}", "parameters: {}"),
            ("columns: [amount, country]", "columns: [amount]"),
            ("version: 1.0.0\n  environment: provider", f"version: {version}\n  lock: {LOCK}"),
        )

    def train(self, manifest: Manifest) -> TrainingRecord:
        snapshot = self.platform.snapshots.write(
            ROWS,
            name="fraud-scorer",
            time_column="at",
            window_start=NOON - timedelta(days=10),
            split_at=NOON - timedelta(days=3),
            window_end=NOON,
        )
        return train_model(
            manifest,
            snapshot,
            store=self.platform.snapshots,
            registry=self.platform.registry,
            validator=self.platform.validator,
            code_version="0123abc",
            runtime=locked_runtime(self.platform, manifest, manifest_dir=self.folder),
            runtimes=self.platform.runtimes,
        )

    def register(self, manifest: Manifest) -> ModelVersion:
        return register_model(manifest, self.train(manifest), registry=self.platform.registry).model

    def release(self, manifest: Manifest, model: ModelVersion) -> Release:
        return make_release(self.platform, manifest, model, manifest_dir=self.folder)


@pytest.fixture
def team(mlflow_uri: str, built: Path, wheels: Path, tmp_path: Path, request: pytest.FixtureRequest, acme: str) -> Team:
    name = f"locked-{abs(hash(request.node.name))}"
    made = Team(mlflow_uri, built, wheels, tmp_path, name=name)
    made.lock(SERVING, PYARROW)
    return made


SERVING_TOO = "\n  runtime: serving"


def test_a_model_is_trained_where_it_serves_and_rebuilt_without_the_file(
    team: Team, mlflow_uri: str, built: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModuleNotFoundError):
        __import__("tiny_wheel")
    manifest = team.manifest("train", runtime=SERVING_TOO)
    record = team.train(manifest)
    assert record.runtime and record.metrics["accuracy"] == 1.0
    assert f"trained by {built}" in capfd.readouterr().err
    # The same again is the same run, whatever it cost.
    assert team.train(manifest).run_id == record.run_id
    model = register_model(manifest, record, registry=team.platform.registry).model
    release = team.release(manifest, model)
    assert release.runtime == record.runtime == model.runtime

    # The lock lies with the model, under its digest.
    digest = release.runtime.digest
    assert release.runtime.lock_uri == f"runs:/{record.run_id}/runtimes/{digest}.txt"
    kept = mlflow.MlflowClient(mlflow_uri).download_artifacts(record.run_id, f"runtimes/{digest}.txt", str(tmp_path))
    assert Path(kept).read_text(encoding="utf-8") == (team.folder / LOCK).read_text(encoding="utf-8")

    # A fresh plane builds it anew when the file has gone; what it answers are the model's own answers.
    (team.folder / LOCK).unlink()
    fresh = LockedRuntimes(tmp_path / "fresh-plane", tracking_uri=mlflow_uri)
    python = fresh.python_for(Release.model_validate_json(release.model_dump_json()).runtime)
    assert str(python).startswith(str(tmp_path / "fresh-plane"))
    answers = team.platform.registry.answer(model, ROWS[["amount"]], python=python).predictions
    assert [int(late > 0.5) for _, late in answers] == ROWS["fraud"].tolist()

    # And what was trained there is reproduced there, from the lock that was kept.
    told = reproduce(release, manifest, store=team.platform.snapshots, registry=team.platform.registry, runtimes=fresh)
    assert {values["difference"] for values in told.values()} == {0.0}


def test_a_model_is_proven_in_the_runtime_that_it_was_not_trained_in(team: Team) -> None:
    manifest = team.manifest("train_plainly")
    model = team.register(manifest)
    assert model.runtime and model.runtime.digest == team.release(manifest, model).runtime.digest


def test_what_a_runtime_lacks_is_named_at_training(team: Team) -> None:
    team.lock("".join(line for line in SERVING.splitlines(keepends=True) if not line.startswith("scikit-learn==")))
    with pytest.raises(TrainingFailed, match="No module named 'sklearn'") as refused:
        team.train(team.manifest("train_plainly"))
    assert "bump runtime.version" in refused.value.remedy
    with pytest.raises(RuntimeMismatch, match="lacks .*pyarrow, scikit-learn"):
        team.train(team.manifest("train", runtime=SERVING_TOO))


@pytest.mark.parametrize(
    ("callable", "said"), [("train_and_raise", "ValueError: cannot learn from …"), ("train_and_die", "exit code 7")]
)
def test_a_training_that_fails_there_says_what_one_here_says(team: Team, callable: str, said: str) -> None:
    with pytest.raises(TrainingFailed) as failed:
        team.train(team.manifest(callable, runtime=SERVING_TOO))
    assert said in str(failed.value)


def test_one_version_of_a_runtime_is_one_lock_of_all_that_was_ever_registered(team: Team) -> None:
    first = team.manifest("train_plainly")
    model = team.register(first)
    team.lock(SERVING, PYARROW, version="1.2.4")
    with pytest.raises(RuntimeMismatch, match=f"means for model {model.name} 1.0.0"):
        team.train(first)
    # Another version of the runtime: proven anew, so another run and a patch of the model.
    bumped = team.manifest("train_plainly", version="1.1.0")
    again = team.register(bumped)
    assert (again.version, again.run_id != model.run_id) == ("1.0.1", True)
    team.lock(SERVING, PYARROW)
    with pytest.raises(RuntimeMismatch, match="means for model"):
        team.release(bumped, model)


def test_a_model_of_before_is_proven_in_the_lock_that_it_is_released_with(team: Team) -> None:
    worker = team.manifest("train_plainly").to_json()
    worker["runtime"] = {"version": "0.9.0", "environment": "provider"}
    plain = Manifest.model_validate(worker)
    model = team.register(plain)
    assert model.runtime is None
    locked = team.manifest("train_plainly")
    require_proven(team.platform, locked, model, manifest_dir=team.folder)
    release = team.release(locked, model)
    assert release.runtime.lock_uri == f"runs:/{model.run_id}/runtimes/{release.runtime.digest}.txt"
    assert team.platform.runtimes.lock_text(release.runtime) == (team.folder / LOCK).read_text(encoding="utf-8")
    team.lock("".join(line for line in SERVING.splitlines(keepends=True) if not line.startswith("scikit-learn==")))
    with pytest.raises(TrainingFailed, match="No module named 'sklearn'"):
        require_proven(team.platform, team.manifest("train_plainly", version="1.1.0"), model, manifest_dir=team.folder)


def test_a_lock_that_was_changed_in_the_registry_builds_nothing(team: Team, mlflow_uri: str, tmp_path: Path) -> None:
    manifest = team.manifest("train_plainly")
    runtime = team.release(manifest, team.register(manifest)).runtime
    run_id = (runtime.lock_uri or "").split("/")[1]
    path = f"runtimes/{runtime.digest}.txt"
    mlflow.MlflowClient(mlflow_uri).log_text(run_id, "tiny-wheel==1.2.4\n", path)
    fresh = LockedRuntimes(tmp_path / "fresh", tracking_uri=mlflow_uri)
    with pytest.raises(RuntimeMismatch, match=f"pinned digest {runtime.digest}"):
        fresh.python_for(runtime)
