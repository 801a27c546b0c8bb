"""``mlpipex``: the same verbs for a terminal. Every command takes ``--json``; this module only assembles them.

Exit codes: 0 done, 1 refused or failed (the message says what, why and what to do), 2 wrong usage. Answers go to
standard output; refusals, as text or as JSON, to standard error.
"""

from __future__ import annotations

from typing import Annotated

import typer

from airflow_provider_mlpipex import __version__
from airflow_provider_mlpipex.cli import (
    adopt,
    alerts,
    audit,
    demo,
    diagnose,
    drift,
    drill,
    gates,
    history,
    hold,
    init,
    labels,
    ledger,
    manifest,
    plan,
    quality,
    release,
    rollback,
    rules,
    serve,
    status,
    tokens,
    training,
    version,
)
from airflow_provider_mlpipex.cli.refusals import Commands

app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False)
for commands in (
    init, plan, rules, release, hold, status, diagnose, history, rollback, drill, training, adopt, demo, version
):  # fmt: skip
    app.add_typer(commands.app)
for name, group in {
    "manifest": manifest,
    "gates": gates,
    "quality": quality,
    "drift": drift,
    "labels": labels,
    "alerts": alerts,
    "serve": serve,
    "tokens": tokens,
    "audit": audit,
    "ledger": ledger,
}.items():
    app.add_typer(group.app, name=name)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Ship models the way good teams ship code."""


def main() -> None:
    """Entry point."""
    app()
