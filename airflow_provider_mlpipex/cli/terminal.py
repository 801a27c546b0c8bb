"""What every group of commands shares: its arguments, the ports from ``MLPIPEX_*``, and how an answer is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from airflow_provider_mlpipex.composition import Settings, build_platform, terminal_origin
from airflow_provider_mlpipex.services.platform import Platform

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
ManifestFile = Annotated[Path, typer.Argument(help="Deployment manifest (YAML).")]
Endpoint = Annotated[str, typer.Argument(help="environment/name, for example production/fraud-scorer")]


#: What a command says where it found no entry at all.
NO_LEDGER = "the ledger holds no entries; is MLPIPEX_LEDGER_URL the right one?"


def configured_platform() -> Platform:
    """The ports over the adapters that the environment names, acting for whoever is at the terminal."""
    return build_platform(Settings.from_environment(), terminal_origin())


def emit(payload: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print ``payload`` as JSON, or what ``text`` makes of it."""
    typer.echo(json.dumps(payload, indent=2, default=str) if as_json else text())
