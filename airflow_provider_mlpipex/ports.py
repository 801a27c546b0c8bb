"""What the use cases need from the world. Adapters implement these; services know nothing else of it.

Every verb is idempotent: running it twice leaves what running it once left. Errors are those of ``domain.errors``.

Over 400 lines, because whoever writes an adapter reads here all that is asked of it, and finds no code in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from airflow_provider_mlpipex.domain.batches import AnsweredChunk, PredictionAnswer, PredictionRequest
    from airflow_provider_mlpipex.domain.drift.report import BatchFaults, DriftPage
    from airflow_provider_mlpipex.domain.drift.served import BatchSketches, ServedSketches
    from airflow_provider_mlpipex.domain.features.service import FeatureServiceRef, HistoricalFrame, OnlineRow
    from airflow_provider_mlpipex.domain.gates.evidence import Telemetry
    from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
    from airflow_provider_mlpipex.domain.manifest.runtime_block import RuntimeSpec
    from airflow_provider_mlpipex.domain.names import EndpointRef
    from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import (
        Added,
        Label,
        LabelledPrediction,
        LabelledSpan,
        ServedAnswers,
    )
    from airflow_provider_mlpipex.domain.predictions import PredictionSample
    from airflow_provider_mlpipex.domain.quality.expectations import Expectation
    from airflow_provider_mlpipex.domain.quality.report import QualityReport, ResultPlace, SqlTable
    from airflow_provider_mlpipex.domain.release.adoption import FetchedModel, ModelReference, ModelSource
    from airflow_provider_mlpipex.domain.release.release import (
        DatasetSnapshot,
        ModelVersion,
        Release,
        RuntimeEnvironment,
    )
    from airflow_provider_mlpipex.domain.release.training import (
        Fitted,
        LockedRuntime,
        ModelAnswers,
        SavedModel,
        TrainedModel,
        TrainingRecord,
    )
    from airflow_provider_mlpipex.domain.rollout.events import AlertDelivery, Entry, Event, Origin, RoutineRecord
    from airflow_provider_mlpipex.domain.rollout.ledger_head import HeadClaim, LedgerHead
    from airflow_provider_mlpipex.domain.rollout.plane_observation import (
        AppliedPlan,
        PlaneObservation,
        PlaneSurvey,
        ReleaseStatus,
        Surveyed,
    )
    from airflow_provider_mlpipex.domain.rollout.projection import Projection
    from airflow_provider_mlpipex.domain.rollout.state import EndpointState
    from airflow_provider_mlpipex.domain.rollout.summary import EndpointSummary
    from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
    from airflow_provider_mlpipex.domain.shadow.comparison import ShadowComparison


@runtime_checkable
class Clock(Protocol):
    """Wall time, UTC. The only way a service learns what time it is."""

    def now(self) -> datetime: ...


@runtime_checkable
class Ledger(Protocol):
    """Append-only, hash-chained journal, one chain an endpoint."""

    def append(
        self, endpoint: EndpointRef, *, expected_seq: int, events: Sequence[Event], origin: Origin
    ) -> list[Entry]:
        """Append all ``events`` or none, if the chain's last sequence number is ``expected_seq`` (0: empty).

        :raises LedgerConflict: somebody appended first.
        :raises LedgerUnavailable: the database is locked, full or away; nothing was written.
        """
        ...

    def read(
        self,
        endpoint: EndpointRef,
        *,
        after_seq: int = 0,
        before_seq: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        types: Sequence[str] = (),
        subject: str | None = None,
        task: Origin | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> list[Entry]:
        """Entries of a chain in order. A long chain is read in pages (``journal.walk``), or by what is asked for: every
        filter has an index behind it.

        :param after_seq: only later entries; ``before_seq``: only earlier ones.
        :param since: only those recorded then or later; ``until``: then or before.
        :param types: only events of these types; all if empty.
        :param subject: only events about this rollout, batch or release (``events.subject_of``).
        :param task: only what any try of this task of this Dag run wrote.
        :param newest_first: in the other order.
        :param limit: at most so many, of the first in that order.
        """
        ...

    def state(self, endpoint: EndpointRef) -> EndpointState:
        """The state after the last entry. It takes as long however old the chain is: it is kept with the entries,
        written in the transaction that appends them, and folded anew where it is missing or of another version."""
        ...

    def state_at(self, endpoint: EndpointRef, at: datetime) -> EndpointState:
        """The state after the last entry that was recorded at ``at`` or before. It folds what follows the checkpoint
        before that entry, and leaves those that were missing."""
        ...

    def projection(self, endpoint: EndpointRef) -> Projection | None:
        """The state as it is kept, whether or not it is up to date; ``None`` where this version of the fold has kept
        none. For whoever checks it against the chain."""
        ...

    def checkpoints(self, endpoint: EndpointRef, *, after_seq: int = 0, limit: int) -> list[Projection]:
        """States that this version of the fold has kept along the chain, in order, at most ``limit`` of them. For
        whoever checks them against it."""
        ...

    def summaries(self) -> list[EndpointSummary]:
        """Of every endpoint that has a chain, sorted: what a list says of its state after the last entry. One question
        for all of them, which reads no chain but of those whose state is not kept."""
        ...

    def endpoints(self) -> list[EndpointRef]:
        """Every endpoint that has a chain, sorted."""
        ...

    def heads(self) -> dict[EndpointRef, int]:
        """The sequence number of every chain's last entry: what has changed since is seen without reading it."""
        ...

    def record(self, endpoint: EndpointRef, event: Event, *, origin: Origin) -> RoutineRecord:
        """Keep a fact that decides nothing beside the chain, until :meth:`prune`.

        :raises LedgerUnavailable: the database is locked, full or away.
        """
        ...

    def records(
        self,
        endpoint: EndpointRef,
        *,
        since: datetime | None = None,
        types: Sequence[str] = (),
        subject: str | None = None,
        limit: int | None = None,
    ) -> list[RoutineRecord]:
        """What :meth:`record` has kept and nobody has pruned, the newest first."""
        ...

    def prune(self, *, before: datetime, limit: int | None = None) -> int:
        """Forget records of before ``before``, at most about ``limit`` of them; return how many. No chain is ever
        touched."""
        ...


@runtime_checkable
class ServingPlane(Protocol):
    """What runs releases and routes requests: embedded Envoy with model servers, or Kubernetes."""

    def ensure(self, endpoint: EndpointRef, release: Release, *, timeout_s: float) -> ReleaseStatus:
        """Return when ``release`` is running for ``endpoint``: artifact digest verified, golden rows answered.

        :raises ReleaseNotReady: not ready in ``timeout_s`` seconds.
        :raises ArtifactMismatch: the artifact's bytes are not the registered ones.
        :raises RuntimeMismatch: the environment is not the pinned one.
        :raises SignatureMismatch: it answers its golden rows differently.
        """
        ...

    def apply(self, plan: TrafficPlan, *, claim: HeadClaim | None = None) -> AppliedPlan:
        """Return only when ``plan`` is seen in force. The head of the chain that it comes from is noted.

        :param claim: of that chain; ``None`` from who could not read it, which is enough to return traffic to a release
            that runs here and to nothing else.
        :raises PlanRefused: the data plane did not take it; the plan before is in force.
        :raises LedgerRewritten: the chain does not go on from the head that was noted before, and the plan is no return
            to a release that the plane itself knows as good.
        """
        ...

    def heads(self, endpoint: EndpointRef | None = None) -> dict[str, LedgerHead]:
        """The heads that were noted, of every endpoint or of one. Answers whatever else is broken."""
        ...

    def note_head(self, endpoint: EndpointRef, claim: HeadClaim) -> None:
        """Note how far the chain has come.

        :raises LedgerRewritten: it does not go on from the head that was noted before.
        """
        ...

    def accept_head(self, endpoint: EndpointRef, head: LedgerHead, *, instead_of: LedgerHead, reason: str) -> None:
        """Note ``head`` though it does not go on from ``instead_of``, because somebody has looked at both.

        :raises PlanRefused: ``instead_of`` is not what is noted.
        """
        ...

    def renew(self, endpoint: EndpointRef, plan_id: str) -> None:
        """Prolong the lease of the plan in force.

        :raises PlanRefused: another plan is in force (the lease had run out, or somebody else applied one).
        """
        ...

    def observe(self, endpoint: EndpointRef) -> PlaneObservation:
        """The plan in force as the data plane itself reports it, and the state of every release kept for it."""
        ...

    def telemetry(self, endpoint: EndpointRef, *, since: datetime, until: datetime) -> Telemetry:
        """Attempts per release in the window, mirrored ones included."""
        ...

    def survey(self, asked: Sequence[Surveyed], *, until: datetime, warm: bool = False) -> PlaneSurvey:
        """Many endpoints in one question: the plan in force at each, and the attempts of one release in each window up
        to ``until``.

        :param warm: ask each release as well whether it takes requests. A watch that looks every few seconds need not.
        """
        ...

    def compare(
        self,
        endpoint: EndpointRef,
        *,
        primary: str,
        shadow: str,
        since: datetime,
        until: datetime,
        slices: Sequence[str] = (),
    ) -> ShadowComparison:
        """Answers of two releases to the same requests in the window, from the prediction log.

        :param slices: model inputs by whose values the pairs are grouped as well.
        """
        ...

    def predictions(
        self,
        endpoint: EndpointRef,
        release_id: str,
        *,
        since: datetime,
        until: datetime,
        limit: int,
        batch: str | None = None,
    ) -> PredictionSample:
        """What ``release_id`` answered in the window, from its prediction log: at most ``limit`` rows, an even sample
        of all, and the same one each time. Mirrored requests are among them; who was never asked has none.

        :param batch: only rows of this batch (``""``: of requests whose caller named none).
        """
        ...

    def sketches(self, endpoint: EndpointRef, release_id: str, *, since: datetime, until: datetime) -> ServedSketches:
        """What ``release_id`` was asked and answered in the window, counted in the bins of its reference, up to now.

        Reads no raw rows but those that were logged since the log was last compacted; keeps for months what the
        prediction log keeps for days. Who was never asked has sketches of no rows.
        """
        ...

    def sketches_by_batch(
        self, endpoint: EndpointRef, release_id: str, *, column: str, since: datetime, until: datetime
    ) -> BatchSketches:
        """One column of :meth:`sketches`, a sketch for each batch."""
        ...

    def batch_faults(
        self, endpoint: EndpointRef, release_id: str, *, since: datetime, until: datetime, psi: float, alpha: float
    ) -> BatchFaults:
        """Each batch of :meth:`sketches` tested against all others, in every column: those that are not like them.

        :param psi: how far a batch may lie from the others. :param alpha: chance that any is named where all are alike.
        """
        ...

    def served(self, endpoint: EndpointRef, request_ids: Sequence[str]) -> ServedAnswers:
        """What clients got for these rows, from the logs of every release that are still kept, and how far back those
        reach. A mirrored copy is no answer to a client; of a request that one release gave up and another answered, the
        answer that was given last is. Ids without a record are left out."""
        ...

    def retire(self, endpoint: EndpointRef, release_id: str) -> None:
        """Drain and stop a release. A release that the plan in force needs is refused (:class:`PlanRefused`)."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """Asks an endpoint for predictions, as any of its clients does."""

    def predict(self, request: PredictionRequest) -> PredictionAnswer:
        """Send ``request`` once. A refusal, and nobody who answers, are answers like any other: never raises for them.

        :raises ConfigurationInvalid: there is no token to show at the ingress.
        """
        ...


@runtime_checkable
class AnsweredBatch(Protocol):
    """Where the answers to one batch are kept: chunk by chunk on the way, and as one table in the end.

    ``key`` names rows, batch and chunk size: what was answered under another one is never taken for an answer.
    """

    def chunks(self, key: str) -> list[AnsweredChunk]:
        """What was answered under ``key`` and not finished: a task was ended on its way."""
        ...

    def keep(self, key: str, chunk: AnsweredChunk) -> None:
        """Remember ``chunk`` until :meth:`finish`."""
        ...

    def finish(self, table: pd.DataFrame) -> str:
        """Write the whole table in place of what stood there, forget the chunks, and return where it is."""
        ...


@runtime_checkable
class OutcomeStore(Protocol):
    """Labels that came late, each beside what was served for it. A request of an endpoint has one label."""

    def add(self, endpoint: EndpointRef, outcomes: Sequence[LabelledPrediction], *, correct: bool = False) -> Added:
        """Keep all of ``outcomes``, which name each request once, or none.

        :param correct: labels that differ from the kept ones replace them.
        :raises OutcomeConflict: they differ, and are not to replace them.
        :raises LedgerUnavailable: the database is locked, full or away.
        """
        ...

    def read(
        self, endpoint: EndpointRef, release: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[LabelledPrediction]:
        """What ``release`` served from ``since`` to ``until``, both inclusive, in order of time."""
        ...

    def known(self, endpoint: EndpointRef, request_ids: Sequence[str]) -> dict[str, LabelledPrediction]:
        """Outcomes that are kept of these requests."""
        ...

    def spans(self, endpoint: EndpointRef) -> dict[str, LabelledSpan]:
        """Release -> how many labelled rows it has, and of when."""
        ...

    def labels(self, endpoint: EndpointRef, *, limit: int) -> list[Label]:
        """Distinct labels, at most ``limit`` of them."""
        ...


@runtime_checkable
class ModelRegistry(Protocol):
    """Training runs and model versions. Not needed by rollback."""

    def team_code(self) -> AbstractContextManager[None]:
        """Entered while code of a team's own runs: what it logs goes to this registry, and what it sets for itself in
        this process (an address, an experiment, an open run) does not outlast it."""
        ...

    def log_training(self, trained: TrainedModel | SavedModel, record: TrainingRecord) -> TrainingRecord:
        """Log run, dataset input, parameters, metrics, model and golden rows; return the record completed with
        ``run_id``, ``artifact_uri``, ``artifact_digest`` and ``signature``. Same ``record.key``: same run."""
        ...

    def register(self, record: TrainingRecord, *, version: str) -> ModelVersion:
        """Make ``record`` a model version; the same record again returns the version it already has."""
        ...

    def get(self, name: str, version: str) -> ModelVersion:
        """:raises ModelNotFound: no such version."""
        ...

    def versions(self, name: str) -> list[ModelVersion]:
        """All registered versions in semver order; empty if the model is unknown."""
        ...

    def keep_lock(self, model: ModelVersion, runtime: RuntimeEnvironment, text: str) -> str:
        """Keep a lock with ``model``, under the digest of ``runtime``; return where :class:`RuntimeResolver` and plane
        find it, whatever becomes of the file."""
        ...

    def answer(self, model: ModelVersion, rows: pd.DataFrame, *, python: Path | None = None) -> ModelAnswers:
        """What clients of ``model`` get for ``rows``: by the served path, digest verified before it is unpickled.

        :param python: interpreter of the environment that it was proven in; this one's if not given.
        :raises ArtifactMismatch: the bytes are not the registered ones.
        :raises ReleaseNotReady: it does not load here.
        :raises SignatureMismatch: its server refuses such rows; the message names the column.
        """
        ...

    def prove(self, model: ModelVersion, *, python: Path) -> None:
        """Load ``model`` in a clean process of the interpreter ``python`` and ask it its golden rows.

        :raises ArtifactMismatch: the bytes are not the registered ones.
        :raises TrainingFailed: it does not load there, and what it lacks; or it answers otherwise there.
        """
        ...

    def resolve(self, reference: ModelReference) -> ModelSource:
        """What ``reference`` names at this moment, of models that other pipelines logged.

        :raises ModelNotFound: nothing. :raises RegistrationRefused: a version that was registered through this port.
        """
        ...

    def fetch(self, source: ModelSource, folder: Path) -> FetchedModel:
        """``source`` in a folder of its own below ``folder``; nothing of it is run.

        :raises RegistrationRefused: it is no model that can be asked for predictions.
        """
        ...

    def open(self, fetched: FetchedModel) -> Any:
        """An MLflow pyfunc with ``predict(frame)``. This runs code of whoever logged it.

        :raises RegistrationRefused: it cannot be loaded here.
        """
        ...

    def page(self, run_id: str) -> str:
        """Address at which people look at a training run; empty where there is none."""
        ...

    def mirror_alias(self, model: ModelVersion, alias: str) -> None:
        """Point ``alias`` at ``model``, for people who browse the registry. The ledger is the truth."""
        ...

    def anchor_head(self, model: str, endpoint: EndpointRef, head: LedgerHead) -> None:
        """Note at the registered model ``model`` how far the chain of ``endpoint`` has come: a place that whoever
        writes to the ledger's database does not write to."""
        ...

    def anchored_heads(self, model: str) -> dict[str, LedgerHead]:
        """What was noted there last, by endpoint; nothing for a model that the registry does not know."""
        ...


@runtime_checkable
class SnapshotStore(Protocol):
    """Content-addressed tables."""

    def write(
        self,
        frame: pd.DataFrame,
        *,
        name: str,
        time_column: str,
        window_start: datetime,
        split_at: datetime,
        window_end: datetime,
        evaluation_only: bool = False,
    ) -> DatasetSnapshot:
        """Keep ``frame``; the same rows find the table that holds them.

        :param evaluation_only: nothing is trained on it, and ``split_at`` is where it begins.
        :raises DataQualityFailed: rows that do not fit the windows, or a window without rows.
        """
        ...

    def read(self, snapshot: DatasetSnapshot) -> pd.DataFrame:
        """:raises SnapshotCorrupt: the rows are not the recorded ones, or are gone."""
        ...

    def digest(self, frame: pd.DataFrame, *, name: str) -> str:
        """The digest that a snapshot of exactly these rows has; nothing is kept.

        :param name: of the rows, for messages.
        :raises DataQualityFailed: a table that cannot be a snapshot.
        """
        ...


@runtime_checkable
class DataValidator(Protocol):
    """Judges a table against the expectations that a manifest names.

    Fails closed: an empty table, a missing column and a column without any value are broken expectations.

    ``subject`` is the table in the user's words; ``key`` are columns that name a row in messages; ``place`` is where
    the full result is kept, if the validator was given a root to keep it under.
    """

    def validate(
        self,
        frame: pd.DataFrame,
        expectations: Sequence[Expectation],
        *,
        subject: str,
        key: Sequence[str] = (),
        place: ResultPlace | None = None,
    ) -> QualityReport:
        """:raises ManifestInvalid: arguments that an expectation does not take."""
        ...

    def validate_table(
        self,
        table: SqlTable,
        expectations: Sequence[Expectation],
        *,
        subject: str,
        key: Sequence[str] = (),
        place: ResultPlace | None = None,
    ) -> QualityReport:
        """Judge a table where it lives.

        :raises ConfigurationInvalid: the url cannot work, or its driver is not installed.
        :raises TableUnavailable: the database does not answer.
        :raises DataQualityFailed: it has no such table.
        """
        ...


@runtime_checkable
class DriftReporter(Protocol):
    """Draws rows that were served beside rows that were trained on, for people to look at."""

    def draw(
        self, trained: pd.DataFrame, served: pd.DataFrame, *, endpoint: EndpointRef, release: str, at: datetime
    ) -> DriftPage:
        """Write a page on the columns that both have. Never raises: a page that cannot be drawn costs no verdict."""
        ...


@runtime_checkable
class Alerter(Protocol):
    """Notifies on-call. Returns how it went; never raises, because an alert must not stop a rollback."""

    def alert(self, *, channel: str, title: str, body: str, severity: str, facts: Mapping[str, str]) -> AlertDelivery:
        """Send to every receiver of ``channel``; return who was notified, and one message for each who was not."""
        ...


@runtime_checkable
class RuntimeResolver(Protocol):
    """Turns a manifest's runtime block into a digest-pinned environment, and builds that on this machine."""

    def resolve(self, spec: RuntimeSpec, *, manifest_dir: Path) -> RuntimeEnvironment:
        """:raises RuntimeMismatch: the lock file is missing or its digest is not the one the manifest pins."""
        ...

    def lock_text(self, runtime: RuntimeEnvironment) -> str:
        """The lock file that ``runtime`` pins.

        :raises RuntimeMismatch: it is gone, or pins something else now.
        """
        ...

    def python_for(self, runtime: RuntimeEnvironment) -> Path:
        """The interpreter of ``runtime``, built on first use and kept.

        :raises RuntimeMismatch: it cannot be built from its lock, or is not what that says any more.
        """
        ...

    def fit(
        self,
        runtime: LockedRuntime,
        manifest: Manifest,
        *,
        training: pd.DataFrame,
        evaluation: pd.DataFrame,
        folder: Path,
    ) -> Fitted:
        """Train in a process of ``runtime``; the model is left below ``folder``.

        :raises RuntimeMismatch: its lock lacks what a training needs. :raises TrainingFailed: it failed there.
        """
        ...


@runtime_checkable
class FeatureStore(Protocol):
    """Features by point in time: one definition for training rows and for live requests."""

    def describe(self, service: str) -> FeatureServiceRef:
        """A feature service as it is defined now: digest, entities, features.

        :raises FeatureMismatch: no such service.
        """
        ...

    def historical(self, service: str, entity_rows: pd.DataFrame, *, time_column: str) -> HistoricalFrame:
        """``entity_rows`` joined with the features as each row's own moment knew them; none is left out uncounted.

        :raises DataQualityFailed: an entity or the time column is missing, or the moments have no time zone.
        :raises FeatureStoreUnavailable: the store does not answer.
        """
        ...

    def online(self, service: str, keys: Sequence[Mapping[str, Any]], *, as_of: datetime) -> list[OnlineRow]:
        """Features as they are served now, one row a key, in order.

        :param as_of: now; a value older than its time to live by then is ``expired``.
        :raises FeatureStoreUnavailable: the store does not answer.
        """
        ...
