"""What a person does to a rollout under way: ``mlpipex pause``, ``resume``, ``skip``, ``abort``; and ``hold``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, Endpoint, Note, configured_platform, emit, known_endpoint
from airflow_provider_mlpipex.domain.errors import IllegalTransition, NotFound
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Rollout
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform

app = typer.Typer()


@app.command()
def pause(endpoint: Endpoint, note: Note, as_json: AsJson = False) -> None:
    """Hold the rollout where it is: traffic stays, nothing goes on by itself, a gate that fails still takes it back."""
    from airflow_provider_mlpipex.services.rollout import hold

    platform, ref, rollout = _under_way(endpoint)
    hold.hold(platform, endpoint=ref, rollout_id=rollout.id, cause=note, by=platform.origin.user)
    _did(
        ref, rollout, "is on hold", f"resume it with mlpipex resume {ref}, or end it with mlpipex abort {ref}", as_json
    )


@app.command()
def resume(
    endpoint: Endpoint,
    note: Annotated[str, typer.Option(help="Why; goes into the ledger.")] = "",
    as_json: AsJson = False,
) -> None:
    """Let a held rollout go on: its gates have as much time again. Without one, let automation release here again what
    a person has taken back or stopped."""
    from airflow_provider_mlpipex.services.rollout import hold

    platform, ref, state = _state_of(endpoint)
    reviewer = platform.origin.user
    if state.held_back is not None and (state.rollout is None or state.rollout.hold is None):
        hold.resume_endpoint(platform, endpoint=ref, reviewer=reviewer, note=note)
        emit({"endpoint": str(ref), "held_back": None}, as_json, lambda: f"{ref}: nothing is held back any more")
        return
    rollout = _rollout_of(ref, state)
    hold.resume(platform, endpoint=ref, rollout_id=rollout.id, reviewer=reviewer, note=note)
    _did(ref, rollout, "goes on", "", as_json)


@app.command()
def hold(endpoint: Endpoint, note: Note, as_json: AsJson = False) -> None:
    """Keep automation from releasing anything to an endpoint until mlpipex resume. What serves goes on; a rollout on
    its way is not stopped by this but by mlpipex pause."""
    from airflow_provider_mlpipex.domain.rollout.endpoint_hold import held_sentence
    from airflow_provider_mlpipex.services.rollout.hold import hold_endpoint

    platform = configured_platform()
    ref = known_endpoint(platform, endpoint)
    held = hold_endpoint(platform, endpoint=ref, cause=note, by=platform.origin.user).held_back
    assert held is not None
    emit({"endpoint": str(ref), "held_back": held.to_json()}, as_json, lambda: f"{ref}: {held_sentence(held)}")


@app.command()
def skip(endpoint: Endpoint, note: Note, as_json: AsJson = False) -> None:
    """Let a shadow or canary step pass without its gates, on your word: the ledger names you as its reviewer."""
    from airflow_provider_mlpipex.services.rollout import hold

    platform, ref, rollout = _under_way(endpoint)
    if rollout.phase not in ("shadow", "canary"):
        raise IllegalTransition(
            f"rollout {rollout.id} of {ref}",
            value=rollout.phase,
            limit="a shadow or a canary step that is under way",
            remedy="offline gates and reviews cannot be skipped: change the manifest, which is reviewed itself",
        )
    reviewer = platform.origin.user
    hold.hold(platform, endpoint=ref, rollout_id=rollout.id, cause=note, by=reviewer)
    hold.resume(platform, endpoint=ref, rollout_id=rollout.id, reviewer=reviewer, note=note, accept=True)
    _did(ref, rollout, f"has passed its {rollout.phase} on the word of {reviewer}", "", as_json)


@app.command()
def abort(
    endpoint: Endpoint,
    note: Annotated[str, typer.Option(help="Why; goes into ledger and alert.")] = "aborted by hand",
    as_json: AsJson = False,
) -> None:
    """End the rollout that is on its way; what serves goes on serving. After a promotion there is mlpipex rollback."""
    from airflow_provider_mlpipex.services.rollout.rollback import end_trial

    platform, ref, rollout = _under_way(endpoint)
    if rollout.phase == "watching":
        raise IllegalTransition(
            f"rollout {rollout.id} of {ref}",
            value="promoted, and watched",
            limit="a rollout that is not promoted yet",
            remedy=f"to return to the release before: mlpipex rollback {ref}",
        )
    report = end_trial(platform, ref, cause=note, rollout_id=rollout.id)
    if report is None:
        # Somebody else was faster, between two reads of the ledger.
        _did(ref, rollout, "had ended before", "", as_json)
    else:
        _did(ref, rollout, "is ended", report.who_was_notified, as_json, **report.facts)


def _state_of(endpoint: str) -> tuple[Platform, EndpointRef, EndpointState]:
    platform = configured_platform()
    ref = known_endpoint(platform, endpoint)
    return platform, ref, journal.load(platform, ref)


def _under_way(endpoint: str) -> tuple[Platform, EndpointRef, Rollout]:
    platform, ref, state = _state_of(endpoint)
    return platform, ref, _rollout_of(ref, state)


def _rollout_of(ref: EndpointRef, state: EndpointState) -> Rollout:
    rollout = state.rollout
    if rollout is None:
        raise NotFound(
            f"rollout of {ref}",
            value="none is under way",
            limit="a rollout between its opening and the end of its watch",
            remedy=f"see mlpipex status {ref}",
        )
    return rollout


def _did(endpoint: EndpointRef, rollout: Rollout, what: str, then: str, as_json: bool, **more: Any) -> None:
    answer = f"{endpoint}: rollout {rollout.id} of {rollout.candidate.id} {what}"
    emit(
        {**more, "endpoint": str(endpoint), "rollout": rollout.id, "candidate": rollout.candidate.id, "done": what},
        as_json,
        lambda: f"{answer}; {then}" if then else answer,
    )
