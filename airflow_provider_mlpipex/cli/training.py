"""``mlpipex reproduce``: train a release again from what was recorded."""

from __future__ import annotations

from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, configured_platform, emit

app = typer.Typer()


@app.command()
def reproduce(
    release: Annotated[str, typer.Argument(help="release id, or an endpoint: its current release")],
    as_json: AsJson = False,
) -> None:
    """Retrain a release from its recorded snapshot and compare metrics."""
    from airflow_provider_mlpipex.services.rollout.history import released
    from airflow_provider_mlpipex.services.training.train import reproduce as retrain

    platform = configured_platform()
    original, manifest = released(platform, release)
    differences = retrain(
        original, manifest, store=platform.snapshots, registry=platform.registry, runtimes=platform.runtimes
    )
    emit(
        differences,
        as_json,
        lambda: "\n".join(f"{metric}: {values}" for metric, values in differences.items()),
    )
