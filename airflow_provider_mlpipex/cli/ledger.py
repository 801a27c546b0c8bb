"""``mlpipex ledger …``: keeping the ledger's house."""

from __future__ import annotations

from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, configured_platform, emit
from airflow_provider_mlpipex.domain.fields.quantities import parse_duration

app = typer.Typer(no_args_is_help=True, help="Look after the ledger's database.")


@app.command()
def prune(
    older_than: Annotated[str, typer.Option(help="A duration, for example 90d.")] = "90d",
    as_json: AsJson = False,
) -> None:
    """Forget routine records: stages that ended well, and looks at drift without news. Never touches a chain."""
    from airflow_provider_mlpipex.services.rollout.history import prune as forget

    pruned = forget(configured_platform(), older_than=parse_duration(older_than))
    emit(
        {"pruned": pruned, "older_than": older_than},
        as_json,
        lambda: f"{pruned} routine records older than {older_than} forgotten; the chains are as they were",
    )
