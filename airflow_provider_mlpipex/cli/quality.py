"""``mlpipex quality …``: profile a table into expectations, and judge a table by those of a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, emit
from airflow_provider_mlpipex.composition import Settings
from airflow_provider_mlpipex.domain.errors import DataQualityFailed, ManifestInvalid
from airflow_provider_mlpipex.domain.quality.catalogue import CATALOGUE, COMMON
from airflow_provider_mlpipex.domain.quality.expectations import TableKind
from airflow_provider_mlpipex.domain.quality.report import QualityReport, explain
from airflow_provider_mlpipex.manifest_files import load_manifest_file
from airflow_provider_mlpipex.services.quality.check import place_of, require_columns

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(no_args_is_help=True, help="What must hold for tables.")

Table = Annotated[str, typer.Argument(help="A Parquet or CSV file, or the first digits of a snapshot's digest.")]


@app.command()
def propose(
    table: Table,
    manifest: Annotated[Path | None, typer.Option(help="Adds what should hold for its predictions.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="Column that names a row; may be repeated.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write there instead of printing.")] = None,
    as_json: AsJson = False,
) -> None:
    """Profile a table that is as it should be, and write a quality block to start from."""
    from airflow_provider_mlpipex.services.quality import profiling

    subject, frame = _read(table)
    of = load_manifest_file(manifest) if manifest else None
    text = profiling.propose(frame, subject=subject, key=tuple(key or ()), manifest=of)
    if output is not None:
        output.write_text(text, encoding="utf-8")
    written = None if output is None else str(output)
    emit(
        {"subject": subject, "rows": len(frame), "output": written, "block": text},
        as_json,
        lambda: text if output is None else f"{output}: a block for {len(frame)} rows of {subject}",
    )


@app.command()
def check(
    table: Table,
    manifest: Annotated[Path, typer.Option(help="Whose quality block is applied.")],
    block: Annotated[str, typer.Option(help="snapshot, features or predictions")] = "snapshot",
    results: Annotated[
        Path | None, typer.Option(help="Folder for the result and its Data Docs.", envvar="MLPIPEX_QUALITY_ROOT")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a table by a manifest; exit code 1 if something critical does not hold."""
    from airflow_provider_mlpipex.adapters.great_expectations.validator import GxValidator

    spec, judged = load_manifest_file(manifest), _block(block)
    expectations = spec.quality.of(judged)
    if not expectations:
        raise ManifestInvalid(
            f"manifest {manifest}, field quality.{judged}",
            value="no expectations",
            limit="at least one, or there is nothing to judge by",
            remedy=f"write some; mlpipex quality propose {table} makes a start",
        )
    subject, frame = _read(table)
    key = () if judged == "predictions" else spec.quality.key
    require_columns(frame, key, subject=subject)
    report = GxValidator(results).validate(frame, expectations, subject=subject, key=key, place=place_of(spec, judged))
    emit(report.to_json(), as_json, lambda: _report_text(report))
    if not report.passed:
        raise DataQualityFailed(
            f"{subject}, {report.rows} rows",
            value=explain(report),
            limit=f"all {report.judged} expectations of quality.{judged}",
            remedy="repair the data at its source, or review what is expected of it",
        )


@app.command()
def expectations(
    name: Annotated[str, typer.Argument(help="Only names that contain this.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the expectations that a manifest may name, with their arguments."""
    kinds = {known: kind for known, kind in CATALOGUE.items() if name in known}

    def text() -> str:
        lines = []
        for known, kind in kinds.items():
            column = ["column"] if kind.subject == "column" else []
            optional = [f"[{argument}]" for argument in kind.optional]
            lines.append(f"{known}: {', '.join([*column, *kind.required, *optional])}")
        return "\n".join([*lines, f"every one of them: {', '.join(f'[{argument}]' for argument in COMMON)}"])

    emit({known: kind._asdict() for known, kind in kinds.items()}, as_json, text)


def _block(text: str) -> TableKind:
    match text:
        case "snapshot" | "features" | "predictions":
            return text
    raise typer.BadParameter(f"{text!r} is not one of snapshot, features, predictions", param_hint="--block")


def _read(table: str) -> tuple[str, pd.DataFrame]:
    """The table and what to call it. A name with a dot or a slash is a file, anything else a digest."""
    from airflow_provider_mlpipex.adapters.files.parquet_snapshots import ParquetSnapshots
    from airflow_provider_mlpipex.adapters.files.tables import read_table

    if "." in table or "/" in table:
        return table, read_table(table)
    store = ParquetSnapshots(Settings.from_environment().snapshot_root)
    snapshot = store.find(table)
    return f"snapshot {snapshot.name} {snapshot.digest[:12]}", store.read(snapshot)


def _report_text(report: QualityReport) -> str:
    lines = [f"{report.subject}: {report.judged - len(report.broken)} of {report.judged} hold for {report.rows} rows"]
    lines += [explain(report.model_copy(update={"broken": (warning,)})) for warning in report.warnings]
    lines += [f"result: {report.results}"] if report.results else []
    lines += [f"the result could not be written: {report.trouble}"] if report.trouble else []
    return "\n".join(lines)
