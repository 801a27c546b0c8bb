"""The embedded serving plane through its control API."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx

from airflow_provider_mlpipex.adapters.embedded.http_calls import send
from airflow_provider_mlpipex.domain.drift.report import BatchFaults
from airflow_provider_mlpipex.domain.drift.served import BatchSketches, ServedSketches
from airflow_provider_mlpipex.domain.errors import MlpipexError, NotAuthorised, PlaneUnavailable, error_from_dict
from airflow_provider_mlpipex.domain.gates.evidence import Telemetry
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import ServedAnswers
from airflow_provider_mlpipex.domain.predictions import PredictionSample
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.ledger_head import HeadClaim, LedgerHead
from airflow_provider_mlpipex.domain.rollout.plane_observation import (
    AppliedPlan,
    PlaneObservation,
    PlaneSurvey,
    ReleaseStatus,
    Surveyed,
)
from airflow_provider_mlpipex.domain.rollout.traffic_plan import CLAIM_HEADER, TrafficPlan
from airflow_provider_mlpipex.domain.shadow.comparison import ShadowComparison

TIMEOUT_S = 15.0
#: Both logs are read whole: some million records take a while.
COMPARISON_TIMEOUT_S = 120.0
#: What was logged since the last compaction is counted first: after a long absence of the plane that is much.
SKETCHES_TIMEOUT_S = 120.0
#: Bytes of request ids in one question: each reads all logs once, and the plane takes a body of one megabyte.
IDS_BYTES = 900_000
#: Endpoints in one question of a survey: its body has some 200 bytes for each.
ENDPOINTS_AT_ONCE = 500
#: ``ensure`` may build a runtime before the clock of ``timeout_s`` starts.
BUILD_ALLOWANCE_S = 900.0


class EmbeddedPlane:
    """:param control_url: of the plane's control API. :param token: its bearer token, never logged; or a function that
    reads it, called before each request, so that who never asks the plane needs no token."""

    def __init__(self, control_url: str, token: str | Callable[[], str]) -> None:
        self._url = control_url.rstrip("/")
        self._token = token

    def ensure(self, endpoint: EndpointRef, release: Release, *, timeout_s: float) -> ReleaseStatus:
        body = {"release": release.to_json(), "timeout_s": timeout_s}
        answer = self._call(
            "PUT", endpoint, f"/releases/{release.id}", json=body, timeout=timeout_s + BUILD_ALLOWANCE_S
        )
        return ReleaseStatus.model_validate(answer)

    def apply(self, plan: TrafficPlan, *, claim: HeadClaim | None = None) -> AppliedPlan:
        headers = {CLAIM_HEADER: claim.model_dump_json()} if claim else {}
        answer = self._call("PUT", plan.endpoint, "/plan", json=plan.to_json(), headers=headers)
        return AppliedPlan.model_validate(answer)

    def heads(self, endpoint: EndpointRef | None = None) -> dict[str, LedgerHead]:
        if endpoint is not None:
            answer = self._call("GET", endpoint, "/ledger-head")
        else:
            answer = self._send("GET", "/v1/ledger-heads")
        return {name: LedgerHead.model_validate(head) for name, head in answer.items()}

    def note_head(self, endpoint: EndpointRef, claim: HeadClaim) -> None:
        self._call("PUT", endpoint, "/ledger-head", json=claim.to_json())

    def accept_head(self, endpoint: EndpointRef, head: LedgerHead, *, instead_of: LedgerHead, reason: str) -> None:
        body = {"head": head.to_json(), "instead_of": instead_of.to_json(), "reason": reason}
        self._call("POST", endpoint, "/ledger-head/accepted", json=body)

    def renew(self, endpoint: EndpointRef, plan_id: str) -> None:
        self._call("POST", endpoint, "/lease", json={"plan_id": plan_id})

    def observe(self, endpoint: EndpointRef) -> PlaneObservation:
        return PlaneObservation.model_validate(self._call("GET", endpoint, ""))

    def telemetry(self, endpoint: EndpointRef, *, since: datetime, until: datetime) -> Telemetry:
        window = {"since": since.isoformat(), "until": until.isoformat()}
        return Telemetry.model_validate(self._call("GET", endpoint, "/telemetry", params=window))

    def survey(self, asked: Sequence[Surveyed], *, until: datetime, warm: bool = False) -> PlaneSurvey:
        plans: dict[EndpointRef, str | None] = {}
        telemetry: dict[EndpointRef, tuple[Telemetry, ...]] = {}
        takes: dict[EndpointRef, dict[str, bool]] | None = {} if warm else None
        for first in range(0, len(asked), ENDPOINTS_AT_ONCE):
            questions = {
                str(each.endpoint): {"release": each.release, "since": [begin.isoformat() for begin in each.since]}
                for each in asked[first : first + ENDPOINTS_AT_ONCE]
            }
            body = {"until": until.isoformat(), "endpoints": questions, "warm": warm}
            try:
                answer = PlaneSurvey.from_json(self._send("POST", "/v1/survey", json=body))
            except ValueError as error:
                raise PlaneUnavailable(
                    f"serving plane at {self._url}",
                    value=str(error)[:200],
                    limit="a survey as this version of the provider reads it",
                    remedy="run the same version of the provider at the plane and in Airflow",
                ) from None
            plans |= answer.plans
            telemetry |= answer.telemetry
            takes = None if takes is None or answer.warm is None else takes | answer.warm
        return PlaneSurvey(plans=plans, telemetry=telemetry, warm=takes)

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
        asked = {
            "primary": primary,
            "shadow": shadow,
            "since": since.isoformat(),
            "until": until.isoformat(),
            "slice": list(slices),
        }
        comparison = self._call("GET", endpoint, "/comparison", params=asked, timeout=COMPARISON_TIMEOUT_S)
        return ShadowComparison.model_validate(comparison)

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
        asked: dict[str, str | int] = {"since": since.isoformat(), "until": until.isoformat(), "limit": limit}
        if batch is not None:
            asked["batch"] = batch
        answer = self._call("GET", endpoint, f"/releases/{release_id}/predictions", params=asked)
        return PredictionSample.model_validate(answer)

    def sketches(self, endpoint: EndpointRef, release_id: str, *, since: datetime, until: datetime) -> ServedSketches:
        asked = {"since": since.isoformat(), "until": until.isoformat()}
        path = f"/releases/{release_id}/sketches"
        return ServedSketches.from_json(self._call("GET", endpoint, path, params=asked, timeout=SKETCHES_TIMEOUT_S))

    def sketches_by_batch(
        self, endpoint: EndpointRef, release_id: str, *, column: str, since: datetime, until: datetime
    ) -> BatchSketches:
        asked = {"column": column, "since": since.isoformat(), "until": until.isoformat()}
        path = f"/releases/{release_id}/sketches/batches"
        return BatchSketches.from_json(self._call("GET", endpoint, path, params=asked, timeout=SKETCHES_TIMEOUT_S))

    def batch_faults(
        self, endpoint: EndpointRef, release_id: str, *, since: datetime, until: datetime, psi: float, alpha: float
    ) -> BatchFaults:
        asked = {"since": since.isoformat(), "until": until.isoformat(), "psi": repr(psi), "alpha": repr(alpha)}
        path = f"/releases/{release_id}/sketches/faults"
        return BatchFaults.model_validate(self._call("GET", endpoint, path, params=asked, timeout=SKETCHES_TIMEOUT_S))

    def served(self, endpoint: EndpointRef, request_ids: Sequence[str]) -> ServedAnswers:
        answers = ServedAnswers()
        for some in _in_chunks(request_ids) or [[]]:
            answer = self._call("POST", endpoint, "/served", json={"request_ids": some}, timeout=COMPARISON_TIMEOUT_S)
            answers = answers.with_more(ServedAnswers.model_validate(answer))
        return answers

    def retire(self, endpoint: EndpointRef, release_id: str) -> None:
        self._call("DELETE", endpoint, f"/releases/{release_id}")

    def _headers(self) -> dict[str, str]:
        token = self._token if isinstance(self._token, str) else self._token()
        return {"authorization": f"Bearer {token}"}

    def _call(self, method: str, endpoint: EndpointRef, path: str, **sent: Any) -> Any:
        return self._send(method, f"/v1/endpoints/{endpoint.environment}/{endpoint.name}{path}", **sent)

    def _send(
        self,
        method: str,
        path: str,
        *,
        timeout: float = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
        **sent: Any,
    ) -> Any:
        try:
            answer = send(
                method, f"{self._url}{path}", headers={**self._headers(), **(headers or {})}, timeout=timeout, **sent
            )
        except httpx.HTTPError as error:
            raise PlaneUnavailable(
                f"serving plane at {self._url}",
                value=type(error).__name__,
                limit=f"an answer within {timeout:g} s",
                remedy="traffic goes on as last confirmed; start the plane (mlpipex serve run), run the task again",
            ) from None
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _raised_there(answer, self._url)


def _in_chunks(request_ids: Sequence[str]) -> list[list[str]]:
    """Every id once, in lists that a body of the control API can hold."""
    chunks: list[list[str]] = []
    room = 0
    for rid in dict.fromkeys(request_ids):
        size = len(json.dumps(rid)) + 1
        if size > room:
            chunks.append([])
            room = IDS_BYTES
        chunks[-1].append(rid)
        room -= size
    return chunks


def _raised_there(answer: httpx.Response, url: str) -> MlpipexError:
    """The error that the plane raised, as the class that it was; where this version has no such class, the nearest."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    status = answer.status_code
    nearest = NotAuthorised if status in (401, 403) else PlaneUnavailable
    if isinstance(body, dict) and "thing" in body:
        # Airflow tries again what is unavailable; a request that the plane has refused will be refused again.
        return error_from_dict(body, nearest=MlpipexError if nearest is PlaneUnavailable and status < 500 else nearest)
    # Not of our making: a proxy, or what stands before the routes.
    why = str(body["error"])[:200] if isinstance(body, dict) and body.get("error") else ""
    return nearest(f"serving plane at {url}", value=f"HTTP {status}{f': {why}' if why else ''}")
