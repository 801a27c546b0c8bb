"""``mlpipex serve …``: the embedded serving plane."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, emit
from airflow_provider_mlpipex.domain.errors import MlpipexError

if TYPE_CHECKING:
    from airflow_provider_mlpipex.serving.plane.collector import Collector, Garbage

app = typer.Typer(no_args_is_help=True, help="The embedded serving plane.")

StateDir = Annotated[Path, typer.Option(help="Where the plane keeps its state.", envvar="MLPIPEX_STATE_DIR")]


@app.command()
def run(
    state_dir: StateDir = Path(".mlpipex/plane"),
    ingress_port: Annotated[int, typer.Option(envvar="MLPIPEX_INGRESS_PORT")] = 8088,
    control_port: Annotated[int, typer.Option(envvar="MLPIPEX_CONTROL_PORT")] = 8089,
    tracking_uri: Annotated[str, typer.Option(envvar="MLPIPEX_TRACKING_URI")] = "http://127.0.0.1:5000",
    take_unrecorded: Annotated[
        bool,
        typer.Option(
            "--take-unrecorded",
            help="To try the plane by itself: whoever has the deploy token may bring releases that no ledger knows, "
            "from any folder.",
        ),
    ] = False,
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
        state_dir=state_dir,
        ingress_port=ingress_port,
        control_port=control_port,
        tracking_uri=tracking_uri,
        take_unrecorded=take_unrecorded,
    )


@app.command()
def collect(
    state_dir: StateDir = Path(".mlpipex/plane"),
    delete: Annotated[bool, typer.Option("--delete", help="Delete it. Without this, it is only listed.")] = False,
    days: Annotated[
        float, typer.Option(min=0.0, help="Days without use, of models, environments and server folders.")
    ] = 14.0,
    log_days: Annotated[
        float, typer.Option(min=0.0, help="Days without a record, of predictions and sketches; age of pages.")
    ] = 90.0,
    drift_root: Annotated[Path | None, typer.Option(help="Folder of drift pages.", envvar="MLPIPEX_DRIFT_ROOT")] = None,
    quality_root: Annotated[
        Path | None, typer.Option(help="Folder of results and Data Docs.", envvar="MLPIPEX_QUALITY_ROOT")
    ] = None,
    runtime_root: Annotated[
        Path | None, typer.Option(help="Folder of environments that workers build.", envvar="MLPIPEX_RUNTIME_ROOT")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what the plane keeps of releases that it no longer runs, and is old; with --delete, delete it.

    Kept releases and what runs are never among it: a rollback needs them. The plane may run meanwhile.
    """
    pages = [folder for folder in (drift_root, quality_root) if folder is not None]
    collector = _collector(state_dir, days=days, log_days=log_days, workers=runtime_root, pages=pages)
    pieces = collector.collect() if delete else collector.find()
    report = {
        "deleted": delete,
        "bytes": sum(garbage.size for garbage in pieces),
        "found": [g.to_json() for g in pieces],
    }
    emit(report, as_json, lambda: _listed(pieces, deleted=delete))


def _listed(pieces: Sequence[Garbage], *, deleted: bool) -> str:
    lines = [
        f"{garbage.kind:22} {garbage.size / 1e6:9.1f} MB  last used {date.fromtimestamp(garbage.used)}  {garbage.path}"
        for garbage in pieces
    ]
    if deleted:
        return "\n".join([*lines, f"deleted {len(pieces)} things, {_megabytes(pieces)}"])
    last = f"{len(pieces)} things, {_megabytes(pieces)}: nothing was deleted; add --delete to do so"
    return "\n".join([*lines, last if pieces else "nothing to collect"])


def _megabytes(pieces: Sequence[Garbage]) -> str:
    return f"{sum(garbage.size for garbage in pieces) / 1e6:.1f} MB"


def _collector(state_dir: Path, **settings: Any) -> Collector:
    from airflow_provider_mlpipex.serving.plane.collector import Collector

    return Collector(state_dir, **settings)


@app.command()
def stop(state_dir: StateDir = Path(".mlpipex/plane"), as_json: AsJson = False) -> None:
    """Stop the plane with everything it runs; nothing to stop is fine."""
    from airflow_provider_mlpipex.serving.plane import daemon

    ran = bool(daemon.status(state_dir)["running"])
    daemon.stop(state_dir)
    emit({"stopped": ran}, as_json, lambda: "stopped" if ran else "it was not running")


@app.command()
def status(state_dir: StateDir = Path(".mlpipex/plane"), as_json: AsJson = False) -> None:
    """Whether the plane runs, and where, and what of it may be collected; exit code 1 if it does not run."""
    from airflow_provider_mlpipex.serving.plane import daemon

    facts = daemon.status(state_dir)
    if (state_dir / "state.json").is_file():
        try:
            garbage = _collector(state_dir).find()
            facts["collectable"] = f"{len(garbage)} things, {_megabytes(garbage)} (mlpipex serve collect)"
        except MlpipexError as error:
            # What cannot be read is said, and does not hide whether it runs.
            facts["collectable"] = str(error)
    emit(facts, as_json, lambda: "\n".join(f"{key}: {value}" for key, value in facts.items()))
    if not facts["running"]:
        raise typer.Exit(1)
