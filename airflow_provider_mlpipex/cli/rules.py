"""``mlpipex rules``: what Prometheus should watch."""

from __future__ import annotations

from typing import Annotated

import typer
import yaml

from airflow_provider_mlpipex.cli.terminal import AsJson, ManifestFile, emit
from airflow_provider_mlpipex.domain.errors import RUNBOOKS
from airflow_provider_mlpipex.domain.planning.alert_rules import alert_rules
from airflow_provider_mlpipex.manifest_files import load_manifest_file

app = typer.Typer()


@app.command()
def rules(
    file: ManifestFile,
    runbooks: Annotated[str, typer.Option(help="Address of the folder that alerts link to.")] = RUNBOOKS,
    as_json: AsJson = False,
) -> None:
    """Print Prometheus alert rules that follow from a manifest's rollback gates."""
    groups, left_out = alert_rules(load_manifest_file(file), runbooks=runbooks)

    def text() -> str:
        comments = [f"# {gate}: no rule, for {why}" for gate, why in left_out.items()]
        return "\n".join([*comments, yaml.safe_dump(groups, sort_keys=False, width=120)])

    emit({**groups, "left_out": left_out}, as_json, text)
