"""``mlpipex drill``: whether a rollback would work, shown by rolling back and forward."""

from __future__ import annotations

from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, Endpoint, configured_platform, emit, known_endpoint
from airflow_provider_mlpipex.domain.rollout.events import RollbackDrillEnded
from airflow_provider_mlpipex.services.rollout import drill as drills

app = typer.Typer()


@app.command()
def drill(
    endpoint: Endpoint,
    reason: Annotated[str, typer.Option(help="Why; goes into the ledger.")] = "drill at a terminal",
    seconds: Annotated[
        float, typer.Option(min=0, max=drills.MAX_DWELL_S, help="For so long the previous release answers everybody.")
    ] = drills.DWELL_S,
    as_json: AsJson = False,
) -> None:
    """Send every request to the previous release for a moment, and back: the proof that a rollback would work.

    The last environment of a manifest asks for its word (drills.allowed). A request that the previous release fails is
    answered by the current one, and where this process dies, the plane returns the requests by itself.
    """
    platform = configured_platform()
    ref = known_endpoint(platform, endpoint)
    ended = drills.drill(platform, ref, reason=reason, dwell_s=seconds)
    emit({"endpoint": str(ref), **ended.to_json()}, as_json, lambda: f"{ref}: {sentence(ended)}")
    drills.require_ok(ref, ended)


def sentence(ended: RollbackDrillEnded) -> str:
    """How it went, for people."""
    moves = " and ".join("?" if each is None else f"{each:.0f} ms" for each in (ended.back_ms, ended.forth_ms))
    counted = "nobody could count the requests"
    if ended.requests is not None:
        counted = f"{ended.failed_requests} of {ended.requests} requests failed"
    went = "a rollback works" if ended.ok else "the drill FAILED"
    return f"{went}: to {ended.to_release} and back in {moves}; {counted}"
