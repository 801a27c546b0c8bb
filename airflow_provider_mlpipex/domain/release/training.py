"""The contract between a team's training callable and the provider, and the record a training run leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_mlpipex.domain.names import Name
from airflow_provider_mlpipex.domain.release.release import Adoption, DatasetSnapshot, Digest
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
class TrainedModel:
    """A fitted model and what the registry logs beside it.

    :param model: a fitted scikit-learn estimator, or an ``mlflow.pyfunc.PythonModel`` for everything else.
    :param predict_method: the estimator method that is served (``predict`` or ``predict_proba``).
    :param examples: up to 20 evaluation rows, feature columns only: the golden rows, answered by the model before
        registration and by every model server before it may take traffic.
    :param evaluation_rows: how many rows ``metrics`` are of.
    :param evaluated: those rows, feature columns only: what later traffic is compared with. The model has not learned
        from them, so its scores are as honest as those that it will give in production, and its metrics hold for as
        long as the traffic looks like them. ``None``: drift of this model cannot be measured.
    :param folder: an MLflow model directory that holds ``model`` already, to be copied as it is; ``None``: it is saved.
    """

    model: Any
    predict_method: str
    examples: pd.DataFrame
    metrics: Mapping[str, float]
    evaluation_rows: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    evaluated: pd.DataFrame | None = None
    folder: Path | None = None


class TrainingRecord(Recorded):
    """Everything a registration will ask for. Empty strings are what is not known yet; registration refuses them.

    :param task: ``None`` only of an adopted model whose rows have no labels.
    """

    added_later = frozenset({"adopted"})

    model_name: Name
    endpoint_name: Name
    dataset: DatasetSnapshot
    architecture: str
    configuration_digest: Digest
    code_version: str
    task: Task | None
    metrics: dict[str, float] = {}
    evaluation_rows: int = 0
    run_id: str = ""
    artifact_uri: str = ""
    artifact_digest: str = ""
    signature: dict[str, object] = {}
    adopted: Adoption | None = None

    @property
    def key(self) -> str:
        """Identity of the work: same data, code and configuration give the same key, so a retry finds its run."""
        if self.adopted is not None:
            return digest_of([self.model_name, self.adopted.request_digest])[:16]
        return digest_of(
            [
                self.model_name,
                self.dataset.digest,
                # The same rows split elsewhere are other training rows.
                self.dataset.split_at.isoformat(),
                self.configuration_digest,
                self.architecture,
                self.code_version,
                # The same values from another definition would be served otherwise.
                *([self.dataset.features.digest] if self.dataset.features else []),
            ]
        )[:16]

    @property
    def signature_digest(self) -> str:
        return digest_of(self.signature)
