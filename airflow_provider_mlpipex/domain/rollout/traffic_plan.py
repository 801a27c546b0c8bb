"""The traffic plan: who answers, who only listens, and what happens when nobody is watching."""

from __future__ import annotations

from functools import cached_property

from pydantic import ConfigDict, Field, RootModel, model_validator

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import ReleaseId
from airflow_provider_mlpipex.domain.values import Recorded, Value, digest_of

#: Weights always add up to this. A fixed total keeps hash-sticky users on the candidate while its share only grows.
TOTAL_WEIGHT = 10_000
#: Seconds that a candidate may take before current is asked as well, where no plan says otherwise.
TIMEOUT_S = 2.0
#: What the current release keeps in a canary's last step until that is judged: beside nobody a limit says little.
KEPT_ON_CURRENT = 500
#: What each of two releases gets where nothing but themselves may make them differ.
EVEN_ARMS = 5_000
VARIANT_HEADER = "x-mlpipex-variant"
RELEASE_HEADER = "x-mlpipex-release"
#: The plane's own name of a request, which no client can choose: evidence and labels are joined by it.
REQUEST_ID_HEADER = "x-request-id"
#: What the client called its request in ``x-request-id``: kept beside the plane's, and joined to nothing.
CLIENT_REQUEST_ID_HEADER = "x-mlpipex-client-request-id"
#: Says which batch a request belongs to; prediction log and sketches keep it.
BATCH_HEADER = "x-mlpipex-batch"
#: Of the control API, beside a plan: the chain that it comes from, as JSON of a ``HeadClaim``.
CLAIM_HEADER = "x-mlpipex-ledger-claim"
#: On an answer: ``model`` where the model itself raised. MLflow's contract calls that 400; telemetry calls it an error.
FAULT_HEADER = "x-mlpipex-fault"
MODEL_FAULT = "model"
#: In the same place: a candidate refused rows, and nobody knows yet whether they or the candidate are odd. Current is
#: asked: what it answers was the candidate's to answer, and what it refuses too is the client's.
REFUSED_ROWS = "refused"
#: The ingress sets it on what it sends to a candidate for its share; no client can.
TRIAL_HEADER = "x-mlpipex-trial"


class StickyHeader(RootModel[str]):
    """Requests that carry the same value in this header stay on one release; all others are spread by chance.

    An empty value is none: a gateway that sets the header for users who have not signed in must not send them all to
    one release together. In manifests, ledgers and plans this is the header's name, as text.
    """

    model_config = ConfigDict(frozen=True)
    root: str = "x-user-id"

    @property
    def name(self) -> str:
        return self.root

    def __str__(self) -> str:
        return self.root


class Mirror(Value):
    """A copy of live requests whose answers never reach a client."""

    release: ReleaseId
    fraction: float = Field(gt=0, le=1)


class TrafficPlan(Recorded):
    """Desired routing of one endpoint.

    :param current: the release that every request can fall back to.
    :param candidate: the release on trial, or ``None``; requests it fails are answered by ``current``.
    :param candidate_weight: its share of ``TOTAL_WEIGHT``; ``current`` has the rest.
    :param mirror: shadow traffic, or ``None``.
    :param control: after promotion, the previous release that keeps a small share for comparison, or ``None``.
    :param control_weight: its share of ``TOTAL_WEIGHT``.
    :param lease_s: seconds after which the plane itself returns all traffic to ``current`` unless the plan's watcher
        renews it (promise 5: kill any process at any point). ``None`` for plans that need no watcher.
    :param timeout_s: seconds that a candidate may take over a request before ``current`` is asked as well;
        ``None`` for :data:`TIMEOUT_S`.
    :param fallback: the release that answers what ``current`` cannot, as far as it runs, or ``None``. It is the
        previous one, and no part of the plan waits for it.
    """

    added_later = frozenset({"timeout_s", "fallback"})

    endpoint: EndpointRef
    current: ReleaseId
    candidate: ReleaseId | None = None
    candidate_weight: int = Field(default=0, ge=0, le=TOTAL_WEIGHT)
    control: ReleaseId | None = None
    control_weight: int = Field(default=0, ge=0, le=TOTAL_WEIGHT)
    mirror: Mirror | None = None
    sticky_header: StickyHeader = StickyHeader()
    lease_s: float | None = Field(default=None, gt=0)
    timeout_s: float | None = Field(default=None, gt=0)
    fallback: ReleaseId | None = None

    @model_validator(mode="after")
    def _coherent(self) -> TrafficPlan:
        if self.candidate is None and self.candidate_weight:
            raise ValueError("candidate_weight without a candidate")
        if self.control is None and self.control_weight:
            raise ValueError("control_weight without a control release")
        if self.candidate_weight + self.control_weight > TOTAL_WEIGHT:
            raise ValueError(f"candidate_weight + control_weight exceed {TOTAL_WEIGHT}")
        trial = [r for r in (self.candidate, self.control, self.mirror and self.mirror.release) if r]
        if self.current in trial:
            raise ValueError(f"release {self.current} cannot be current and on trial at once")
        if self.fallback is not None and self.fallback in (self.current, self.candidate):
            raise ValueError(f"release {self.fallback} cannot answer for itself")
        return self

    @cached_property
    def id(self) -> str:
        """Digest of the routing; the lease is not part of it, so a renewed plan is the same plan."""
        return digest_of(self.model_dump(mode="json", exclude={"lease_s"}))[:16]

    @property
    def weights(self) -> dict[str, int]:
        """Release id -> share of ``TOTAL_WEIGHT``; zero shares left out."""
        shares = {self.current: TOTAL_WEIGHT - self.candidate_weight - self.control_weight}
        if self.candidate is not None:
            shares[self.candidate] = self.candidate_weight
        if self.control is not None:
            shares[self.control] = self.control_weight
        return {release: weight for release, weight in shares.items() if weight}

    @property
    def roles(self) -> dict[str, str]:
        """Release id -> what it is to the endpoint: ``current``, ``candidate``, ``control``, ``shadow`` (its answers
        reach nobody) or ``previous`` (answers what current cannot). The one named first counts."""
        named = (
            ("current", self.current),
            ("candidate", self.candidate),
            ("control", self.control),
            ("shadow", self.mirror.release if self.mirror else None),
            ("previous", self.fallback),
        )
        roles: dict[str, str] = {}
        for role, release in named:
            if release is not None:
                roles.setdefault(release, role)
        return roles

    @property
    def releases(self) -> tuple[str, ...]:
        """Every release that must be running for this plan, current first."""
        mirrored = self.mirror.release if self.mirror else None
        return tuple(dict.fromkeys(r for r in (self.current, self.candidate, self.control, mirrored) if r is not None))

    def only_current(self) -> TrafficPlan:
        """The plan everything falls back to: all traffic on ``current``, no mirror, no lease."""
        return TrafficPlan(
            endpoint=self.endpoint,
            current=self.current,
            sticky_header=self.sticky_header,
            timeout_s=self.timeout_s,
            fallback=self.fallback,
        )
