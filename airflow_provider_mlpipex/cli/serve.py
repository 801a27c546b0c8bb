"""``mlpipex serve …``: the embedded serving plane."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, emit

app = typer.Typer(no_args_is_help=True, help="The embedded serving plane.")

StateDir = Annotated[Path, typer.Option(help="Where the plane keeps its state.", envvar="MLPIPEX_STATE_DIR")]


@app.command()
def run(
    state_dir: StateDir = Path(".mlpipex/plane"),
    ingress_port: Annotated[int, typer.Option(envvar="MLPIPEX_INGRESS_PORT")] = 8088,
    control_port: Annotated[int, typer.Option(envvar="MLPIPEX_CONTROL_PORT")] = 8089,
    tracking_uri: Annotated[str, typer.Option(envvar="MLPIPEX_TRACKING_URI")] = "http://127.0.0.1:5000",
    as_json: AsJson = False,
) -> None:
    """Run the plane in the foreground: Envoy, model servers, control API with rollback. Says first where it will be."""
    from airflow_provider_mlpipex.entrypoints import plane_daemon

    addresses = {
        "ingress_url": f"http://127.0.0.1:{ingress_port}",
        "control_url": f"http://127.0.0.1:{control_port}",
        "state_dir": str(state_dir.resolve()),
    }
    emit(addresses, as_json, lambda: "\n".join(f"{key}: {value}" for key, value in addresses.items()))
    sys.stdout.flush()
    plane_daemon.run(
        state_dir=state_dir, ingress_port=ingress_port, control_port=control_port, tracking_uri=tracking_uri
    )


@app.command()
def stop(state_dir: StateDir = Path(".mlpipex/plane"), as_json: AsJson = False) -> None:
    """Stop the plane with everything it runs; nothing to stop is fine."""
    from airflow_provider_mlpipex.serving.plane import daemon

    ran = bool(daemon.status(state_dir)["running"])
    daemon.stop(state_dir)
    emit({"stopped": ran}, as_json, lambda: "stopped" if ran else "it was not running")


@app.command()
def status(state_dir: StateDir = Path(".mlpipex/plane"), as_json: AsJson = False) -> None:
    """Whether the plane runs, and where; exit code 1 if it does not."""
    from airflow_provider_mlpipex.serving.plane import daemon

    found = daemon.status(state_dir)
    emit(found, as_json, lambda: "\n".join(f"{key}: {value}" for key, value in found.items()))
    if not found["running"]:
        raise typer.Exit(1)
