"""``mlpipex history``: what an endpoint served when, and every entry of its ledger."""

from __future__ import annotations

from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import (
    AsJson,
    Endpoint,
    configured_platform,
    emit,
    emit_each,
    known_endpoint,
)
from airflow_provider_mlpipex.domain.fields.quantities import parse_moment
from airflow_provider_mlpipex.domain.rollout.events import Entry, RoutineRecord

app = typer.Typer()


@app.command()
def history(
    endpoint: Endpoint,
    at: Annotated[str, typer.Option(help="ISO 8601 time, UTC if it names no zone.")] = "",
    events: Annotated[bool, typer.Option(help="Every ledger entry instead of tenures.")] = False,
    routine: Annotated[bool, typer.Option(help="What decided nothing instead, until it is pruned.")] = False,
    last: Annotated[int, typer.Option(min=0, help="Only so many, the latest.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Which release was current when; with --at, the whole state at that moment."""
    from airflow_provider_mlpipex.services.rollout.history import as_of, facts
    from airflow_provider_mlpipex.services.rollout.tenures import tenures

    platform = configured_platform()
    ref = known_endpoint(platform, endpoint)
    if at:
        state = as_of(platform, ref, parse_moment(at, what="--at"))
        emit(state.to_json(), as_json, lambda: f"{ref} at {at}: {state.serving_now} (ledger entry {state.seq})")
    elif events or routine:
        # One by one, so that a chain of years takes no more memory than one of a day.
        emit_each(
            ((fact.to_json(), _fact_line(fact)) for fact in facts(platform, ref, routine=routine, last=last)), as_json
        )
    else:
        periods = tenures(platform, ref, last=last or None)
        emit(
            [tenure.to_json() for tenure in periods],
            as_json,
            lambda: (
                "\n".join(
                    f"{t.since:%Y-%m-%d %H:%M:%S} – {f'{t.until:%Y-%m-%d %H:%M:%S}' if t.until else 'now':19}"
                    f"  {t.release}  {t.ended_by}"
                    for t in periods
                )
                or f"{ref}: nothing has been released"
            ),
        )


def _fact_line(fact: Entry | RoutineRecord) -> str:
    number = fact.seq if isinstance(fact, Entry) else ""
    return (
        f"{number:5} {fact.recorded_at:%Y-%m-%d %H:%M:%S} {fact.event.type:18} {fact.origin.kind} "
        f"{fact.origin.task_id or fact.origin.user}"
    )
