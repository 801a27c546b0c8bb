"""``mlpipex audit …``: whether the ledger can be believed."""

from __future__ import annotations

import typer

from airflow_provider_mlpipex.cli.terminal import NO_LEDGER, AsJson, configured_platform, emit

app = typer.Typer(no_args_is_help=True, help="Verify the ledger.")


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Verify the hash chain of every endpoint."""
    from airflow_provider_mlpipex.services.rollout.history import audit

    counts = audit(configured_platform())
    emit(
        counts,
        as_json,
        lambda: "\n".join(f"{name}: {n} entries verified" for name, n in counts.items()) or NO_LEDGER,
    )
