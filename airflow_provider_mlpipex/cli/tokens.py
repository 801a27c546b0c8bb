"""``mlpipex tokens …``: who may ask the plane for what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_provider_mlpipex.cli.serve import StateDir
from airflow_provider_mlpipex.cli.terminal import AsJson, emit
from airflow_provider_mlpipex.domain.errors import NotFound
from airflow_provider_mlpipex.domain.fields.quantities import format_duration, parse_duration

if TYPE_CHECKING:
    from airflow_provider_mlpipex.serving.plane.tokens import TokenFiles

app = typer.Typer(no_args_is_help=True, help="Tokens of the serving plane: one file a scope.")

#: What each token is for, in the words of whoever hands it out.
_PURPOSE = {
    "read": "state, telemetry, predictions",
    "rollback": "what read grants; take traffic back",
    "deploy": "what rollback grants; bring releases, plan traffic",
    "drill": "what read grants; faults on purpose",
    "clients": "at the ingress: ask for predictions",
    "testers": "what clients grants; choose the release by x-mlpipex-variant",
    "batch": "what clients grants; name a batch by x-mlpipex-batch",
}


@app.command("list")
def list_tokens(state_dir: StateDir = Path(".mlpipex/plane"), as_json: AsJson = False) -> None:
    """Each scope, what it grants, and the file that holds its token. No token is printed."""
    from airflow_provider_mlpipex.serving.plane.tokens import FILES, GRANTS, INGRESS_GRANTS

    files = _files(state_dir)
    grants: dict[str, list[str]] = {scope: sorted(granted) for scope, granted in GRANTS.items()}
    grants |= {scope: sorted(granted) for scope, granted in INGRESS_GRANTS.items()}
    rows = [
        {"scope": scope, "grants": grants[scope], "file": str(files.path(scope)), "for": _PURPOSE[scope]}
        for scope in FILES
    ]
    emit(rows, as_json, lambda: "\n".join(f"{row['scope']:9} {row['file']}: {row['for']}" for row in rows))


@app.command()
def rotate(
    scope: Annotated[str, typer.Argument(help="read, rollback, deploy, drill, clients, testers or batch")],
    state_dir: StateDir = Path(".mlpipex/plane"),
    grace: Annotated[str, typer.Option(help="How long the token before is taken as well; 0s ends it now.")] = "10m",
    as_json: AsJson = False,
) -> None:
    """Make a new token of a scope. The plane takes it at once, without a restart."""
    from airflow_provider_mlpipex.serving.plane.tokens import FILES

    known = next((name for name in FILES if name == scope), None)
    if known is None:
        raise NotFound(
            "scope of a token",
            value=scope,
            limit=f"one of {', '.join(FILES)}",
            remedy="see: mlpipex tokens list",
        )
    kept = parse_duration(grace)
    path = _files(state_dir).rotate(known, grace_s=kept.total_seconds())
    before = f"the one before is taken for {format_duration(kept)} more" if kept else "the one before is void"
    emit({"scope": known, "file": str(path), "grace": grace}, as_json, lambda: f"{path}: new token; {before}")


def _files(state_dir: Path) -> TokenFiles:
    from airflow_provider_mlpipex.serving.plane.tokens import TokenFiles

    if not state_dir.is_dir():
        raise NotFound(
            "state folder of the plane",
            value=str(state_dir),
            limit="a folder that mlpipex serve run has made",
            remedy="name it with --state-dir or MLPIPEX_STATE_DIR",
        )
    return TokenFiles(state_dir)
