"""``mlpipex``: the same verbs for a terminal. Every command takes ``--json``.

Exit codes: 0 done, 1 refused or failed (the message says what, why and what to do), 2 wrong usage. Answers go to
standard output; refusals, as text or as JSON, to standard error.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from airflow_provider_mlpipex import __version__
from airflow_provider_mlpipex.cli import drift, gates, labels, quality
from airflow_provider_mlpipex.cli.refusals import Commands
from airflow_provider_mlpipex.cli.terminal import AsJson, Endpoint, ManifestFile, configured_platform, emit
from airflow_provider_mlpipex.domain.fields.quantities import parse_moment
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.manifest_files import load_manifest_file

_NO_LEDGER = "the ledger holds no entries; is MLPIPEX_LEDGER_URL the right one?"


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, help="Ship models the way good teams ship code."
)
manifest_app = typer.Typer(no_args_is_help=True, help="Check, compare and describe deployment manifests.")
audit_app = typer.Typer(no_args_is_help=True, help="Verify the ledger.")
serve_app = typer.Typer(no_args_is_help=True, help="The embedded serving plane.")
app.add_typer(manifest_app, name="manifest")
app.add_typer(audit_app, name="audit")
app.add_typer(serve_app, name="serve")
app.add_typer(quality.app, name="quality")
app.add_typer(gates.app, name="gates")
app.add_typer(labels.app, name="labels")
app.add_typer(drift.app, name="drift")

StateDir = Annotated[Path, typer.Option(help="Where the plane keeps its state.", envvar="MLPIPEX_STATE_DIR")]


def main() -> None:
    """Entry point."""
    app()


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the provider's version."""
    emit({"version": __version__}, as_json, lambda: __version__)


@manifest_app.command("schema")
def manifest_schema(as_json: AsJson = False) -> None:
    """Print the JSON Schema of manifests, for editors and linters; it is JSON either way."""
    from airflow_provider_mlpipex.domain.manifest import schema

    written = schema.manifest_schema()
    emit(written, as_json, lambda: json.dumps(written, indent=2))


@manifest_app.command("validate")
def manifest_validate(file: ManifestFile, as_json: AsJson = False) -> None:
    """Say whether a manifest can work; every defect at once, with its line."""
    manifest = load_manifest_file(file)
    emit(
        {"name": manifest.name, "digest": manifest.digest},
        as_json,
        lambda: f"{file}: {manifest.name} is valid, digest {manifest.digest[:12]}",
    )


@manifest_app.command("diff")
def manifest_diff(before: ManifestFile, after: ManifestFile, as_json: AsJson = False) -> None:
    """Typed differences between two manifests, and the review that they open in each environment."""
    from airflow_provider_mlpipex.domain.manifest.diff import diff, review_needed

    wanted = load_manifest_file(after)
    changes = diff(load_manifest_file(before), wanted)
    reviews = {}
    for name, environment in wanted.environments.items():
        if environment.review is not None:
            needs_person, why, policy = review_needed(changes, environment.review)
            reviews[name] = {"needs_person": needs_person, "why": why, "auto_approved_by": policy}

    def text() -> str:
        if not changes:
            return "no difference"
        lines = [f"{change.kind:15} {change.what}: {change.before} -> {change.after}" for change in changes]
        lines += [
            f"{name}: {'review by a person' if r['needs_person'] else 'no person needed'} ({r['why']})"
            for name, r in reviews.items()
        ]
        return "\n".join(lines)

    emit({"changes": [change.to_json() for change in changes], "reviews": reviews}, as_json, text)


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


@app.command()
def status(endpoint: Annotated[str, typer.Argument()] = "", as_json: AsJson = False) -> None:
    """What an endpoint serves now (all endpoints without an argument)."""
    from airflow_provider_mlpipex.services.rollout.status import endpoint_status

    platform = configured_platform()
    endpoints = [EndpointRef.parse(endpoint)] if endpoint else platform.ledger.endpoints()
    found = [endpoint_status(platform, each) for each in endpoints]

    def text() -> str:
        return "\n".join(map(_status_line, found)) or _NO_LEDGER

    emit(found, as_json, text)


def _status_line(one: dict[str, Any]) -> str:
    told = [f"current {one['current']}", f"previous {one['previous']}"]
    if one["rollout"]:
        told.append(f"rollout {one['rollout']['phase']}")
    if one["doubt"]:
        told.append(f"REOPENED by late labels ({one['doubt']['cause']})")
    if one["rollback_under_way"]:
        told.append(f"ROLLBACK to {one['rollback_under_way']['to_release']} DECIDED AND NOT IN FORCE")
    elif one["plane"] and one["current"] and not one["plane"]["as_confirmed"]:
        told.append("THE PLANE SERVES ANOTHER PLAN THAN THE LEDGER'S")
    plane = one["plane_error"] or (one["plane"] or {}).get("weights") or "not serving"
    return f"{one['endpoint']}: {', '.join(told)}; {plane}"


@app.command()
def history(
    endpoint: Endpoint,
    at: Annotated[str, typer.Option(help="ISO 8601 time, UTC if it names no zone.")] = "",
    events: Annotated[bool, typer.Option(help="Every ledger entry instead of tenures.")] = False,
    as_json: AsJson = False,
) -> None:
    """Which release was current when; with --at, the whole state at that moment."""
    from airflow_provider_mlpipex.services.rollout.history import as_of, tenures

    platform, ref = configured_platform(), EndpointRef.parse(endpoint)
    if at:
        state = as_of(platform, ref, parse_moment(at, what="--at"))
        current = state.current.id if state.current else "nothing"
        emit(state.to_json(), as_json, lambda: f"{ref} at {at}: {current} (ledger entry {state.seq})")
    elif events:
        entries = platform.ledger.read(ref)
        emit(
            [entry.to_json() for entry in entries],
            as_json,
            lambda: "\n".join(
                f"{e.seq:5} {e.recorded_at:%Y-%m-%d %H:%M:%S} {e.event.type:18} {e.origin.kind} "
                f"{e.origin.task_id or e.origin.user}"
                for e in entries
            ),
        )
    else:
        found = tenures(platform, ref)
        emit(
            [tenure.to_json() for tenure in found],
            as_json,
            lambda: (
                "\n".join(
                    f"{t.since:%Y-%m-%d %H:%M:%S} – {f'{t.until:%Y-%m-%d %H:%M:%S}' if t.until else 'now':19}"
                    f"  {t.release}  {t.ended_by}"
                    for t in found
                )
                or f"{ref}: nothing has been released"
            ),
        )


@app.command()
def rollback(
    endpoint: Endpoint,
    cause: Annotated[str, typer.Option(help="Why; goes into ledger and alert.")] = "manual rollback",
    release: Annotated[str | None, typer.Option(help="Only if this release serves: safe to run again.")] = None,
    rollout: Annotated[str | None, typer.Option(help="Undo this rollout and nothing else.")] = None,
    as_json: AsJson = False,
) -> None:
    """Return all traffic to the last good release, now. Needs no Airflow, no registry and no build.

    A rollout that merely waits, without traffic, is rejected with it.
    """
    from airflow_provider_mlpipex.services.rollout.rollback import answer_request

    report = answer_request(
        configured_platform(), EndpointRef.parse(endpoint), cause=cause, rollout_id=rollout, release_id=release
    )
    emit({**report.to_json(), "done": report.sentence}, as_json, lambda: report.sentence)


@app.command()
def reproduce(
    release: Annotated[str, typer.Argument(help="release id, or an endpoint: its current release")],
    as_json: AsJson = False,
) -> None:
    """Retrain a release from its recorded snapshot and compare metrics."""
    from airflow_provider_mlpipex.services.rollout.history import released
    from airflow_provider_mlpipex.services.training.train import reproduce as retrain

    platform = configured_platform()
    found, manifest = released(platform, release)
    differences = retrain(found, manifest, store=platform.snapshots)
    emit(
        differences,
        as_json,
        lambda: "\n".join(f"{metric}: {values}" for metric, values in differences.items()),
    )


@audit_app.command("verify")
def audit_verify(as_json: AsJson = False) -> None:
    """Verify the hash chain of every endpoint."""
    from airflow_provider_mlpipex.services.rollout.history import audit

    counts = audit(configured_platform())
    emit(
        counts,
        as_json,
        lambda: "\n".join(f"{name}: {n} entries verified" for name, n in counts.items()) or _NO_LEDGER,
    )


@serve_app.command("run")
def serve_run(
    state_dir: StateDir = Path(".mlpipex/plane"),
    ingress_port: Annotated[int, typer.Option(envvar="MLPIPEX_INGRESS_PORT")] = 8088,
    control_port: Annotated[int, typer.Option(envvar="MLPIPEX_CONTROL_PORT")] = 8089,
    tracking_uri: Annotated[str, typer.Option(envvar="MLPIPEX_TRACKING_URI")] = "http://127.0.0.1:5000",
    as_json: AsJson = False,
) -> None:
    """Run the plane in the foreground: Envoy, model servers, control API with rollback. Says first where it will be."""
    from airflow_provider_mlpipex.entrypoints.plane_daemon import run

    addresses = {
        "ingress_url": f"http://127.0.0.1:{ingress_port}",
        "control_url": f"http://127.0.0.1:{control_port}",
        "state_dir": str(state_dir.resolve()),
    }
    emit(addresses, as_json, lambda: "\n".join(f"{key}: {value}" for key, value in addresses.items()))
    sys.stdout.flush()
    run(state_dir=state_dir, ingress_port=ingress_port, control_port=control_port, tracking_uri=tracking_uri)


@serve_app.command("stop")
def serve_stop(state_dir: StateDir = Path(".mlpipex/plane"), as_json: AsJson = False) -> None:
    """Stop the plane with everything it runs; nothing to stop is fine."""
    from airflow_provider_mlpipex.serving.plane import daemon

    ran = bool(daemon.status(state_dir)["running"])
    daemon.stop(state_dir)
    emit({"stopped": ran}, as_json, lambda: "stopped" if ran else "it was not running")


@serve_app.command("status")
def serve_status(state_dir: StateDir = Path(".mlpipex/plane"), as_json: AsJson = False) -> None:
    """Whether the plane runs, and where; exit code 1 if it does not."""
    from airflow_provider_mlpipex.serving.plane import daemon

    found = daemon.status(state_dir)
    emit(found, as_json, lambda: "\n".join(f"{key}: {value}" for key, value in found.items()))
    if not found["running"]:
        raise typer.Exit(1)


@app.command()
def demo(
    once: Annotated[bool, typer.Option(help="Stop everything at the end and report.")] = False,
    ports: Annotated[str, typer.Option(help="'default' or 'auto'")] = "default",
    as_json: AsJson = False,
) -> None:
    """Play the whole life of a model on real data, on this machine. With --json the report follows at the end."""
    from airflow_provider_mlpipex.demo.play import FOLDER, play

    if not as_json:
        raise typer.Exit(play(once=once, ports=ports))
    with redirect_stdout(sys.stderr):
        code = play(once=once, ports=ports)
    typer.echo((FOLDER / "report.json").read_text(encoding="utf-8"))
    raise typer.Exit(code)
