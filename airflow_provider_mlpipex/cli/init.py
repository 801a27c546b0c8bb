"""``mlpipex init``: a first manifest, training module and Dag that run as they stand."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.adopt import Connection, Rows, Target, TaskName
from airflow_provider_mlpipex.cli.first_manifest import adopting_manifest, free, labels_block, name_of, rows_block
from airflow_provider_mlpipex.cli.terminal import AsJson, emit
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.names import check_name
from airflow_provider_mlpipex.domain.release.adoption import ModelReference
from airflow_provider_mlpipex.domain.validation.loading import load_manifest

app = typer.Typer()

_STARTER = ("my-model.yaml", "my_model.py", "release_my_model.py")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to write; Airflow's dags folder, or a new one.")] = Path(),
    name: Annotated[str, typer.Option(help="Of model, endpoint and files: lower-case letters and hyphens.")] = "",
    adopt: Annotated[
        str, typer.Option(help="A model that MLflow has, as models:/fraud/7: write the manifest that adopts it.")
    ] = "",
    rows: Rows = "",
    connection: Connection = "",
    task: TaskName = "",
    target: Target = "",
    as_json: AsJson = False,
) -> None:
    """Write a manifest, a training module and a Dag to start from. Nothing that is there is replaced.

    With --adopt nothing is trained: a manifest of at most fifteen lines, and --rows on which the model is proven.
    """
    if adopt:
        _adopting(
            folder, name, ModelReference.parse(adopt), rows_block(rows, connection), labels_block(task, target), as_json
        )
        return
    given = {"--rows": rows, "--connection": connection, "--task": task, "--target": target}
    if any(given.values()):
        raise typer.BadParameter("only with --adopt", param_hint=", ".join(o for o, value in given.items() if value))
    name = name or "my-model"
    check_name(name, what="--name")
    module = name.replace("-", "_")
    texts = {
        folder / _named(file, name, module): _named(
            (files(__package__) / "starter" / file).read_text("utf-8"), name, module
        )
        for file in _STARTER
    }
    taken = [path for path in texts if path.exists()]
    if taken:
        raise ConfigurationInvalid(
            f"file {taken[0]}",
            value="is there already",
            limit="a place where nothing is lost",
            remedy="name another folder, or another --name",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    manifest = folder / f"{name}.yaml"
    emit(
        {"files": [str(path) for path in texts]},
        as_json,
        lambda: "\n".join(
            [
                *(f"wrote {path}" for path in texts),
                "",
                f"mlpipex manifest validate {manifest}   # is it right?",
                f"mlpipex plan {manifest}                # what would a release go through?",
                f"mlpipex release {manifest}             # do it here, without Airflow; it needs a plane and MLflow:",
                "mlpipex serve run                      # the plane, in another terminal",
                "mlflow server                          # MLflow, in a third one",
            ]
        ),
    )


def _adopting(
    folder: Path,
    name: str,
    reference: ModelReference,
    rows: dict[str, str],
    labels: dict[str, str],
    as_json: bool,
) -> None:
    """Write the manifest, which is valid as it stands."""
    if not any(rows.values()):
        raise typer.BadParameter(
            "name rows that the model is proven on, for example holdout.parquet", param_hint="--rows"
        )
    name = check_name(name or name_of(reference), what="--name")
    path = free(folder / f"{name}.yaml")
    text = adopting_manifest(name, reference, rows, labels)
    load_manifest(text, file=str(path))
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    emit(
        {"files": [str(path)]},
        as_json,
        lambda: "\n".join(
            [
                f"wrote {path}",
                "",
                f"mlpipex plan {path}                # what would a release go through?",
                f"mlpipex adopt {reference.text} --manifest {path}   # what is known of it, and what is not?",
                f"mlpipex release {path}             # do it here, without Airflow; it needs a plane and MLflow",
            ]
        ),
    )


def _named(text: str, name: str, module: str) -> str:
    return text.replace("my-model", name).replace("my_model", module)
