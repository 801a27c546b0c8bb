"""``mlpipex labels …``: what became true of predictions, and what it says of the releases that made them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, Endpoint, configured_platform
from airflow_provider_mlpipex.domain.fields.quantities import parse_moment
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import Period
from airflow_provider_mlpipex.services.outcomes import promotion_doubt
from airflow_provider_mlpipex.services.outcomes.ingest import Ingested
from airflow_provider_mlpipex.services.outcomes.ingest import ingest as ingest_labels
from airflow_provider_mlpipex.services.outcomes.ingest import performance as measure_performance
from airflow_provider_mlpipex.services.outcomes.metrics import Performance

app = typer.Typer(no_args_is_help=True, help="Late labels, and how good each release was.")


@app.command()
def ingest(
    file: Annotated[Path, typer.Argument(help="Parquet or CSV with request_id, label and perhaps observed_at.")],
    endpoint: Annotated[str, typer.Option(help="environment/name that served the requests.")],
    correct: Annotated[bool, typer.Option(help="Labels that differ from those kept replace them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Join labels to the release that served each request; the same file again changes nothing."""
    from airflow_provider_mlpipex.adapters.files.tables import read_table

    ref = EndpointRef.parse(endpoint)
    found = ingest_labels(configured_platform(), ref, read_table(file), subject=str(file), correct=correct)
    typer.echo(json.dumps(found.to_json(), indent=2) if as_json else "\n".join(_ingested(found)))


@app.command()
def performance(
    endpoint: Endpoint,
    release: Annotated[str, typer.Option(help="Only this release.")] = "",
    since: Annotated[str, typer.Option(help="Served from then on, ISO 8601, UTC if it names no zone.")] = "",
    until: Annotated[str, typer.Option(help="Served until then.")] = "",
    by: Annotated[str, typer.Option(help="day or week; one period a release if not given.")] = "",
    as_json: AsJson = False,
) -> None:
    """How good each release was on what it served, by what its labels say."""
    found = measure_performance(
        configured_platform(),
        EndpointRef.parse(endpoint),
        release=release or None,
        since=parse_moment(since, what="--since") if since else None,
        until=parse_moment(until, what="--until") if until else None,
        by=_period(by),
    )
    if as_json:
        typer.echo(json.dumps([one.to_json() for one in found], indent=2))
        return
    typer.echo("\n".join(map(_performed, found)) or f"{endpoint}: no labels; bring some with mlpipex labels ingest")


@app.command()
def confirm(
    endpoint: Endpoint,
    note: Annotated[str, typer.Option(help="Why; goes into the ledger.")],
    release: Annotated[str, typer.Option(help="The release whose numbers you have seen; the one in doubt.")] = "",
    as_json: AsJson = False,
) -> None:
    """Keep a release although late labels have reopened its promotion. The other way out is mlpipex rollback."""
    platform, ref = configured_platform(), EndpointRef.parse(endpoint)
    confirmed = promotion_doubt.confirm(
        platform, ref, reviewer=platform.origin.user, note=note, release=release or None
    )
    told = "its promotion stands" if confirmed else "no promotion is in doubt"
    typer.echo(
        json.dumps({"endpoint": endpoint, "confirmed": confirmed}, indent=2) if as_json else f"{endpoint}: {told}"
    )


def _ingested(found: Ingested) -> Iterator[str]:
    yield (
        f"{found.endpoint}: {found.rows} rows, {found.added} outcomes added, {found.unchanged} known before, "
        f"{found.corrected} corrected"
    )
    for release, rows in found.releases.items():
        yield f"  {release}: {rows}"
    if found.unlabelled:
        yield f"  {found.unlabelled} rows without a label yet"
    if found.repeated:
        yield f"  {found.repeated} rows that say the same once more"
    if found.ambiguous:
        yield f"  {found.ambiguous} ids that clients have used for several requests: nobody can tell which is meant"
    if found.unmatched:
        yield f"  {found.unmatched} ids without a record, for example {', '.join(found.some_unmatched)}"
        for release, since in found.log_since.items():
            yield f"    the log of {release} reaches back to {since:%Y-%m-%d %H:%M:%S}"
        if not found.log_since:
            yield "    no log of this endpoint is kept"
    for result in found.judged.results if found.judged else ():
        yield f"  {'advisory ' if result.advisory else ''}gate {result.gate} {result.verdict}: {result.reason}"
    if found.reopened:
        yield f"  its promotion is in doubt: mlpipex rollback {found.endpoint}, or mlpipex labels confirm"


def _performed(one: Performance) -> str:
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in one.metrics.items())
    told = "; ".join(filter(None, (metrics, one.why, f"{one.unscored} unscored" if one.unscored else "")))
    return f"{one.since:%Y-%m-%d %H:%M} – {one.until:%Y-%m-%d %H:%M}  {one.release}  {one.samples} labels: {told}"


def _period(text: str) -> Period | None:
    match text:
        case "day" | "week":
            return text
        case "":
            return None
    raise typer.BadParameter(f"{text!r} is not one of day, week", param_hint="--by")
