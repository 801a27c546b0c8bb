"""``mlpipex init``: a first manifest, training module and Dag that run as they stand."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, emit
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.names import check_name

app = typer.Typer()

_STARTER = ("my-model.yaml", "my_model.py", "release_my_model.py")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to write; Airflow's dags folder, or a new one.")] = Path(),
    name: Annotated[
        str, typer.Option(help="Of model, endpoint and files: lower-case letters and hyphens.")
    ] = "my-model",
    as_json: AsJson = False,
) -> None:
    """Write a manifest, a training module and a Dag to start from. Nothing that is there is replaced."""
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


def _named(text: str, name: str, module: str) -> str:
    return text.replace("my-model", name).replace("my_model", module)
