"""``mlpipex adopt``: a model that another pipeline logged in MLflow, registered with all that a release needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.first_manifest import adopting_manifest, labels_block, name_of, rows_block
from airflow_provider_mlpipex.cli.terminal import AsJson, configured_platform, emit
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.release.adoption import ModelReference
from airflow_provider_mlpipex.domain.release.release import ModelVersion
from airflow_provider_mlpipex.domain.validation.loading import load_manifest
from airflow_provider_mlpipex.manifest_files import load_manifest_file

app = typer.Typer()

Rows = Annotated[
    str,
    typer.Option(help="What it is proven on: a Parquet or CSV file below here, its uri, module:function, or a query."),
]
Connection = Annotated[str, typer.Option(help="Airflow connection that --rows is a query over.")]
TaskName = Annotated[
    str, typer.Option("--task", help="binary, multiclass or regression; without it nothing is evaluated.")
]
Target = Annotated[str, typer.Option(help="Column of the labels.")]

#: Metrics that are listed.
_LISTED = 6


@app.command()
def adopt(
    reference: Annotated[
        str, typer.Argument(help="models:/fraud/7, models:/fraud@champion, runs:/RUN/PATH, or a model directory's uri.")
    ],
    manifest: Annotated[
        Path | None,
        typer.Option(help="Whose evaluation block names the rows, and whose model it becomes a version of."),
    ] = None,
    rows: Rows = "",
    connection: Connection = "",
    task: TaskName = "",
    target: Target = "",
    name: Annotated[str, typer.Option(help="Of the endpoint; as the registered model is called if not given.")] = "",
    as_json: AsJson = False,
) -> None:
    """Register a model that another pipeline logged; the same again changes nothing.

    It is pinned to what the reference names now, by version and digest, and evaluated on rows: those of the manifest,
    or --rows. Loading it runs code of whoever logged it. Nothing is released by this.
    """
    from airflow_provider_mlpipex.hooks import adoption

    if (manifest is None) == (not rows):
        raise typer.BadParameter("give one of --manifest, --rows", param_hint="--manifest, --rows")
    folder = manifest.resolve().parent if manifest else Path.cwd()
    sys.path.insert(0, str(folder))  # a function that gives the rows may stand there
    spec = load_manifest_file(manifest) if manifest else _manifest(reference, rows, connection, task, target, name)
    adopted = adoption.adopt(configured_platform(create=True), spec, folder=folder, reference=reference)
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


def _manifest(reference: str, rows: str, connection: str, task: str, target: str, name: str) -> Manifest:
    """What ``mlpipex init --adopt`` would write."""
    named = ModelReference.parse(reference)
    text = adopting_manifest(name or name_of(named), named, rows_block(rows, connection), labels_block(task, target))
    return load_manifest(text, file="the options")


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
