"""What is wrong with an endpoint, the most harmful first, and which runbook page says what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_mlpipex.domain.errors import MlpipexError, NotFound
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.endpoint_hold import held_sentence
from airflow_provider_mlpipex.domain.rollout.plane_observation import PlaneObservation
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.fleet.overview import Overview, endpoint_overview
from airflow_provider_mlpipex.services.platform import Platform


class Finding(Value):
    """One thing that is not as it should be.

    :param what: in words. :param evidence: what showed it. :param runbook: page under ``docs/runbooks``.
    """

    what: str
    evidence: str
    runbook: str


def diagnose(platform: Platform, endpoint: EndpointRef) -> tuple[Finding, ...]:
    """Everything that is wrong, in the order in which it hurts: clients, the way back, what is judged, what waits.

    It changes nothing. What cannot be asked is a finding itself, and what could be asked is told beside it.

    :raises NotFound: nobody has released anything there.
    """
    try:
        state = journal.load_known(platform, endpoint)
    except NotFound:
        raise
    except MlpipexError as error:
        return (_of_error("the ledger cannot be read: nothing is promoted, and rollbacks go over HTTP", error),)
    findings: list[Finding] = []
    on_plane = None
    try:
        on_plane = platform.plane.observe(endpoint)
    except MlpipexError as error:
        findings.append(_of_error("the serving plane cannot be asked: nothing can be moved", error))
    line = endpoint_overview(platform, state, on_plane=on_plane)
    if on_plane is not None:
        findings += _of_clients(state, on_plane)
        findings += _of_plans(state, line)
    findings += _of_judgement(state, line, is_reachable=on_plane is not None)
    findings += _of_what_waits(state)
    findings += _of_stages(platform, endpoint)
    return tuple(findings)


def _of_error(what: str, error: MlpipexError) -> Finding:
    return Finding(what=what, evidence=str(error), runbook=error.runbook)


def _of_clients(state: EndpointState, on_plane: PlaneObservation) -> Iterator[Finding]:
    """Releases that do not answer, current first."""
    serving = [release.id for release in (state.current, state.previous) if release is not None]
    for place, release in enumerate(serving):
        status = on_plane.releases.get(release)
        if status is None or status.state != "ready":
            ran = "does not run there" if status is None else f"{status.state}, ended {status.restarts} times"
            detail = f": {status.detail}" if status is not None and status.detail else ""
            whose = "current, which clients get" if place == 0 else "previous, which a rollback returns to"
            yield Finding(what=f"{release} is not ready ({whose})", evidence=ran + detail, runbook="release-not-ready")
        elif status.restarts:
            yield Finding(
                what=f"{release} has died and was started again",
                evidence=f"{status.restarts} times{f': {status.detail}' if status.detail else ''}",
                runbook="release-not-ready",
            )


def _of_plans(state: EndpointState, line: Overview) -> Iterator[Finding]:
    if state.rollback is not None:
        yield Finding(
            what=f"a rollback to {state.rollback.to_release} is decided and not in force",
            evidence=state.rollback.cause,
            runbook="plan-refused",
        )
    elif line.is_diverged:
        yield Finding(
            what="the plane serves another plan than the ledger's",
            evidence=f"plane {line.plane.plan or 'none'}, ledger {state.planned.id if state.planned else 'none'}",
            runbook="invariant-broken",
        )


def _of_judgement(state: EndpointState, line: Overview, *, is_reachable: bool) -> Iterator[Finding]:
    if state.incident is not None:
        since = f"since {state.incident.since:%Y-%m-%d %H:%M} UTC"
        yield Finding(what=f"unhealthy {since}", evidence=state.incident.cause, runbook="gate-failed")
    elif line.health == "unmeasured" and is_reachable:
        yield Finding(
            what="nobody can tell how it serves", evidence=line.health_cause or "no telemetry", runbook="gate-undecided"
        )
    if state.doubt is not None:
        yield Finding(what="late labels doubt its promotion", evidence=state.doubt.cause, runbook="promotion-reopened")


def _of_what_waits(state: EndpointState) -> Iterator[Finding]:
    if state.rollout is not None and state.rollout.hold is not None:
        hold = state.rollout.hold
        yield Finding(
            what=f"rollout {state.rollout.id} waits for a person", evidence=hold.cause, runbook="rollout-on-hold"
        )
    if state.held_back is not None:
        yield Finding(
            what="nothing is released here until somebody resumes",
            evidence=held_sentence(state.held_back),
            runbook="endpoint-held-back",
        )
    if state.owed_alerts:
        yield Finding(
            what="an alert has reached nobody yet",
            evidence=state.owed_alerts[-1].title,
            runbook="configuration-invalid",
        )


def _of_stages(platform: Platform, endpoint: EndpointRef) -> Iterator[Finding]:
    """The last failure of a stage, unless a release was promoted since; and drift, where the last look found some."""
    last = journal.newest(platform, endpoint, "stage-ended", "promoted")
    if last is not None and last.event.type == "stage-ended" and (error := last.event.error):
        yield Finding(
            what=f"{last.event.stage} failed at {last.recorded_at:%Y-%m-%d %H:%M} UTC",
            evidence=": ".join(str(part) for part in (error.get("thing"), error.get("value")) if part),
            runbook=str(error.get("runbook") or "unexpected"),
        )
    drift = journal.newest(platform, endpoint, "drift-judged")
    if drift is not None and drift.event.type == "drift-judged" and drift.event.verdict == "fail":
        yield Finding(
            what=f"what is served has drifted, by {drift.event.until:%Y-%m-%d %H:%M} UTC",
            evidence=drift.event.reason,
            runbook="drift-found",
        )
