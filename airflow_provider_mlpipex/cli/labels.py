"""``mlpipex labels …``: what became true of predictions, and what it says of the releases that made them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, Endpoint, configured_platform, emit, known_endpoint
from airflow_provider_mlpipex.domain.fields.quantities import parse_moment
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

    platform = configured_platform()
    ref = known_endpoint(platform, endpoint)
    report = ingest_labels(platform, ref, read_table(file), subject=str(file), correct=correct)
    emit(report.to_json(), as_json, lambda: "\n".join(_ingest_lines(report)))


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
    platform = configured_platform()
    periods = measure_performance(
        platform,
        known_endpoint(platform, endpoint),
        release=release or None,
        since=parse_moment(since, what="--since") if since else None,
        until=parse_moment(until, what="--until") if until else None,
        by=_period(by),
    )
    emit(
        [period.to_json() for period in periods],
        as_json,
        lambda: (
            "\n".join(map(_performance_line, periods))
            or f"{endpoint}: no labels; bring some with mlpipex labels ingest"
        ),
    )


@app.command()
def confirm(
    endpoint: Endpoint,
    note: Annotated[str, typer.Option(help="Why; goes into the ledger.")],
    release: Annotated[str, typer.Option(help="The release whose numbers you have seen; the one in doubt.")] = "",
    as_json: AsJson = False,
) -> None:
    """Keep a release although late labels have reopened its promotion. The other way out is mlpipex rollback."""
    platform = configured_platform()
    ref = known_endpoint(platform, endpoint)
    confirmed = promotion_doubt.confirm(
        platform, ref, reviewer=platform.origin.user, note=note, release=release or None
    )
    answer = "its promotion stands" if confirmed else "no promotion is in doubt"
    emit({"endpoint": endpoint, "confirmed": confirmed}, as_json, lambda: f"{endpoint}: {answer}")


def _ingest_lines(report: Ingested) -> Iterator[str]:
    yield (
        f"{report.endpoint}: {report.rows} rows, {report.added} outcomes added, {report.unchanged} known before, "
        f"{report.corrected} corrected"
    )
    for release, rows in report.releases.items():
        yield f"  {release}: {rows}"
    if report.unlabelled:
        yield f"  {report.unlabelled} rows without a label yet"
    if report.repeated:
        yield f"  {report.repeated} rows that say the same once more"
    if report.ambiguous:
        yield f"  {report.ambiguous} ids that clients have used for several requests: nobody can tell which is meant"
    if report.unmatched:
        yield f"  {report.unmatched} ids without a record, for example {', '.join(report.some_unmatched)}"
        for release, since in report.log_since.items():
            yield f"    the log of {release} reaches back to {since:%Y-%m-%d %H:%M:%S}"
        if not report.log_since:
            yield "    no log of this endpoint is kept"
    for result in report.judged.results if report.judged else ():
        yield f"  {'advisory ' if result.advisory else ''}gate {result.gate} {result.verdict}: {result.reason}"
    if report.reopened:
        yield f"  its promotion is in doubt: mlpipex rollback {report.endpoint}, or mlpipex labels confirm"


def _performance_line(period: Performance) -> str:
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in period.metrics.items())
    unscored = f"{period.unscored} unscored" if period.unscored else ""
    says = "; ".join(filter(None, (metrics, period.why, unscored)))
    span = f"{period.since:%Y-%m-%d %H:%M} – {period.until:%Y-%m-%d %H:%M}"
    return f"{span}  {period.release}  {period.samples} labels: {says}"


def _period(text: str) -> Period | None:
    match text:
        case "day" | "week":
            return text
        case "":
            return None
    raise typer.BadParameter(f"{text!r} is not one of day, week", param_hint="--by")
