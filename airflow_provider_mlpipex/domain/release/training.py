"""The contract between a team's training callable and the provider, and the record a training run leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_mlpipex.domain.names import Name
from airflow_provider_mlpipex.domain.release.release import Adoption, DatasetSnapshot, Digest, RuntimeEnvironment
from airflow_provider_mlpipex.domain.values import Recorded, digest_of

if TYPE_CHECKING:
    import pandas as pd

Task = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True, kw_only=True)
class TrainingContext:
    """What a training callable receives.

    :param features: training rows, feature columns only, in the manifest's order.
    :param target: the label of each row, same index.
    :param parameters: the manifest's ``training.parameters``; their digest decides a patch bump.
    :param seed: fixed by the manifest, so that a run can be reproduced.
    """

    features: pd.DataFrame
    target: pd.Series
    parameters: Mapping[str, Any]
    seed: int


@dataclass(frozen=True, kw_only=True)
class LockedRuntime:
    """The environment that will serve a model, built on this machine.

    :param lock: text of its lock file, which is kept with the model. :param python: its interpreter.
    """

    environment: RuntimeEnvironment
    lock: str
    python: Path


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A fitted model and what the registry logs beside it.

    :param model: a fitted scikit-learn estimator, or an ``mlflow.pyfunc.PythonModel`` for everything else.
    :param predict_method: the estimator method that is served (``predict`` or ``predict_proba``).
    :param examples: the golden rows, feature columns only: answered by the model itself and by the served path before
        registration, and by every model server before it may take traffic.
    :param learned: all training rows, feature columns only: with ``evaluated`` they say what each column holds, gaps
        and bounds included. ``examples`` stand for them where they are ``None``.
    :param code: modules of the team's own that are shipped with the model, beside those that its pickle names.
    :param evaluation_rows: how many rows ``metrics`` are of.
    :param evaluated: those rows, feature columns only: what later traffic is compared with. The model has not learned
        from them, so its scores are as honest as those that it will give in production, and its metrics hold for as
        long as the traffic looks like them. ``None``: drift of this model cannot be measured.
    :param evaluated_at: moment of each of those rows, by which drift is told from the time of day; ``None``: not known.
    :param folder: an MLflow model directory that holds ``model`` already, to be copied as it is; ``None``: it is saved.
    :param runtime: where it must load and answer its golden rows before it is logged; ``None``: this interpreter.
    """

    model: Any
    predict_method: str
    examples: pd.DataFrame
    metrics: Mapping[str, float]
    evaluation_rows: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    evaluated: pd.DataFrame | None = None
    evaluated_at: pd.Series | None = None
    learned: pd.DataFrame | None = None
    code: tuple[str, ...] = ()
    folder: Path | None = None
    runtime: LockedRuntime | None = None

    def ask(self, rows: pd.DataFrame) -> Any:
        """The model's own answer to ``rows``, called as MLflow would call it; ``rows`` stay as they are."""
        return ask(self.model, self.predict_method, rows.copy())


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """A trained model that another process has saved and compared with its served path, and this one cannot load.

    :param folder: its MLflow model directory, complete. Other fields: as of :class:`TrainedModel`.
    """

    folder: Path
    signature: dict[str, object]
    metrics: Mapping[str, float]
    evaluation_rows: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    runtime: LockedRuntime | None = None


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a training gives.

    :param architecture: the types that the model is made of. :param source_digest: of the callable's source and of the
        packages beside it. :param unlabelled: rows without a label.
    """

    trained: TrainedModel | SavedModel
    architecture: str
    source_digest: str
    unlabelled: int


def ask(model: Any, predict_method: str, rows: pd.DataFrame) -> Any:
    """What ``model`` itself answers to ``rows``; MLflow's ``predict(self, context, model_input)`` gets a context."""
    predict = getattr(model, predict_method)
    if next(iter(signature(predict).parameters), "") != "context":
        return predict(rows)
    context = _NoArtifacts()
    if hasattr(model, "load_context"):
        model.load_context(context)
    return predict(context, rows)


@dataclass(frozen=True)
class _NoArtifacts:
    """MLflow's context of a model that was logged without artifacts."""

    artifacts: Mapping[str, str] = field(default_factory=dict)
    model_config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelAnswers:
    """What the model server of a registered model answers to rows, as JSON has it.

    :param predictions: one a row. :param classes: labels in the order of probabilities; ``None`` if it does not say.
    """

    predictions: list[Any]
    classes: list[Any] | None = None


class TrainingRecord(Recorded):
    """Everything a registration will ask for. Empty strings are what is not known yet; registration refuses them.

    :param task: ``None`` only of an adopted model whose rows have no labels.
    :param source_digest: of the training callable's own source and of the packages installed beside it.
    :param evaluation_rows: behind ``metrics``, each with a label.
    :param unlabelled: rows of the snapshot without one: neither learned from nor measured by.
    :param runtime: the locked environment that it is proven in; ``None``: that of the worker.
    """

    added_later = frozenset({"adopted", "runtime"})

    model_name: Name
    endpoint_name: Name
    dataset: DatasetSnapshot
    architecture: str
    configuration_digest: Digest
    code_version: str
    source_digest: str = ""
    task: Task | None
    metrics: dict[str, float] = {}
    evaluation_rows: int = 0
    unlabelled: int = 0
    run_id: str = ""
    artifact_uri: str = ""
    artifact_digest: str = ""
    signature: dict[str, object] = {}
    adopted: Adoption | None = None
    runtime: RuntimeEnvironment | None = None

    @property
    def key(self) -> str:
        """Identity of the work: same data, code, packages and configuration give the same key, so a retry finds its
        run. Whatever else changed is other work."""
        # What was proven in one environment is not proven in another.
        proven_in = [self.runtime.digest] if self.runtime else []
        if self.adopted is not None:
            return digest_of([self.model_name, self.adopted.request_digest, *proven_in])[:16]
        return digest_of(
            [
                self.model_name,
                self.dataset.digest,
                # The same rows split elsewhere are other training rows.
                self.dataset.split_at.isoformat(),
                self.configuration_digest,
                self.architecture,
                self.code_version,
                # A working tree that differs from its commit, or other packages, train another model.
                *([self.source_digest] if self.source_digest else []),
                # The same values from another definition would be served otherwise.
                *([self.dataset.features.digest] if self.dataset.features else []),
                *proven_in,
            ]
        )[:16]

    @property
    def signature_digest(self) -> str:
        return digest_of(self.signature)
