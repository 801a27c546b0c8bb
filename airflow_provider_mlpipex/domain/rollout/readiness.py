"""Whether a rollback would work right now, and if not, why: the lamp beside each endpoint.

It is judged by what a rollback needs and nothing else: a release to return to, warm on a plane that answers, and a
ledger that can be read. A drill, or a rollback, has shown that it works; where the manifest asks for one every so
often, an older proof is none.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from airflow_provider_mlpipex.domain.fields.quantities import format_duration
from airflow_provider_mlpipex.domain.rollout.summary import EndpointSummary
from airflow_provider_mlpipex.domain.values import Value

Lamp = Literal["green", "amber", "red", "none"]


class Check(Value):
    """One thing that a rollback needs.

    :param ok: ``None`` where nobody can tell. :param detail: what was found, in words.
    """

    name: Literal["release to return to", "serving plane", "warm", "plan in force", "drill"]
    ok: bool | None
    detail: str


class Readiness(Value):
    """:param lamp: ``red``: a rollback would not work now; ``amber``: nobody can tell, or it takes a moment longer;
    ``none``: nothing has been released twice, so there is nothing to return to yet. :param reason: the first check that
    is not ``ok``, in words."""

    lamp: Lamp
    reason: str | None
    checks: tuple[Check, ...]


class OnPlane(Value):
    """What the plane says of one endpoint.

    :param trouble: why it could not be asked; empty where it could.
    :param plan: id of the plan in force.
    :param warm: releases that run there, and whether each takes requests now; ``None`` where it does not say.
    :param details: what is wrong with a release, as far as the plane says.
    """

    trouble: str = ""
    plan: str | None = None
    warm: dict[str, bool] | None = None
    details: dict[str, str] = {}


def readiness(state: EndpointSummary, plane: OnPlane, *, now: datetime) -> Readiness:
    """Judge what is known of an endpoint, and what its plane says."""
    target, kind = _returns_to(state)
    if target is None and not _had_one(state):
        return Readiness(lamp="none", reason=None, checks=())
    checks = [_target(target, kind)]
    if target is not None:
        checks += [_plane(plane), _warm(target, plane), _plan(state, plane)]
    checks += _drill(state, now)
    failed = next((check for check in checks if check.ok is False), None)
    unknown = next((check for check in checks if check.ok is None), None)
    worst = failed or unknown
    lamp: Lamp = "red" if failed else "amber" if unknown else "green"
    return Readiness(lamp=lamp, reason=worst.detail if worst else None, checks=tuple(checks))


def _returns_to(state: EndpointSummary) -> tuple[str | None, str]:
    """The release that a rollback would return to, and what it is."""
    if state.rollback is not None:
        return state.rollback.to_release, "the release that a rollback is returning to"
    if state.on_trial:
        return (state.current.id if state.current else None), "current, beside a trial"
    return (state.previous.id if state.previous else None), "the previous release"


def _had_one(state: EndpointSummary) -> bool:
    """Whether there is none because a rollback has used it."""
    return any(result.ending == "rolled-back" for result in state.results.values()) and state.current is not None


def _target(target: str | None, kind: str) -> Check:
    name: Literal["release to return to"] = "release to return to"
    if target is None:
        said = "nothing to return to: the last rollback has used the previous release, until the next one is promoted"
        return Check(name=name, ok=False, detail=said)
    return Check(name=name, ok=True, detail=f"{target}, {kind}")


def _plane(plane: OnPlane) -> Check:
    if plane.trouble:
        return Check(name="serving plane", ok=False, detail=f"the serving plane cannot be asked: {plane.trouble}")
    return Check(name="serving plane", ok=True, detail="answers")


def _warm(target: str, plane: OnPlane) -> Check:
    if plane.trouble or plane.warm is None:
        return Check(name="warm", ok=None, detail=f"nobody can tell whether {target} is warm")
    why = f": {plane.details[target]}" if plane.details.get(target) else ""
    if target not in plane.warm:
        return Check(name="warm", ok=False, detail=f"{target} is gone from the plane{why}")
    if not plane.warm[target]:
        return Check(name="warm", ok=False, detail=f"{target} is cold{why}")
    return Check(name="warm", ok=True, detail=f"{target} runs and takes requests")


def _plan(state: EndpointSummary, plane: OnPlane) -> Check:
    if plane.trouble or state.planned is None:
        return Check(name="plan in force", ok=None, detail="nobody can tell which plan is in force")
    if state.rollback is not None:
        return Check(name="plan in force", ok=False, detail="a rollback is decided and not in force")
    if plane.plan != state.planned.id:
        return Check(name="plan in force", ok=False, detail="the plane serves another plan than the ledger's")
    return Check(name="plan in force", ok=True, detail="the plane serves the ledger's plan")


def _drill(state: EndpointSummary, now: datetime) -> list[Check]:
    every, proven_at, last = state.drill_every, state.proven_at, state.last_drill
    if last is not None and not last.ok and (proven_at is None or proven_at < last.at):
        return [Check(name="drill", ok=False, detail=f"the last drill, on {_day(last.at)}, failed: {last.detail}")]
    if every is None:
        return [Check(name="drill", ok=True, detail=f"shown to work on {_day(proven_at)}")] if proven_at else []
    asked = f"one every {format_duration(every)} is asked for"
    if proven_at is None:
        return [Check(name="drill", ok=False, detail=f"never drilled; {asked}")]
    detail = f"last shown to work on {_day(proven_at)}; {asked}"
    return [Check(name="drill", ok=now - proven_at <= every, detail=detail)]


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
