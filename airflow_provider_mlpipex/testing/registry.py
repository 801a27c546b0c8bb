"""Model registry in memory: the port's fake, with the same refusals and the same idempotence."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.adapters.mlflow import sources
from airflow_provider_mlpipex.adapters.mlflow.registration_rules import model_version_of, taken
from airflow_provider_mlpipex.adapters.mlflow.team_code import fluent_mlflow_at
from airflow_provider_mlpipex.domain.errors import ModelNotFound, ReleaseNotReady
from airflow_provider_mlpipex.domain.names import EndpointRef, check_name
from airflow_provider_mlpipex.domain.release.adoption import FetchedModel, ModelReference, ModelSource
from airflow_provider_mlpipex.domain.release.release import ModelVersion, RuntimeEnvironment
from airflow_provider_mlpipex.domain.release.semver import Version
from airflow_provider_mlpipex.domain.release.training import ModelAnswers, SavedModel, TrainedModel, TrainingRecord
from airflow_provider_mlpipex.domain.rollout.ledger_head import LedgerHead
from airflow_provider_mlpipex.serving.artifacts import verify_directory

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.domain.release.training import LockedRuntime


class MemoryRegistry:
    """Runs, versions and aliases in dicts; models as MLflow directories under a temporary folder.

    ``aliases`` (``{model: {alias: version}}``) and ``folders`` (``{run id: path}``) are public for tests to look at;
    ``answers`` (``{version: rows -> predictions}``) is what versions say that were registered without being logged;
    ``elsewhere`` is what other pipelines have logged: an alias beside the version that it names, and that beside its
    folder. A source of its own facts is put in as ``facts``.
    """

    def __init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="mlpipex-registry-")
        self._lock = threading.Lock()
        self._records: dict[str, TrainingRecord] = {}
        self._versions: dict[str, dict[str, tuple[str, ModelVersion]]] = {}
        self.aliases: dict[str, dict[str, str]] = {}
        #: Model -> endpoint -> head of its chain.
        self.anchors: dict[str, dict[str, LedgerHead]] = {}
        self.folders: dict[str, Path] = {}
        self.answers: dict[str, Callable[[pd.DataFrame], list[Any]]] = {}
        self.elsewhere: dict[str, str | Path] = {}
        self.facts: dict[str, ModelSource] = {}

    def team_code(self) -> AbstractContextManager[None]:
        return fluent_mlflow_at("")

    def log_training(self, trained: TrainedModel | SavedModel, record: TrainingRecord) -> TrainingRecord:
        from airflow_provider_mlpipex.adapters.mlflow.model import save_model
        from airflow_provider_mlpipex.serving.artifacts import directory_digest

        with self._lock:
            if record.key not in self._records:
                run_id = f"run-{record.key}"
                folder = Path(self._scratch.name) / run_id
                if isinstance(trained, SavedModel):
                    shutil.copytree(trained.folder, folder)
                    signature = trained.signature
                else:
                    signature = save_model(trained, folder)
                self.folders[run_id] = folder
                proven_in = self._proven(trained.runtime, run_id) if trained.runtime else None
                self._records[record.key] = record.model_copy(
                    update={
                        "run_id": run_id,
                        "artifact_uri": folder.as_uri(),
                        "artifact_digest": directory_digest(folder),
                        "signature": signature,
                        "runtime": proven_in,
                        "metrics": dict(trained.metrics),
                        "evaluation_rows": trained.evaluation_rows,
                    }
                )
            return self._records[record.key]

    def register(self, record: TrainingRecord, *, version: str) -> ModelVersion:
        model = model_version_of(record, version)
        with self._lock:
            versions = self._versions.setdefault(model.name, {})
            for key, held in versions.values():
                if key == record.key:
                    return held
            if version in versions:
                raise taken(model, by=versions[version][1])
            versions[version] = (record.key, model)
            return model

    def get(self, name: str, version: str) -> ModelVersion:
        known = {model.version: model for model in self.versions(name)}
        if version not in known:
            raise ModelNotFound(
                f"model {name}",
                value=version,
                limit=f"one of {', '.join(known) or 'no version at all'}",
                remedy="pin a version that is registered, or register this one",
            )
        return known[version]

    def versions(self, name: str) -> list[ModelVersion]:
        check_name(name, what="model name")
        with self._lock:
            return sorted(
                (model for _, model in self._versions.get(name, {}).values()),
                key=lambda model: Version.parse(model.version),
            )

    def keep_lock(self, model: ModelVersion, runtime: RuntimeEnvironment, text: str) -> str:
        return self._keep_lock(model.run_id, runtime, text)

    def _proven(self, runtime: LockedRuntime, run_id: str) -> RuntimeEnvironment:
        from airflow_provider_mlpipex.adapters.mlflow.model import prove_in_clean_process

        prove_in_clean_process(self.folders[run_id], runtime=runtime)
        kept = self._keep_lock(run_id, runtime.environment, runtime.lock)
        return runtime.environment.model_copy(update={"lock_uri": kept})

    def _keep_lock(self, run_id: str, runtime: RuntimeEnvironment, text: str) -> str:
        kept = Path(self._scratch.name) / "runtimes" / run_id / f"{runtime.digest}.txt"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(text, encoding="utf-8")
        return kept.as_uri()

    def prove(self, model: ModelVersion, *, python: Path) -> None:
        from airflow_provider_mlpipex.adapters.mlflow.model import prove_in_clean_process

        folder = self.folders[model.run_id]
        verify_directory(folder, model.artifact_digest)
        prove_in_clean_process(folder, python=python)

    def answer(self, model: ModelVersion, rows: pd.DataFrame, *, python: Path | None = None) -> ModelAnswers:
        from airflow_provider_mlpipex.adapters.mlflow.served_path import chunks, served_answers_of
        from airflow_provider_mlpipex.serving.model_server.clean_process import answer_here

        if model.version in self.answers:
            return ModelAnswers(predictions=self.answers[model.version](rows))
        if model.run_id not in self.folders:
            raise ReleaseNotReady(
                f"model {model.name} {model.version}",
                value="never logged in this registry",
                limit="a model that can be asked",
                remedy="log it with log_training, or say in registry.answers what it answers",
            )
        folder = self.folders[model.run_id]
        verify_directory(folder, model.artifact_digest)
        return served_answers_of(model, answer_here(folder, chunks(rows)))

    def resolve(self, reference: ModelReference) -> ModelSource:
        uri, held = reference.text, self.elsewhere.get(reference.text)
        if isinstance(held, str):
            uri, held = held, self.elsewhere.get(held)
        if held is None:
            raise sources.not_there(reference, at="memory")
        named = ModelReference.parse(uri)
        number = int(named.which) if named.kind == "version" else None
        return self.facts.get(uri) or ModelSource(uri=uri, number=number)

    def fetch(self, source: ModelSource, folder: Path) -> FetchedModel:
        held = self.elsewhere[source.uri]
        return sources.read_folder(source, Path(shutil.copytree(held, folder / "model", symlinks=True)))

    def open(self, fetched: FetchedModel) -> Any:
        return sources.load(fetched)

    def page(self, run_id: str) -> str:
        return ""

    def mirror_alias(self, model: ModelVersion, alias: str) -> None:
        check_name(alias, what="alias")
        self.get(model.name, model.version)
        self.aliases.setdefault(model.name, {})[alias] = model.version

    def anchor_head(self, model: str, endpoint: EndpointRef, head: LedgerHead) -> None:
        self.anchors.setdefault(model, {})[str(endpoint)] = head

    def anchored_heads(self, model: str) -> dict[str, LedgerHead]:
        return dict(self.anchors.get(model, {}))
