"""What every group of commands shares: its arguments, the ports from ``MLPIPEX_*``, and how an answer is printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from airflow_provider_mlpipex.composition import Settings, build_platform, terminal_origin
from airflow_provider_mlpipex.domain.errors import NotFound
from airflow_provider_mlpipex.domain.fields.free_text import without_controls
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
ManifestFile = Annotated[Path, typer.Argument(help="Deployment manifest (YAML).")]
Endpoint = Annotated[str, typer.Argument(help="environment/name, for example production/fraud-scorer")]
Note = Annotated[str, typer.Option(help="Why; goes into the ledger.")]


def configured_platform(*, create: bool = False) -> Platform:
    """The ports over the adapters that the environment names, acting for whoever is at the terminal.

    Most commands read what others have written: a ledger that is not there is a slip in its url.

    :param create: a new ledger is made by the first entry.
    :raises NotFound: no such ledger.
    """
    from airflow_provider_mlpipex.adapters.sql.database import SqlDatabase

    settings = Settings.from_environment()
    database = SqlDatabase(settings.ledger_url)
    if not create and not database.exists:
        raise NotFound(
            f"ledger {settings.ledger_url}",
            value="no such file",
            limit="a ledger that releases were written to",
            remedy="set MLPIPEX_LEDGER_URL to the one that your tasks use; the first release creates it",
        )
    return build_platform(settings, terminal_origin())


def known_endpoint(platform: Platform, text: str) -> EndpointRef:
    """An endpoint that the ledger knows.

    :raises NotFound: it has no entry there, with the nearest that has one.
    """
    endpoint = EndpointRef.parse(text)
    journal.load_known(platform, endpoint)
    return endpoint


def emit(payload: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print ``payload`` as JSON, or what ``text`` makes of it."""
    typer.echo(json.dumps(payload, indent=2, default=str) if as_json else shown(text()))


def shown(text: str) -> str:
    """``text`` as a terminal may get it: what others have written into a ledger moves no cursor and colours nothing."""
    return without_controls(text, but="\n\t")


def emit_each(parts: Iterable[tuple[Any, str]], as_json: bool) -> None:
    """Print a long answer as it comes: each part as JSON, in one array, or as a line of text."""
    between = "[\n"
    for payload, line in parts:
        if as_json:
            typer.echo(between + json.dumps(payload, indent=2, default=str), nl=False)
            between = ",\n"
        else:
            typer.echo(shown(line))
    if as_json:
        typer.echo("[]" if between == "[\n" else "\n]")
