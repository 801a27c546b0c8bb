"""The deployment manifest: what is released, and under which numbers it may reach users.

These models check each field for itself. ``validation.loading`` reads them from YAML with line numbers and applies
``validation.rules``, which refuse what can never work.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    model_validator,
)

from airflow_provider_mlpipex.domain.fields.quantities import Ratio
from airflow_provider_mlpipex.domain.fields.types import (
    Words,
)
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.manifest.drift_block import DriftSpec
from airflow_provider_mlpipex.domain.manifest.drills_block import DrillsSpec
from airflow_provider_mlpipex.domain.manifest.evaluation_block import EvaluationSpec, Labels
from airflow_provider_mlpipex.domain.manifest.features_block import FeaturesSpec
from airflow_provider_mlpipex.domain.manifest.gate_lists import gate_of
from airflow_provider_mlpipex.domain.manifest.model_block import ModelSpec
from airflow_provider_mlpipex.domain.manifest.outcomes_block import OutcomesSpec
from airflow_provider_mlpipex.domain.manifest.review_block import ReviewSpec
from airflow_provider_mlpipex.domain.manifest.runtime_block import RuntimeSpec
from airflow_provider_mlpipex.domain.manifest.stage_blocks import CanarySpec, RollbackSpec, ShadowSpec
from airflow_provider_mlpipex.domain.manifest.traffic_block import TrafficSpec
from airflow_provider_mlpipex.domain.manifest.training_block import DataSpec, TrainingSpec
from airflow_provider_mlpipex.domain.names import Name
from airflow_provider_mlpipex.domain.quality.expectations import QualitySpec
from airflow_provider_mlpipex.domain.rollout.ending import Ending
from airflow_provider_mlpipex.domain.values import Recorded, Value, digest_of

API_VERSION = "mlpipex/v1"


class Owner(Value):
    """Who answers for the endpoint."""

    team: Words
    contact: Words = Field(description="where on-call is")


OfflineGates = tuple[Annotated[Gate, gate_of("evaluation")], ...]


#: What an environment asks of an adopted model.
Provenance = Literal["required", "recorded-as-missing"]


class AlertsSpec(Value):
    """Which endings are told, and where. A rollback always is."""

    on: tuple[Ending, ...] = ("rolled-back", "rejected")
    channel: Name


class EnvironmentSpec(Recorded):
    """What one environment demands.

    :param serve: whether it runs releases at all, or only judges them.
    :param false_alarms: probability that live gates end a rollout which keeps every limit, over all their looks
        together (``live_gates`` shares it among them).
    :param drift: by what numbers what is served may move; a manifest of before there was such a block keeps its digest.
    :param outcomes: how good a release must prove to be once labels come; of this block the same holds.
    :param provenance: whether an adopted model may be released here of which nobody knows everything that a trained one
        brings: training data, code version, configuration, signature, metrics. ``required`` if not given.
    :param drills: whether releases may be broken on purpose here; the last environment that serves asks for this word.
    """

    added_later = frozenset({"drift", "outcomes", "provenance", "drills"})

    serve: bool = True
    false_alarms: Ratio = Field(default=0.05, gt=0, lt=1)
    gates: OfflineGates = ()
    review: ReviewSpec | None = None
    shadow: ShadowSpec | None = None
    canary: CanarySpec | None = None
    rollback: RollbackSpec | None = None
    drift: DriftSpec | None = None
    outcomes: OutcomesSpec | None = None
    provenance: Provenance | None = None
    alerts: AlertsSpec | None = None
    drills: DrillsSpec | None = None


class Manifest(Recorded):
    """One deployment manifest, ``apiVersion: mlpipex/v1``.

    :param data: needed where something is trained.
    :param evaluation: rows that an adopted model is proven on; its inputs are those of its own signature, unless
        ``features`` names them.
    """

    added_later = frozenset({"evaluation"})
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_alias=True, validate_by_name=True, serialize_by_alias=True
    )

    api_version: Literal["mlpipex/v1"] = Field(alias="apiVersion")
    kind: Literal["Deployment"]
    name: Name
    owner: Owner
    model: ModelSpec
    training: TrainingSpec | None = None
    runtime: RuntimeSpec
    data: DataSpec | None = None
    evaluation: EvaluationSpec | None = None
    quality: QualitySpec = QualitySpec()
    features: FeaturesSpec = FeaturesSpec()
    traffic: TrafficSpec = TrafficSpec()
    environments: dict[Name, EnvironmentSpec] = Field(min_length=1, description="in order of promotion")

    @model_validator(mode="before")
    @classmethod
    def _name_of_adopted(cls, raw: Any) -> Any:
        model = raw.get("model") if isinstance(raw, Mapping) else None
        if not isinstance(model, Mapping) or not model.get("adopt") or model.get("name") is not None:
            return raw
        return {**raw, "model": {**model, "name": f"{raw.get('name')}-adopted"}}

    @property
    def labels(self) -> Labels | None:
        """What the model predicts and where the truth stands; ``None`` where no block says so."""
        if self.training is not None:
            return Labels(self.training.task, self.training.target)
        return self.evaluation.labels if self.evaluation else None

    def review_in(self, environment: str) -> ReviewSpec | None:
        """The review that an environment asks for; what is adopted by a name that others can move always has one."""
        reference = self.model.reference
        moves = reference is not None and reference.moves
        return self.environments[environment].review or (ReviewSpec() if moves else None)

    def drills_in(self, environment: str) -> bool:
        """Whether releases of an environment may be broken on purpose; the last one that serves has to say so."""
        said = self.environments[environment].drills
        serving = [name for name, spec in self.environments.items() if spec.serve]
        return said.allowed if said is not None else environment in serving[:-1]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the meaning: comments, order of keys and ``1%`` or ``0.01`` make no difference."""
        return digest_of(self.to_json())
