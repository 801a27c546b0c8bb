"""``mlpipex plan``: what a release would go through."""

from __future__ import annotations

from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, ManifestFile, emit
from airflow_provider_mlpipex.manifest_files import load_manifest_file

app = typer.Typer()


@app.command()
def plan(
    file: ManifestFile,
    environment: Annotated[str, typer.Option(help="Only this environment.")] = "",
    as_json: AsJson = False,
) -> None:
    """What a release would go through: steps, gates, time to promote and to roll back."""
    from airflow_provider_mlpipex.domain.planning import plan as rollout_plan

    manifest = load_manifest_file(file)
    names = [environment] if environment else list(manifest.environments)
    plans = [rollout_plan.plan(manifest, name) for name in names]
    emit([p.to_json() for p in plans], as_json, lambda: "\n\n".join(rollout_plan.render(each) for each in plans))
