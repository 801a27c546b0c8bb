"""``mlpipex rollback``: back to the last good release, in one call."""

from __future__ import annotations

from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import (
    AsJson,
    Endpoint,
    configured_platform,
    emit,
    known_endpoint,
)

app = typer.Typer()


@app.command()
def rollback(
    endpoint: Endpoint,
    cause: Annotated[str, typer.Option(help="Why; goes into ledger and alert.")] = "manual rollback",
    release: Annotated[str | None, typer.Option(help="Only if this release serves: safe to run again.")] = None,
    rollout: Annotated[str | None, typer.Option(help="Undo this rollout and nothing else.")] = None,
    hold: Annotated[bool, typer.Option(help="Keep automation from releasing its lineage again.")] = True,
    as_json: AsJson = False,
) -> None:
    """Return all traffic to the last good release, now. Needs no Airflow, no registry and no build.

    A rollout that merely waits, without traffic, is rejected with it.
    """
    from airflow_provider_mlpipex.services.rollout.rollback import answer_request

    platform = configured_platform()
    report = answer_request(
        platform, known_endpoint(platform, endpoint), cause=cause, rollout_id=rollout, release_id=release, hold=hold
    )
    emit({**report.to_json(), "done": report.sentence}, as_json, lambda: report.sentence)
