"""``mlpipex``: the same verbs for a terminal. Every command takes ``--json``; this module only assembles them.

Exit codes: 0 done, 1 refused or failed (the message says what, why and what to do), 2 wrong usage. Answers go to
standard output; refusals, as text or as JSON, to standard error.
"""

from __future__ import annotations

import typer

from airflow_provider_mlpipex.cli import (
    adopt,
    audit,
    demo,
    drift,
    gates,
    labels,
    manifest,
    plan,
    quality,
    rollout,
    serve,
    tokens,
    training,
    version,
)
from airflow_provider_mlpipex.cli.refusals import Commands

app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, help="Ship models the way good teams ship code."
)
for commands in (plan, rollout, training, adopt, demo, version):
    app.add_typer(commands.app)
for name, group in {
    "manifest": manifest,
    "gates": gates,
    "quality": quality,
    "drift": drift,
    "labels": labels,
    "serve": serve,
    "tokens": tokens,
    "audit": audit,
}.items():
    app.add_typer(group.app, name=name)


def main() -> None:
    """Entry point."""
    app()
