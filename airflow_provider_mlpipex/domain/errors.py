"""One error class a failure mode.

Every message names the thing, the offending value, the limit it broke and what to do next; ``runbook`` is the page
under ``docs/runbooks`` that the on-call engineer opens. Nothing here knows where an error is shown.

Over 400 lines, because each failure mode has its class here, and who looks for one reads the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from airflow_provider_mlpipex.domain.urls import hide_credentials

#: Where the pages of this version's runbooks are read, unless somebody keeps them elsewhere.
RUNBOOKS = "https://github.com/mlpipex/airflow-provider-mlpipex/blob/main/docs/runbooks"


class MlpipexError(Exception):
    """Root of every error the provider raises on purpose.

    :param thing: what is wrong, in the user's words (``manifest flight-delay.yaml, field canary.steps[2]``).
    :param value: the offending value, or ``None`` where there is none to show.
    :param limit: the rule or bound that it broke.
    :param remedy: what the reader should do now.
    """

    runbook: str = "unexpected"
    #: Whether running the same verb again may succeed without anybody changing anything.
    transient: ClassVar[bool] = False

    def __init__(self, thing: str, *, value: object = None, limit: str = "", remedy: str = "") -> None:
        # What a library says of an address that it was given may hold its password.
        self.thing = hide_credentials(thing)
        self.value = hide_credentials(value) if isinstance(value, str) else value
        self.limit = hide_credentials(limit)
        self.remedy = hide_credentials(remedy)
        #: The class that it was raised as; another version of the provider may have one that is not known here.
        self.kind = type(self).__name__
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.thing]
        if self.value is not None:
            parts.append(f"value: {self.value!r}")
        if self.limit:
            parts.append(f"limit: {self.limit}")
        if self.remedy:
            parts.append(f"do: {self.remedy}")
        parts.append(f"runbook: {self.runbook}")
        return " | ".join(parts)

    def also(self, remedy: str) -> None:
        """Say of this error, which is on its way up, what else is to be done."""
        self.remedy = "; ".join(filter(None, (self.remedy, remedy)))

    def as_dict(self) -> dict[str, object]:
        """The error as JSON-ready fields, for HTTP bodies, XCom and ledger entries."""
        return {
            "error": self.kind,
            "thing": self.thing,
            "value": None if self.value is None else str(self.value),
            "limit": self.limit,
            "remedy": self.remedy,
            "runbook": self.runbook,
        }


class InvalidName(MlpipexError):
    """A name that must not reach a path, a URL or an Envoy cluster."""

    runbook = "invalid-name"


class InvalidQuantity(MlpipexError):
    """A duration, ratio or count that cannot be read as people write it."""

    runbook = "manifest-invalid"


class ManifestInvalid(MlpipexError):
    """A manifest that cannot be loaded, or that could never work. ``problems`` lists every defect found."""

    runbook = "manifest-invalid"

    def __init__(self, thing: str, *, problems: tuple[str, ...] = (), **details: object) -> None:
        self.problems = tuple(map(hide_credentials, problems))
        super().__init__(thing, **details)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  - {problem}" for problem in self.problems)])


class ManifestChanged(MlpipexError):
    """The manifest on disk is not the one under which this rollout was opened and reviewed."""

    runbook = "manifest-changed"


class DataQualityFailed(MlpipexError):
    """A table broke an expectation; the stage that would have used it did not run."""

    runbook = "data-quality-failed"


class TableUnavailable(MlpipexError):
    """The database or folder of a table does not answer. Nothing was judged, or the table was not written."""

    runbook = "table-unavailable"
    transient = True


class SnapshotCorrupt(MlpipexError):
    """The rows read back are not the rows whose digest was recorded."""

    runbook = "snapshot-corrupt"


class RegistrationRefused(MlpipexError):
    """A model without metrics, signature, dataset digest, code version or artifact digest."""

    runbook = "registration-refused"


class RegistryRewritten(MlpipexError):
    """The registry says something else of a model version than the ledger wrote down when it was registered."""

    runbook = "registry-rewritten"


class TrainingFailed(MlpipexError):
    """The training callable is missing, raised, or returned something that cannot be served."""

    runbook = "training-failed"


class RegistryUnavailable(MlpipexError):
    """The model registry does not answer. Rollback does not need it; training and registration wait for it."""

    runbook = "registry-unavailable"
    transient = True


class ModelNotFound(MlpipexError):
    """A pinned model version that the registry does not hold."""

    runbook = "model-not-found"


class GateFailed(MlpipexError):
    """A gate judged measured evidence and said no."""

    runbook = "gate-failed"


class GateUndecided(MlpipexError):
    """A gate had no, too little, stale or broken evidence. Fail closed: this is never a pass."""

    runbook = "gate-undecided"


class ReviewRejected(MlpipexError):
    """A person, or the review's deadline, said no."""

    runbook = "review-rejected"


class RolloutInProgress(MlpipexError):
    """Another rollout holds the endpoint; exactly one writer wins."""

    runbook = "rollout-in-progress"


class RolloutOnHold(MlpipexError):
    """The rollout waits for a person; nothing goes on by itself."""

    runbook = "rollout-on-hold"


class EndpointHeldBack(MlpipexError):
    """A person took this release back, or stopped the endpoint; nothing of its lineage goes there by itself."""

    runbook = "endpoint-held-back"


class IllegalTransition(MlpipexError):
    """A verb that the endpoint's state does not allow (promote before canary, roll back with no previous release)."""

    runbook = "illegal-transition"


class NotFound(MlpipexError):
    """A rollout, drift event, batch or endpoint that the ledger does not know."""

    runbook = "not-found"


class RolloutEnded(MlpipexError):
    """The rollout that this task belongs to is over: rolled back, rejected or promoted. The task stops and says so."""

    runbook = "rolled-back"

    @property
    def ending(self) -> str:
        """How it ended: ``rolled-back``, ``rejected`` or ``promoted``."""
        return str(self.value)

    @property
    def cause(self) -> str:
        """Why, as the ledger has it."""
        return self.limit


class LedgerConflict(MlpipexError):
    """Somebody appended first. Read the ledger again, decide again."""

    runbook = "ledger-conflict"
    transient = True


class LedgerUnavailable(MlpipexError):
    """The ledger's database is locked, full or away. Nothing was decided."""

    runbook = "ledger-unavailable"
    transient = True


class LedgerTampered(MlpipexError):
    """The hash chain does not verify from some entry on."""

    runbook = "ledger-tampered"


class LedgerRewritten(MlpipexError):
    """The ledger is not the one whose head was noted outside its database: its end was cut off, or it was written anew.

    Nothing goes forward; traffic may be taken back to what the plane itself knows as good.
    """

    runbook = "ledger-rewritten"


class PlaneUnavailable(MlpipexError):
    """The serving plane's control API does not answer. Traffic goes on as last confirmed."""

    runbook = "plane-unavailable"
    transient = True


class PlanRefused(MlpipexError):
    """The plane did not take a traffic plan; the plan before it is still in force."""

    runbook = "plan-refused"


class NotRecorded(MlpipexError):
    """Something that the plane was asked to take and its ledger does not know of; nothing was started or moved."""

    runbook = "not-recorded"


class ReleaseNotReady(MlpipexError):
    """A model server that did not become ready in time, or died on the way. It never receives traffic."""

    runbook = "release-not-ready"


class ArtifactMismatch(MlpipexError):
    """The bytes to be served are not the bytes that were registered."""

    runbook = "artifact-mismatch"


class RuntimeMismatch(MlpipexError):
    """The runtime environment is not the one whose lock digest the release pins, or could not be built."""

    runbook = "runtime-mismatch"


class SignatureMismatch(MlpipexError):
    """The served model answers its golden rows differently from the trained one, or refuses their schema."""

    runbook = "signature-mismatch"


class FeatureMismatch(MlpipexError):
    """The feature service is not the one that the model was trained with, or cannot give the model its inputs."""

    runbook = "feature-mismatch"


class FeatureStoreUnavailable(MlpipexError):
    """The feature store does not answer, or broke while it did."""

    runbook = "feature-store-unavailable"
    transient = True


class SketchUnusable(MlpipexError):
    """Sketches of different references, rows that do not line up, or stored sketches that cannot be read."""

    runbook = "drift-unmeasurable"


class DriftFound(MlpipexError):
    """What is served has moved away from what the release was trained on, in a way that moves its score."""

    runbook = "drift-found"


class DriftUndecided(MlpipexError):
    """Drift could not be measured: too few rows, a broken column, or a release without a reference."""

    runbook = "drift-unmeasurable"


class BatchUnanswered(MlpipexError):
    """The endpoint did not answer a chunk of a batch, though it was asked again and again."""

    runbook = "batch-unanswered"
    transient = True


class BatchRefused(MlpipexError):
    """The endpoint refused a chunk of a batch, or answered with something else than one prediction a row."""

    runbook = "batch-refused"


class OutcomeConflict(MlpipexError):
    """A label for a request that has another label already. Nothing of the ingest was kept."""

    runbook = "outcome-conflict"


class PromotionInDoubt(MlpipexError):
    """Late labels have reopened the promotion of this model: until a person has decided, it goes no further."""

    runbook = "promotion-reopened"


class InvariantBroken(MlpipexError):
    """Something that must hold for a stage to be healthy does not."""

    runbook = "invariant-broken"
    #: A model server that the plane is restarting is healthy again in seconds.
    transient = True


class NotAuthorised(MlpipexError):
    """A missing or wrong credential. Never carries the credential."""

    runbook = "not-authorised"


class NotPermitted(MlpipexError):
    """A good credential that does not grant what was asked for."""

    runbook = "not-authorised"


class RequestInvalid(MlpipexError):
    """A request to the plane's HTTP API that says something it cannot mean; nothing was done."""

    runbook = "configuration-invalid"


class TooManyRequests(MlpipexError):
    """Somebody writes more often over HTTP than a person does; nothing was done.

    :param wait_s: whole seconds until there is room again.
    """

    runbook = "too-many-requests"
    transient = True

    def __init__(self, thing: str, *, wait_s: int = 1, **details: object) -> None:
        self.wait_s = wait_s
        super().__init__(thing, **details)  # type: ignore[arg-type]


class ConfigurationInvalid(MlpipexError):
    """A connection, environment variable or port that cannot work as set."""

    runbook = "configuration-invalid"


#: Names under which errors stand in ledgers that other versions have written.
_EARLIER_NAMES: dict[str, type[MlpipexError]] = {"RolloutRolledBack": RolloutEnded}


def error_from_dict(fields: Mapping[str, object], *, nearest: type[MlpipexError] = MlpipexError) -> MlpipexError:
    """The inverse of :meth:`MlpipexError.as_dict`.

    :param nearest: what an error becomes whose class is not known here; all other fields are kept.
    """
    name = str(fields.get("error") or "")
    known = _EARLIER_NAMES.get(name) or globals().get(name)
    cls = known if isinstance(known, type) and issubclass(known, MlpipexError) else nearest
    error = cls(
        str(fields.get("thing") or "unknown"),
        value=fields.get("value"),
        limit=str(fields.get("limit") or ""),
        remedy=str(fields.get("remedy") or ""),
    )
    error.kind = name or error.kind
    error.runbook = str(fields.get("runbook") or error.runbook)
    return error
