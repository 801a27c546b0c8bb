"""``mlpipex version``."""

from __future__ import annotations

import typer

from airflow_provider_mlpipex import __version__
from airflow_provider_mlpipex.cli.terminal import AsJson, emit

app = typer.Typer()


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the provider's version."""
    emit({"version": __version__}, as_json, lambda: __version__)
