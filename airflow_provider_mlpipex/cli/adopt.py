"""``mlpipex adopt``: a model that another pipeline logged in MLflow, registered with all that a release needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, configured_platform, emit
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.release.release import ModelVersion
from airflow_provider_mlpipex.manifest_files import load_manifest_file

app = typer.Typer()

#: Metrics that are listed.
_LISTED = 6


@app.command()
def adopt(
    reference: Annotated[
        str, typer.Argument(help="models:/fraud/7, models:/fraud@champion, runs:/RUN/PATH, or a model directory's uri.")
    ],
    manifest: Annotated[
        Path, typer.Option(help="Whose evaluation block names the rows, and under whose model.name it is registered.")
    ],
    as_json: AsJson = False,
) -> None:
    """Register a model that another pipeline logged; the same again changes nothing.

    It is pinned to what the reference names now, by version and digest, and evaluated on the manifest's rows. Loading
    it runs code of whoever logged it. Nothing is released by this.
    """
    from airflow_provider_mlpipex.hooks import adoption

    spec = load_manifest_file(manifest)
    folder = manifest.resolve().parent
    sys.path.insert(0, str(folder))  # evaluation.callable may stand beside the manifest
    adopted = adoption.adopt(configured_platform(), spec, folder=folder, reference=reference)
    model = adopted.model
    answer = {
        "model": model.name,
        "version": model.version,
        "known": adopted.known,
        "reasons": list(adopted.reasons),
        "artifact_digest": model.artifact_digest,
        "adopted": model.adopted.to_json() if model.adopted else None,
        "metrics": model.metrics,
        "evaluation_rows": model.evaluation_rows,
    }
    emit(answer, as_json, lambda: "\n".join(_lines(model, adopted.reasons, spec)))


def _lines(model: ModelVersion, reasons: tuple[str, ...], manifest: Manifest) -> Iterator[str]:
    yield f"{model.name} {model.version}: {'; '.join(reasons)}"
    adopted = model.adopted
    if adopted is None:
        return
    yield f"  source     {adopted.source}, digest {adopted.source_digest[:12]}"
    yield f"  model      {model.architecture}, artifact digest {model.artifact_digest[:12]}"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in list(model.metrics.items())[:_LISTED])
    yield f"  evaluated  {metrics} on {model.evaluation_rows} rows" if metrics else "  evaluated  nothing: no labels"
    if not adopted.missing:
        yield "  not known  nothing"
        return
    yield f"  not known  {', '.join(adopted.missing)}"
    for name, environment in manifest.environments.items():
        if environment.provenance != "recorded-as-missing":
            yield f"             {name} requires it: log it with the model, or write provenance: recorded-as-missing"
