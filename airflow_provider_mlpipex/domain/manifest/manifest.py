"""The deployment manifest: what is released, and under which numbers it may reach users.

These models check each field for itself. ``validation.loading`` reads them from YAML with line numbers and applies
``validation.rules``, which refuse what can never work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)

from airflow_provider_mlpipex.domain.changes import ChangeKind
from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.fields.quantities import Duration, Rate, Ratio, parse_duration
from airflow_provider_mlpipex.domain.fields.refusal import Refusal
from airflow_provider_mlpipex.domain.fields.types import (
    AutoOrVersion,
    Column,
    HeaderName,
    ImageReference,
    ImportPath,
    Method,
    ModelUri,
    RelativePath,
    Sha256,
    Version,
    Words,
)
from airflow_provider_mlpipex.domain.gates.evidence import Source
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.sentence_grammar import read_sentence
from airflow_provider_mlpipex.domain.manifest.drift_block import DriftSpec
from airflow_provider_mlpipex.domain.manifest.evaluation_block import EvaluationSpec, Labels
from airflow_provider_mlpipex.domain.manifest.features_block import FeaturesSpec
from airflow_provider_mlpipex.domain.manifest.outcomes_block import OutcomesSpec
from airflow_provider_mlpipex.domain.names import Name
from airflow_provider_mlpipex.domain.quality.expectations import QualitySpec
from airflow_provider_mlpipex.domain.release.adoption import ModelReference
from airflow_provider_mlpipex.domain.release.training import Task
from airflow_provider_mlpipex.domain.rollout.ending import Ending
from airflow_provider_mlpipex.domain.rollout.traffic_plan import KEPT_ON_CURRENT, TOTAL_WEIGHT, StickyHeader
from airflow_provider_mlpipex.domain.values import Recorded, Value, digest_of

API_VERSION = "mlpipex/v1"


class Owner(Value):
    """Who answers for the endpoint."""

    team: Words
    contact: Words = Field(description="where on-call is")


class ModelSpec(Recorded):
    """Which model is released.

    :param name: of the registered model; of an adopted one the manifest's name with ``-adopted``, if not given.
    :param adopt: a model that another pipeline logged in MLflow. It is copied under ``name``, never changed.
    :param version: ``auto`` trains and registers a new version, or gives an adopted one the number that MLflow has for
        it (version 7 is 7.0.0). A version deploys that registered one, or is what the adopted one shall be called.
    """

    added_later = frozenset({"adopt"})

    name: Name
    adopt: ModelUri | None = None
    version: AutoOrVersion = "auto"

    @field_validator("version", mode="before")
    @classmethod
    def _number_of_mlflow(cls, raw: Any, info: ValidationInfo) -> Any:
        """MLflow counts 1, 2, 3; where a model is adopted, 7 can only mean its version 7."""
        if type(raw) is not int or raw < 1:
            return raw
        if not info.data.get("adopt"):
            raise Refusal(
                "auto, or major.minor.patch; MLflow's own numbers belong to a model that is adopted",
                remedy=f"write {raw}.0.0, or adopt: models:/NAME/{raw} to bring in MLflow's version {raw}",
            )
        return f"{raw}.0.0"

    @model_validator(mode="after")
    def _names_a_model(self) -> ModelSpec:
        if self.adopt is not None:
            try:
                _ = self.reference
            except MlpipexError as error:
                raise Refusal.of(error) from None
        return self

    @property
    def pinned(self) -> bool:
        return self.version != "auto"

    @property
    def trained(self) -> bool:
        """Whether a new version is trained, and not looked up or adopted."""
        return self.adopt is None and not self.pinned

    @property
    def reference(self) -> ModelReference | None:
        """What is adopted: ``models:/fraud`` with version 7.0.0 is ``models:/fraud/7``. ``None`` where nothing is.

        :raises InvalidQuantity: it names no model.
        """
        if self.adopt is None:
            return None
        if re.fullmatch(r"models:/[^/@]+", self.adopt) and self.pinned and self.version.endswith(".0.0"):
            return ModelReference.parse(f"{self.adopt}/{self.version.partition('.')[0]}")
        return ModelReference.parse(self.adopt)


#: Rows whose label is not known yet are ordinary at the end of a window, and no longer ordinary beyond this share.
_MAX_UNLABELLED = 0.2


class TrainingSpec(Recorded):
    """How a new version is trained.

    :param max_unlabelled: share of the snapshot's rows that may lack a label; they are left out and counted, and above
        it the snapshot is refused. 20 % where not given.
    :param runtime: ``serving``: the callable runs in the environment of ``runtime.lock``, in a process of its own;
        that of the worker where not given.
    """

    added_later = frozenset({"max_unlabelled", "runtime"})

    callable: ImportPath = Field(description="function that gets a TrainingContext and returns a fitted model")
    task: Task
    target: Column
    predict_method: Method = "predict"
    seed: int = Field(default=0, ge=0, lt=2**32)
    parameters: dict[str, JsonValue] = {}
    max_unlabelled: Ratio | None = Field(default=None, ge=0, lt=1)
    runtime: Literal["serving"] | None = Field(default=None, description="train in the environment of runtime.lock")

    @property
    def unlabelled_limit(self) -> float:
        """:attr:`max_unlabelled`, or what holds where it is not given."""
        return _MAX_UNLABELLED if self.max_unlabelled is None else self.max_unlabelled


class RuntimeSpec(Value):
    """The environment that serves the model, under a version of its own: exactly one of three kinds.

    :param environment: ``provider``, the environment that the provider itself runs in.
    :param lock: a requirements file with pinned versions, beside the manifest.
    :param image: a container image pinned by digest.
    :param digest: of lock file or image; where it is absent it is recorded at release time.
    """

    version: Version
    environment: Literal["provider"] | None = None
    lock: RelativePath | None = None
    image: ImageReference | None = None
    digest: Sha256 | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> RuntimeSpec:
        kinds = {"environment": self.environment, "lock": self.lock, "image": self.image}
        stated = [name for name, value in kinds.items() if value is not None]
        if len(stated) != 1:
            raise Refusal(
                "exactly one of environment, lock, image",
                value=", ".join(stated) or "none of them",
                remedy="write environment: provider, or pin a lock file or an image",
            )
        if self.image is not None and self.digest != self.image.rpartition(":")[2]:
            raise Refusal(
                "an image needs digest, the same as behind @sha256:",
                value=self.digest or "no digest",
                remedy=f"write digest: {self.image.rpartition(':')[2]}",
            )
        return self

    @property
    def kind(self) -> Literal["provider", "lock", "image"]:
        return "provider" if self.environment else "lock" if self.lock else "image"


class WindowSpec(Value):
    """Time that the rows cover: ``train`` first, then ``evaluate``, ending at the snapshot's moment."""

    train: Duration
    evaluate: Duration


class DataSpec(Value):
    """Where rows come from, and which of them are used."""

    source: ImportPath = Field(description="function (start, end, **parameters) -> DataFrame")
    parameters: dict[str, JsonValue] = {}
    time_column: Column
    window: WindowSpec
    max_age: Duration | None = Field(default=None, description="refuse to train on a snapshot older than this")


class TrafficSpec(Recorded):
    """What live traffic looks like.

    :param expected_rate: requests a second that the endpoint sees on a quiet day; sample sizes are checked against it.
    :param sticky_header: requests with the same value stay on the same release.
    :param timeout: what a candidate may take over one request before the current release is asked as well, and the
        first of the two to answer does. Raised by the plane to twice what current itself takes. Above 10 s it is also
        how long a request may take at all.
    :param fallback: who answers what the current release cannot, because it is down, raises or hangs: the ``previous``
        one, which stays warm (also where nothing is said), or ``none``, so that the client gets the error.
    :param lease: how long a shadow or canary goes on when nobody watches it; then the plane itself takes it back. Must
        outlast the pause between two tasks of a busy Airflow.
    """

    expected_rate: Rate | None = None
    sticky_header: HeaderName = StickyHeader().name
    timeout: Duration = parse_duration("2s")
    lease: Duration = parse_duration("60s")
    fallback: Literal["previous", "none"] | None = None

    added_later = frozenset({"fallback"})


def _gate_of(source: Source) -> BeforeValidator:
    """Reads a gate; a sentence speaks of ``source`` unless it says otherwise."""
    return BeforeValidator(lambda raw: read_sentence(raw, source=source) if isinstance(raw, str) else raw)


OfflineGates = tuple[Annotated[Gate, _gate_of("evaluation")], ...]
ShadowGates = tuple[Annotated[Gate, _gate_of("shadow")], ...]
CanaryGates = tuple[Annotated[Gate, _gate_of("canary")], ...]
ServingGates = tuple[Annotated[Gate, _gate_of("serving")], ...]


class ReviewSpec(Value):
    """Which changes a person must approve, and which this policy approves by itself. Others need a person too."""

    required_for: tuple[ChangeKind, ...] = ("model", "runtime", "gate-loosened")
    auto_approve: tuple[ChangeKind, ...] = ()
    timeout: Duration = Field(default=parse_duration("24h"), description="after this without an answer: rejected")

    @field_validator("required_for", "auto_approve")
    @classmethod
    def _as_a_set(cls, kinds: tuple[ChangeKind, ...]) -> tuple[ChangeKind, ...]:
        """Order and repetition mean nothing, so they must not make another manifest."""
        return tuple(kind for kind in get_args(ChangeKind) if kind in kinds)


#: What becomes of a trial that has had its time and is still undecided: a person is asked, or it is taken back.
WhenUndecided = Literal["hold", "roll-back"]


class ShadowSpec(Recorded):
    """A copy of live requests goes to the candidate; its answers never reach a client.

    :param undecided: after three times its duration; ``hold`` where nothing is written.
    :param slices: model inputs by whose values the pairs are compared as well: the worst slices are named, and
        ``shadow.worst_slice_flip_rate`` is measured over them.
    """

    added_later = frozenset({"undecided"})

    fraction: Ratio
    duration: Duration
    undecided: WhenUndecided | None = None
    min_pairs: int = Field(default=1, ge=1, description="requests answered by both releases, at least")
    slices: tuple[Column, ...] = ()
    gates: ShadowGates = ()

    @property
    def judged_gates(self) -> tuple[Gate, ...]:
        """:attr:`gates`, and the one that ``min_pairs`` stands for."""
        return (*self.gates, Gate(name="min-pairs", metric="shadow.pairs", min=self.min_pairs))


class ExposureSpec(Value):
    """How many bad predictions users may get before a bad candidate is found.

    :param max_bad: of them at most, as expected.
    :param effect: the smallest excess that matters: so much larger than a gate allows is the share of bad ones.
    """

    max_bad: int = Field(ge=1)
    effect: Ratio = Field(gt=0, lt=1)


class CanarySpec(Recorded):
    """Rising shares of live requests, each judged before the next.

    :param step_duration: how long each is kept.
    :param exposure: instead, what it may cost to find a bad candidate; lengths follow from it (``canary_schedule``). A
        gate with a window spans all steps then.
    :param undecided: what becomes of a step after three times its duration; ``hold`` where nothing is written.
    """

    added_later = frozenset({"undecided"})

    steps: tuple[Ratio, ...] = Field(min_length=1)
    step_duration: Duration | None = None
    exposure: ExposureSpec | None = None
    undecided: WhenUndecided | None = None
    gates: CanaryGates = ()

    @property
    def judged_steps(self) -> tuple[float, ...]:
        """Share of the requests that the candidate has in each step: the current release always keeps a little."""
        return tuple(min(step, 1.0 - KEPT_ON_CURRENT / TOTAL_WEIGHT) for step in self.steps)

    @model_validator(mode="after")
    def _one_pace(self) -> CanarySpec:
        if (self.step_duration is None) == (self.exposure is None):
            raise Refusal(
                "exactly one of step_duration, exposure",
                value="neither" if self.exposure is None else "both",
                remedy="write step_duration: 10m, or exposure: {max_bad: 200, effect: 5%}",
            )
        return self


class RollbackSpec(Value):
    """For ``window`` after promotion, a failed gate returns traffic to the previous release by itself.

    :param control: share of the requests that the previous release keeps in that time. Then gates may be relative to
        it, and a limit that it breaks as well is no reason to return to it (``concurrent_baseline``).
    """

    window: Duration
    control: Ratio | None = None
    gates: ServingGates = ()


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
    """

    added_later = frozenset({"drift", "outcomes", "provenance"})

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

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the meaning: comments, order of keys and ``1%`` or ``0.01`` make no difference."""
        return digest_of(self.to_json())
