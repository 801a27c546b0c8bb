"""Training runs and model versions in MLflow.

An MLflow version is a counting integer and its aliases can be moved by anybody at any time, so both are only a
shell: the version people use is the semver tag, and the whole :class:`ModelVersion` travels in the version's tags, set
by the same call that creates it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.adapters.mlflow import sources
from airflow_provider_mlpipex.adapters.mlflow.long_tags import joined_text, split_text
from airflow_provider_mlpipex.adapters.mlflow.model import prove_in_clean_process, save_model, settle_environment
from airflow_provider_mlpipex.adapters.mlflow.registration_rules import model_version_of, taken
from airflow_provider_mlpipex.adapters.mlflow.served_path import chunks, served_answers_of
from airflow_provider_mlpipex.adapters.mlflow.server import MlflowServer
from airflow_provider_mlpipex.adapters.mlflow.team_code import fluent_mlflow_at
from airflow_provider_mlpipex.domain.errors import (
    ArtifactMismatch,
    ModelNotFound,
)
from airflow_provider_mlpipex.domain.names import EndpointRef, check_name
from airflow_provider_mlpipex.domain.release.adoption import FetchedModel, ModelReference, ModelSource
from airflow_provider_mlpipex.domain.release.release import ModelVersion, RuntimeEnvironment
from airflow_provider_mlpipex.domain.release.semver import Version
from airflow_provider_mlpipex.domain.release.training import ModelAnswers, SavedModel, TrainedModel, TrainingRecord
from airflow_provider_mlpipex.domain.rollout.ledger_head import LedgerHead
from airflow_provider_mlpipex.serving.model_server.clean_process import ask_in_clean_process

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import DatasetInput, Run
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

#: Of a registered model: where chains of its endpoints have come to, as ``41:HASH``.
_HEAD = "mlpipex.ledger_head."
_KEY, _VERSION, _RECORD, _MODEL = "mlpipex.key", sources.VERSION_TAG, "mlpipex.record", "mlpipex.model_version"
_MODEL_PATH = "model"
#: Beside the model in its run: every lock that it was proven in or released with, under its digest.
_LOCKS = "runtimes"
_MLFLOW_BATCH = 100
#: MLflow's limit for a dataset digest; the whole one is in the input's tags and profile.
_MLFLOW_DIGEST_LENGTH = 36


class MlflowRegistry(MlflowServer):
    """:class:`~airflow_provider_mlpipex.ports.ModelRegistry` on an MLflow tracking server.

    Thread-safe: only an ``MlflowClient`` is used, never MLflow's process-wide active run or tracking URI.

    :param tracking_uri: ``http://127.0.0.1:5000``, or anything else that ``MlflowClient`` takes.
    """

    def team_code(self) -> AbstractContextManager[None]:
        return fluent_mlflow_at(self.tracking_uri)

    def log_training(self, trained: TrainedModel | SavedModel, record: TrainingRecord) -> TrainingRecord:
        """Log the run of ``record.key``, or find it: a retry returns what the first try completed.

        The run is finished last, so a run that a killed try left behind is known by not being finished; it is marked
        killed and its work is done again.

        :raises TrainingFailed: the model cannot be saved or does not answer its example rows.
        """
        check_name(record.model_name, what="model name")
        with (
            self._answering(f"log a training run of {record.model_name}"),
            tempfile.TemporaryDirectory(prefix="mlpipex-") as scratch,
        ):
            experiment = self._experiment(record.model_name)
            for run in self._runs(experiment, record.key):
                if run.info.status == "FINISHED":
                    return TrainingRecord.model_validate_json(joined_text(_RECORD, run.data.tags))
                if run.info.status == "RUNNING":
                    self._client.set_terminated(run.info.run_id, "KILLED")
            if isinstance(trained, SavedModel):
                folder, signature = trained.folder, trained.signature
            else:
                folder = Path(scratch) / _MODEL_PATH
                signature = save_model(trained, folder)
            prove_in_clean_process(folder, runtime=trained.runtime)
            return self._log_run(experiment, trained, record, folder=folder, signature=signature)

    def register(self, record: TrainingRecord, *, version: str) -> ModelVersion:
        """Create the model version, or find the one that ``record`` already has.

        MLflow cannot create a version only if its semver is free. So the version is created and all of them are read
        back: of two with the same semver the lower MLflow number was first and stays, the other is taken away again.

        :raises RegistrationRefused: something is missing in ``record``, or another record holds ``version``.
        """
        model = model_version_of(record, version)
        with self._answering(f"register {model.name} {version}"):
            registered = self._held(model.name)
            for held in registered:
                if held.tags[_KEY] == record.key:
                    return _model_of(held)
            for held in registered:
                if held.tags[_VERSION] == version:
                    raise taken(model, by=_model_of(held))
            self._ensure_registered_model(model.name)
            mine = self._client.create_model_version(
                name=model.name,
                source=f"{self._client.get_run(record.run_id).info.artifact_uri}/{_MODEL_PATH}",
                run_id=record.run_id,
                tags={_KEY: record.key, _VERSION: version, **split_text(_MODEL, model.model_dump_json())},
                description=f"{model.name} {version}: {model.architecture}",
                await_creation_for=0,
            )
            first = next(held for held in self._held(model.name) if held.tags[_VERSION] == version)
            if first.version != mine.version:
                self._client.delete_model_version(model.name, str(mine.version))
                if first.tags[_KEY] != record.key:
                    raise taken(model, by=_model_of(first))
            return _model_of(first)

    def get(self, name: str, version: str) -> ModelVersion:
        """:raises ModelNotFound: no such version."""
        return _model_of(self._find(name, version))

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions in semver order."""
        check_name(name, what="model name")
        with self._answering(f"list the versions of {name}"):
            return sorted(
                (_model_of(held) for held in self._held(name)), key=lambda model: Version.parse(model.version)
            )

    def keep_lock(self, model: ModelVersion, runtime: RuntimeEnvironment, text: str) -> str:
        with self._answering(f"keep lock {runtime.digest[:12]} with {model.name} {model.version}"):
            return self._keep_lock(model.run_id, runtime, text)

    def answer(self, model: ModelVersion, rows: pd.DataFrame, *, python: Path | None = None) -> ModelAnswers:
        """What clients of ``model`` get for ``rows``, from a clean process: it may ship other code than this one's.

        :raises ArtifactMismatch: the bytes are not the registered ones. Nothing of them was unpickled.
        :raises ReleaseNotReady: it does not load there.
        :raises SignatureMismatch: its server refuses such rows.
        """
        with self._downloaded(model) as folder:
            clean = ask_in_clean_process(folder, chunks(rows), python=python)
        return served_answers_of(model, clean)

    def prove(self, model: ModelVersion, *, python: Path) -> None:
        with self._downloaded(model) as folder:
            prove_in_clean_process(folder, python=python)

    @contextmanager
    def _downloaded(self, model: ModelVersion) -> Iterator[Path]:
        """A copy of ``model``, verified by its digest."""
        from airflow_provider_mlpipex.serving.artifacts import directory_digest

        with tempfile.TemporaryDirectory(prefix="mlpipex-model-") as scratch:
            with self._answering(f"download {model.name} {model.version}"):
                folder = self._client.download_artifacts(model.run_id, _MODEL_PATH, scratch)
            if (digest := directory_digest(Path(folder))) != model.artifact_digest:
                raise ArtifactMismatch(
                    f"model {model.name} {model.version} at {model.artifact_uri}",
                    value=digest,
                    limit=f"artifact digest {model.artifact_digest}",
                    remedy="do not use this model; find out who changed the artifact store, and train again",
                )
            yield Path(folder)

    def _keep_lock(self, run_id: str, runtime: RuntimeEnvironment, text: str) -> str:
        file = f"{_LOCKS}/{runtime.digest}.txt"
        if file not in {kept.path for kept in self._client.list_artifacts(run_id, _LOCKS)}:
            self._client.log_text(run_id, text, file)
        return f"runs:/{run_id}/{file}"

    def resolve(self, reference: ModelReference) -> ModelSource:
        with self._answering(f"find {reference.text}"):
            return sources.resolve(self._client, reference, at=self._address)

    def fetch(self, source: ModelSource, folder: Path) -> FetchedModel:
        with self._answering(f"download {source.uri}"):
            return sources.read_folder(
                source, sources.download(self._client, source, folder, tracking_uri=self.tracking_uri, at=self._address)
            )

    def open(self, fetched: FetchedModel) -> Any:
        settle_environment()
        return sources.load(fetched)

    def page(self, run_id: str) -> str:
        """The run in MLflow's UI; empty where the tracking URI is no web server."""
        if not self.tracking_uri.startswith("http"):
            return ""
        with self._answering(f"find run {run_id}"):
            experiment = self._client.get_run(run_id).info.experiment_id
        # The link goes into XCom and reviews: who opens it logs in for themselves.
        return f"{self._address}/#/experiments/{experiment}/runs/{run_id}"

    def mirror_alias(self, model: ModelVersion, alias: str) -> None:
        """Point ``alias`` at ``model``; a mirror of the ledger, for people who browse MLflow."""
        check_name(alias, what="alias")
        held = self._find(model.name, model.version)
        with self._answering(f"set the alias {alias} of {model.name}"):
            self._client.set_registered_model_alias(model.name, alias, str(held.version))

    def anchor_head(self, model: str, endpoint: EndpointRef, head: LedgerHead) -> None:
        with self._answering(f"note the ledger's head at {model}"):
            self._client.set_registered_model_tag(
                model, f"{_HEAD}{endpoint.environment}.{endpoint.name}", f"{head.seq}:{head.hash}"
            )

    def anchored_heads(self, model: str) -> dict[str, LedgerHead]:
        with self._answering(f"read the ledger's heads at {model}"):
            models = self._client.search_registered_models(f"name = '{check_name(model, what='model name')}'")
        tags = models[0].tags if models else {}
        heads = {}
        for key, text in tags.items():
            environment, _, name = key.removeprefix(_HEAD).partition(".")
            seq, _, digest = text.partition(":")
            # What is no head, somebody else has written.
            with suppress(ValueError):
                if key.startswith(_HEAD):
                    heads[f"{environment}/{name}"] = LedgerHead(seq=int(seq), hash=digest)
        return heads

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        # Asked to create first: of two tasks that both saw no experiment, one would fail.
        try:
            return self._client.create_experiment(name)
        except MlflowException:
            experiment = self._client.get_experiment_by_name(name)
            if experiment is None:
                raise
            return str(experiment.experiment_id)

    def _runs(self, experiment: str, key: str) -> list[Run]:
        query = f"tags.`{_KEY}` = '{key}'"
        return list(self._client.search_runs([experiment], query, order_by=["attributes.start_time ASC"]))

    def _log_run(
        self,
        experiment: str,
        trained: TrainedModel | SavedModel,
        record: TrainingRecord,
        *,
        folder: Path,
        signature: dict[str, object],
    ) -> TrainingRecord:
        from mlflow.entities import Metric, Param, RunTag

        from airflow_provider_mlpipex.serving.artifacts import directory_digest

        client = self._client
        tags = {
            _KEY: record.key,
            "mlpipex.endpoint": record.endpoint_name,
            "mlflow.source.git.commit": record.code_version,
        }
        run_id = client.create_run(experiment, run_name=f"{record.model_name}-{record.key}", tags=tags).info.run_id
        now = time.time_ns() // 1_000_000
        metrics = {**trained.metrics, "evaluation_rows": float(trained.evaluation_rows)}
        client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])
        params = [Param(name, str(value)) for name, value in trained.parameters.items()]
        for start in range(0, len(params), _MLFLOW_BATCH):
            client.log_batch(run_id, params=params[start : start + _MLFLOW_BATCH])
        client.log_inputs(run_id, [_dataset_input(record)])
        client.log_artifacts(run_id, str(folder), _MODEL_PATH)
        proven_in = trained.runtime and trained.runtime.environment.model_copy(
            update={"lock_uri": self._keep_lock(run_id, trained.runtime.environment, trained.runtime.lock)}
        )
        completed = record.model_copy(
            update={
                "run_id": run_id,
                "artifact_uri": f"runs:/{run_id}/{_MODEL_PATH}",
                "artifact_digest": directory_digest(folder),
                "signature": signature,
                "runtime": proven_in,
                "metrics": dict(trained.metrics),
                "evaluation_rows": trained.evaluation_rows,
            }
        )
        parts = split_text(_RECORD, completed.model_dump_json())
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in parts.items()])
        client.set_terminated(run_id, "FINISHED")
        return completed

    def _ensure_registered_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _held(self, name: str) -> list[MlflowVersion]:
        """Versions that were registered here, lowest MLflow number first, one for each semver."""
        versions: list[MlflowVersion] = []
        token = None
        while True:
            page = self._client.search_model_versions(f"name='{name}'", page_token=token)
            versions += [held for held in page if _VERSION in held.tags]
            token = page.token
            if not token:
                break
        first: dict[str, MlflowVersion] = {}
        for held in sorted(versions, key=lambda each: int(each.version)):
            first.setdefault(held.tags[_VERSION], held)
        return list(first.values())

    def _find(self, name: str, version: str) -> MlflowVersion:
        check_name(name, what="model name")
        with self._answering(f"find {name} {version}"):
            held = {each.tags[_VERSION]: each for each in self._held(name)}
        if version not in held:
            raise ModelNotFound(
                f"model {name} in MLflow at {self._address}",
                value=version,
                limit=f"one of {', '.join(held) or 'no version at all'}",
                remedy="pin a version that is registered, or register this one",
            )
        return held[version]


def _dataset_input(record: TrainingRecord) -> DatasetInput:
    import json

    from mlflow.entities import Dataset, DatasetInput, InputTag

    snapshot = record.dataset
    facts = {
        "mlflow.data.context": "training",
        "mlpipex.digest": snapshot.digest,
        "mlpipex.window_start": snapshot.window_start.isoformat(),
        "mlpipex.split_at": snapshot.split_at.isoformat(),
        "mlpipex.window_end": snapshot.window_end.isoformat(),
    }
    columns = [{"name": name, "type": kind, "required": True} for name, kind in snapshot.columns.items()]
    return DatasetInput(
        dataset=Dataset(
            name=snapshot.name,
            digest=snapshot.digest[:_MLFLOW_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": snapshot.uri}),
            schema=json.dumps({"mlflow_colspec": columns}),
            profile=json.dumps({"num_rows": snapshot.rows, "digest": snapshot.digest}),
        ),
        tags=[InputTag(name, value) for name, value in facts.items()],
    )


def _model_of(held: MlflowVersion) -> ModelVersion:
    return ModelVersion.model_validate_json(joined_text(_MODEL, held.tags))
