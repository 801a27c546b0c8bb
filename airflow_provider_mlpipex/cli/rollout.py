"""What an endpoint serves, what it served when, and the way back: ``mlpipex status``, ``history``, ``rollback``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from airflow_provider_mlpipex.cli.terminal import NO_LEDGER, AsJson, Endpoint, configured_platform, emit
from airflow_provider_mlpipex.domain.fields.quantities import parse_moment
from airflow_provider_mlpipex.domain.names import EndpointRef

app = typer.Typer()


@app.command()
def status(endpoint: Annotated[str, typer.Argument()] = "", as_json: AsJson = False) -> None:
    """What an endpoint serves now (all endpoints without an argument)."""
    from airflow_provider_mlpipex.services.rollout.status import endpoint_status

    platform = configured_platform()
    endpoints = [EndpointRef.parse(endpoint)] if endpoint else platform.ledger.endpoints()
    found = [endpoint_status(platform, each) for each in endpoints]

    def text() -> str:
        return "\n".join(map(_status_line, found)) or NO_LEDGER

    emit(found, as_json, text)


def _status_line(one: dict[str, Any]) -> str:
    told = [f"current {one['current']}", f"previous {one['previous']}"]
    if one["rollout"]:
        told.append(f"rollout {one['rollout']['phase']}")
    if one["doubt"]:
        told.append(f"REOPENED by late labels ({one['doubt']['cause']})")
    if one["rollback_under_way"]:
        told.append(f"ROLLBACK to {one['rollback_under_way']['to_release']} DECIDED AND NOT IN FORCE")
    elif one["plane"] and one["current"] and not one["plane"]["as_confirmed"]:
        told.append("THE PLANE SERVES ANOTHER PLAN THAN THE LEDGER'S")
    plane = one["plane_error"] or (one["plane"] or {}).get("weights") or "not serving"
    return f"{one['endpoint']}: {', '.join(told)}; {plane}"


@app.command()
def history(
    endpoint: Endpoint,
    at: Annotated[str, typer.Option(help="ISO 8601 time, UTC if it names no zone.")] = "",
    events: Annotated[bool, typer.Option(help="Every ledger entry instead of tenures.")] = False,
    as_json: AsJson = False,
) -> None:
    """Which release was current when; with --at, the whole state at that moment."""
    from airflow_provider_mlpipex.services.rollout.history import as_of, tenures

    platform, ref = configured_platform(), EndpointRef.parse(endpoint)
    if at:
        state = as_of(platform, ref, parse_moment(at, what="--at"))
        current = state.current.id if state.current else "nothing"
        emit(state.to_json(), as_json, lambda: f"{ref} at {at}: {current} (ledger entry {state.seq})")
    elif events:
        entries = platform.ledger.read(ref)
        emit(
            [entry.to_json() for entry in entries],
            as_json,
            lambda: "\n".join(
                f"{e.seq:5} {e.recorded_at:%Y-%m-%d %H:%M:%S} {e.event.type:18} {e.origin.kind} "
                f"{e.origin.task_id or e.origin.user}"
                for e in entries
            ),
        )
    else:
        found = tenures(platform, ref)
        emit(
            [tenure.to_json() for tenure in found],
            as_json,
            lambda: (
                "\n".join(
                    f"{t.since:%Y-%m-%d %H:%M:%S} – {f'{t.until:%Y-%m-%d %H:%M:%S}' if t.until else 'now':19}"
                    f"  {t.release}  {t.ended_by}"
                    for t in found
                )
                or f"{ref}: nothing has been released"
            ),
        )


@app.command()
def rollback(
    endpoint: Endpoint,
    cause: Annotated[str, typer.Option(help="Why; goes into ledger and alert.")] = "manual rollback",
    release: Annotated[str | None, typer.Option(help="Only if this release serves: safe to run again.")] = None,
    rollout: Annotated[str | None, typer.Option(help="Undo this rollout and nothing else.")] = None,
    as_json: AsJson = False,
) -> None:
    """Return all traffic to the last good release, now. Needs no Airflow, no registry and no build.

    A rollout that merely waits, without traffic, is rejected with it.
    """
    from airflow_provider_mlpipex.services.rollout.rollback import answer_request

    report = answer_request(
        configured_platform(), EndpointRef.parse(endpoint), cause=cause, rollout_id=rollout, release_id=release
    )
    emit({**report.to_json(), "done": report.sentence}, as_json, lambda: report.sentence)
