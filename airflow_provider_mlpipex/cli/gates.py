"""``mlpipex gates …``: proof that gates can block, and past rollouts judged again under other gates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, ManifestFile, configured_platform, emit
from airflow_provider_mlpipex.domain.fields.quantities import format_ratio
from airflow_provider_mlpipex.domain.planning.proof import Proof, Shown, prove
from airflow_provider_mlpipex.manifest_files import load_manifest_file
from airflow_provider_mlpipex.services.evidence.replay import ReplayedRollout, replay

app = typer.Typer(no_args_is_help=True, help="What gates can stop, and what they would have stopped.")


@app.command("prove")
def prove_gates(file: ManifestFile, as_json: AsJson = False) -> None:
    """Show every gate a candidate just beyond its threshold, one just within, and one of which nothing is known.

    A manifest with a gate that stops nothing, or lets nothing pass, is refused with the lines to correct.
    """
    proofs = prove(load_manifest_file(file))
    emit(
        [proof.to_json() for proof in proofs],
        as_json,
        lambda: "\n".join(line for proof in proofs for line in _proof_lines(proof)),
    )


@app.command("replay")
def replay_gates(
    file: ManifestFile,
    last: Annotated[int, typer.Option(min=1, help="So many rollouts of every environment.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Judge past rollouts under the gates of this manifest, from the evidence that the ledger kept."""
    platform = configured_platform()
    rollouts = replay(platform, load_manifest_file(file), last=last)
    emit(
        [rollout.to_json() for rollout in rollouts],
        as_json,
        lambda: "\n".join(line for rollout in rollouts for line in _rollout_lines(rollout)),
    )


def _proof_lines(proof: Proof) -> Iterator[str]:
    requests = {"gate": "rows", "parity": "rows", "outcomes": "labels"}.get(proof.stage, "requests")
    alarms = "" if proof.alpha is None else f", false alarms {format_ratio(float(f'{proof.alpha:.3g}'))}"
    kind = "advisory gate" if proof.advisory else "gate"
    yield f"{proof.environment} {proof.stage}: {kind} {proof.rule} ({proof.samples:,} {requests}{alarms})"
    for what, shown in (("just beyond", proof.beyond), ("just within", proof.within), ("no evidence", proof.unknown)):
        yield f"  {what}: {_shown(shown)}"


def _shown(shown: Shown | None) -> str:
    if shown is None:
        return "no such candidate"
    bad = "" if shown.bad is None else f"{shown.bad:,} bad, "
    return f"{shown.verdict:12} {bad}{shown.reason}"


def _rollout_lines(rollout: ReplayedRollout) -> Iterator[str]:
    changed = "" if rollout.now in (rollout.then, "unknown") else "  <- differs"
    yield f"{rollout.endpoint} {rollout.rollout_id} ({rollout.release}, {rollout.opened_at:%Y-%m-%d %H:%M})"
    yield f"  then  {rollout.then}: {rollout.cause or 'no end yet'}"
    yield f"  now   {rollout.now}{f': {rollout.why}' if rollout.why else ''}{changed}"
