"""``mlpipex drift …``: whether what is served still looks like what was trained on, and whose rows do not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, Endpoint, configured_platform, emit, known_endpoint
from airflow_provider_mlpipex.domain.fields.quantities import format_ratio, parse_moment
from airflow_provider_mlpipex.domain.rollout.events import Entry
from airflow_provider_mlpipex.manifest_files import load_manifest_file
from airflow_provider_mlpipex.services.drift.attribution import BatchSource, Traced
from airflow_provider_mlpipex.services.drift.attribution import attribute as attribute_drift
from airflow_provider_mlpipex.services.drift.check import DriftCheck, look, require

app = typer.Typer(no_args_is_help=True, help="What is served, beside what was trained on.")

#: Features that are listed, the most damaging first.
_LISTED = 10
#: Batches that are listed of each column, and the share that the further ones must carry.
_FURTHER, _WORTH_A_LINE = 4, 0.01


@app.command()
def check(
    endpoint: Endpoint,
    manifest: Annotated[
        Path | None, typer.Option(help="By whose drift block; that of the current release if not given.")
    ] = None,
    since: Annotated[str, typer.Option(help="ISO 8601, UTC if it names no zone; a window ago if not given.")] = "",
    until: Annotated[str, typer.Option(help="Now if not given.")] = "",
    release: Annotated[str, typer.Option(help="Another release than the current one.")] = "",
    as_json: AsJson = False,
) -> None:
    """Look once, write it down and tell on-call; exit code 1 where there is drift, and where nobody can tell."""
    platform = configured_platform()
    result = look(
        platform,
        known_endpoint(platform, endpoint),
        manifest=load_manifest_file(manifest) if manifest else None,
        release=release,
        since=parse_moment(since, what="--since") if since else None,
        until=parse_moment(until, what="--until") if until else None,
    )
    emit(result.to_json(), as_json, lambda: "\n".join(_check_lines(result)))
    require(result)


@app.command()
def attribute(
    endpoint: Endpoint,
    event: Annotated[
        int | None, typer.Option(help="Ledger entry of a look; the last that found drift if not given.")
    ] = None,
    column: Annotated[
        str, typer.Option(help="Only this model input, or @score, drifted or not, in the window of the last look.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Say which batches carry a drift, which Dag run sent each, and show a few of their rows."""
    platform = configured_platform()
    looked, traced = attribute_drift(platform, known_endpoint(platform, endpoint), seq=event, column=column or None)
    place = (
        f"ledger entry {looked.seq}" if isinstance(looked, Entry) else f"look of {looked.recorded_at:%Y-%m-%d %H:%M}"
    )
    emit(
        {"entry": looked.to_json(), **traced.to_json()},
        as_json,
        lambda: "\n".join([f"{endpoint}, {place}:", *_traced_lines(traced)]),
    )


def _check_lines(result: DriftCheck) -> Iterator[str]:
    window = f"{result.since:%Y-%m-%d %H:%M} to {result.until:%Y-%m-%d %H:%M}"
    yield (
        f"{result.endpoint} {result.release}: {result.verdict}, {result.rows:,} rows, {window}, "
        + (f"ledger entry {result.seq}" if result.seq else "no news")
    )
    yield f"  {result.reason}"
    for column in result.ranking[:_LISTED]:
        psi = "" if column.psi is None else f"PSI {column.psi:.3g}"
        damage = "damage unknown" if column.damage is None else f"damage {column.damage:.2f} sd of the score"
        reason = f" ({column.reason})" if column.reason else ""
        yield f"  {column.verdict:12} {column.column:24} {psi:12} {damage}{reason}"
    if len(result.ranking) > _LISTED:
        yield f"  … and {len(result.ranking) - _LISTED} more"
    if result.traced:
        yield from _traced_lines(result.traced)
    if result.page.address or result.page.trouble:
        yield f"  page: {result.page.address or f'none: {result.page.trouble}'}"


def _traced_lines(traced: Traced) -> Iterator[str]:
    for attribution in traced.attributions:
        yield f"  {attribution.reason}"
        for share in attribution.batches[1:_FURTHER]:
            if share.share >= _WORTH_A_LINE:
                yield f"    then {share.batch or 'requests without a batch'}: {share.share:.0%}"
    for batch in traced.batches:
        yield from _batch_lines(batch)


def _batch_lines(batch: BatchSource) -> Iterator[str]:
    shares = ", ".join(f"{format_ratio(round(share, 3))} of {column}" for column, share in batch.shares.items())
    yield f"  {batch.message}; {batch.rows:,} rows{f' carry {shares}' if shares else ''}"
    for fault in batch.faults:
        yield f"    unlike the other batches: {fault.reason}"
    for row in batch.sample:
        score = "none" if row.score is None else f"{row.score:.4g}"
        inputs = json.dumps(row.inputs, default=str)
        yield f"    {row.request_id} at {row.at:%Y-%m-%d %H:%M:%S}, score {score}: {inputs}"
    if batch.trouble:
        yield f"    no rows to show: {batch.trouble}"
