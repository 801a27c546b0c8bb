"""``mlpipex demo``: the whole life of a model on this machine."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, emit

app = typer.Typer()


@app.command()
def demo(
    once: Annotated[bool, typer.Option(help="Stop everything at the end and report.")] = False,
    ports: Annotated[str, typer.Option(help="'default' or 'auto'")] = "default",
    as_json: AsJson = False,
) -> None:
    """Play the whole life of a model on real data, on this machine. With --json the report follows at the end."""
    from airflow_provider_mlpipex.demo.play import FOLDER, play

    if not as_json:
        raise typer.Exit(play(once=once, ports=ports))
    with redirect_stdout(sys.stderr):
        code = play(once=once, ports=ports)
    report = json.loads((FOLDER / "report.json").read_text(encoding="utf-8"))
    emit(report, as_json, lambda: "")
    raise typer.Exit(code)
