"""``mlpipex status``: what an endpoint serves, by the ledger and by the plane."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer

from airflow_provider_mlpipex.cli.terminal import (
    AsJson,
    configured_platform,
    emit,
    known_endpoint,
)
from airflow_provider_mlpipex.domain.fields.quantities import format_ratio
from airflow_provider_mlpipex.domain.rollout.endpoint_hold import held_sentence
from airflow_provider_mlpipex.domain.rollout.state import HeldBack
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TOTAL_WEIGHT
from airflow_provider_mlpipex.services import journal

app = typer.Typer()


@app.command()
def status(endpoint: Annotated[str, typer.Argument()] = "", as_json: AsJson = False) -> None:
    """What an endpoint serves now (all endpoints without an argument)."""
    from airflow_provider_mlpipex.services.fleet.overview import endpoint_overview, overview
    from airflow_provider_mlpipex.services.rollout.status import endpoint_status

    platform = configured_platform()
    if endpoint:
        lines = [endpoint_overview(platform, journal.load(platform, known_endpoint(platform, endpoint)))]
    else:
        lines = list(overview(platform).endpoints)
    statuses = [
        {**endpoint_status(platform, line.summary.endpoint), "readiness": line.readiness.to_json()} for line in lines
    ]
    emit(statuses, as_json, lambda: "\n".join("\n".join(_status_lines(each)) for each in statuses) or journal.NO_LEDGER)


def _status_lines(status: dict[str, Any]) -> Iterator[str]:
    """What serves, what a rollback returns to, what is under way, and what is not as it should be."""
    yield status["endpoint"]
    since = f" since {_minute(status['current_since'])}" if status["current_since"] else ""
    yield f"  serves     {status['current'] or 'nothing'}{since}"
    yield f"  before it  {status['previous'] or 'none: a rollback has nothing to return to'}"
    rollout, last, plane = status["rollout"], status["last_result"], status["plane"]
    if rollout:
        yield f"  rollout    {rollout['id']}: {rollout['candidate']} {_phase(rollout)}"
        if rollout.get("hold"):
            yield f"  ATTENTION  ON HOLD, a person decides: {rollout['hold']['cause']}"
            yield f"             mlpipex resume, skip or abort {status['endpoint']}"
    if last:
        ending = last["ending"].replace("-", " ")
        yield f"  last       {last['rollout_id']} {ending}: {last['cause'] or 'no cause given'}"
    if status["plane_error"]:
        yield f"  plane      cannot be asked: {status['plane_error']}"
    elif plane:
        yield f"  plane      {_shares(plane) or 'serves nothing'}"
        for release, on_plane in plane["releases"].items():
            if on_plane["detail"]:
                times = f", ended {on_plane['restarts']} x" if on_plane["restarts"] else ""
                yield f"  {on_plane['state']:<9}  {release}{times}: {on_plane['detail']}"
    for check in (status["readiness"] or {}).get("checks", ()):
        # What else would stand in the way is said by other lines.
        if check["name"] in ("warm", "drill") and check["ok"] is False:
            yield f"  ATTENTION  NO WAY BACK NOW: {check['detail']}"
    if status["incident"]:
        yield f"  ATTENTION  UNHEALTHY since {status['incident']['since'][:16]} ({status['incident']['cause']})"
    if status["held_back"]:
        held = held_sentence(HeldBack.model_validate(status["held_back"]))
        yield f"  ATTENTION  HELD: {held} (mlpipex resume {status['endpoint']})"
    if status["doubt"]:
        yield f"  ATTENTION  REOPENED by late labels ({status['doubt']['cause']})"
    if status["rollback_under_way"]:
        yield f"  ATTENTION  ROLLBACK to {status['rollback_under_way']['to_release']} DECIDED AND NOT IN FORCE"
    elif plane and status["current"] and not plane["as_confirmed"]:
        yield "  ATTENTION  THE PLANE SERVES ANOTHER PLAN THAN THE LEDGER'S"


def _phase(rollout: dict[str, Any]) -> str:
    step = f", step {rollout['step'] + 1}" if rollout["phase"] == "canary" else ""
    phases = {"opened": "is judged", "review": "waits for a review", "watching": "serves, and is watched"}
    return f"{phases.get(rollout['phase'], 'in ' + rollout['phase'])}{step}"


def _shares(plane: dict[str, Any]) -> str:
    """Who answers how many of the requests; weights of a plan are of :data:`TOTAL_WEIGHT`."""
    shares = [f"{format_ratio(weight / TOTAL_WEIGHT)} to {name}" for name, weight in plane["weights"].items()]
    if plane["mirror"]:
        shares.append(f"{format_ratio(plane['mirror']['fraction'])} mirrored to {plane['mirror']['release']}")
    return ", ".join(shares)


def _minute(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M} UTC"
