"""Judging the tables of a rollout: where each result is kept, and what a broken expectation stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.errors import DataQualityFailed, MlpipexError
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.metrics import METRICS
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.quality.expectations import Expectation, TableKind
from airflow_provider_mlpipex.domain.quality.report import QualityReport, ResultPlace, evidence_of, explain
from airflow_provider_mlpipex.domain.release.release import ModelVersion

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.ports import DataValidator
    from airflow_provider_mlpipex.services.platform import Platform

#: Gets every report, whatever it says, before a broken one is raised.
Tell = Callable[[QualityReport], object]


def unheard(report: QualityReport) -> None:
    """A :data:`Tell` for callers that want to know of broken expectations only."""


def place_of(manifest: Manifest, judged: TableKind) -> ResultPlace:
    """Where the results of one table of ``manifest`` are kept."""
    return ResultPlace(folder=manifest.quality.results or manifest.name, table=judged)


def judge_features(
    manifest: Manifest, rows: pd.DataFrame, *, validator: DataValidator, tell: Tell = unheard, subject: str
) -> None:
    """Judge the inputs that a model is about to learn from; columns of ``quality.key`` come along to name rows.

    :raises DataQualityFailed: a critical expectation does not hold.
    """
    quality = manifest.quality
    if not quality.features:
        return
    require_columns(rows, quality.key, subject=subject)
    columns = list(dict.fromkeys((*manifest.features.columns, *quality.key)))
    place = place_of(manifest, "features")
    report = validator.validate(rows[columns], quality.features, subject=subject, key=quality.key, place=place)
    thing = f"{subject}, {report.rows} rows"
    require(report, tell=tell, thing=thing, remedy="repair the data, then take a new snapshot")


def judge_proof(manifest: Manifest, rows: pd.DataFrame, *, validator: DataValidator, tell: Tell = unheard) -> None:
    """Judge the rows that an adopted model is proven on, by what ``manifest`` expects of rows and of features.

    Nothing was learned from them here; they are all that anybody has of the model's data.

    :raises DataQualityFailed: a critical expectation does not hold.
    """
    quality = manifest.quality
    key = [column for column in quality.key if column in rows.columns]
    columns = list(dict.fromkeys((*(manifest.features.columns or rows.columns), *key)))
    subject = f"rows that {manifest.model.name} is proven on"
    tables: tuple[tuple[TableKind, Sequence[Expectation], Sequence[str]], ...] = (
        ("snapshot", quality.snapshot, list(rows.columns)),
        ("features", quality.features, columns),
    )
    for kind, expectations, judged in tables:
        if not expectations:
            continue
        require_columns(rows, judged, subject=subject)
        report = validator.validate(
            rows[list(judged)], expectations, subject=subject, key=key, place=place_of(manifest, kind)
        )
        thing = f"{subject}, {report.rows} rows"
        require(
            report, tell=tell, thing=thing, remedy="repair the rows of the evaluation block; nothing was registered"
        )


def candidate_evidence(platform: Platform, manifest: Manifest, candidate: ModelVersion) -> dict[str, Evidence]:
    """``quality.metric`` of the rows that ``candidate`` was trained from, by what ``manifest`` expects of them today.

    A model may be older than the manifest that deploys it, and a manifest may only warn where an environment wants to
    be sure. Rows that cannot be read or judged make every metric *broken*, which a gate judges ``error``.
    """
    quality, dataset = manifest.quality, candidate.dataset
    window = {"since": dataset.window_start, "until": dataset.window_end}
    subject = f"snapshot {dataset.name} {dataset.digest[:12]}"
    try:
        rows = platform.snapshots.read(dataset)
        # Of an adopted model nobody has the rows that it learned from: those that it was proven on are judged.
        older = rows[dataset.time_column] < dataset.split_at
        learned = rows if candidate.adopted else rows[older]
        tables = {"snapshot": (rows, quality.snapshot), "features": (learned, quality.features)}
        key = [column for column in quality.key if column in rows.columns]
        reports = [
            platform.validator.validate(table, expectations, subject=f"{name} of {subject}", key=key)
            for name, (table, expectations) in tables.items()
            if expectations
        ]
    except MlpipexError as error:
        metrics = METRICS["quality"]
        return {f"quality.{m}": Evidence(source="quality", metric=m, broken=str(error), **window) for m in metrics}
    return evidence_of(reports, **window)


def require(report: QualityReport, *, tell: Tell, thing: str, remedy: str) -> None:
    """Tell ``report``; refuse to go on where something critical does not hold.

    A table of which nothing was asked may pass: asking nothing is the manifest's decision.

    :raises DataQualityFailed: naming column, expectation, observed value and a few offending rows.
    """
    tell(report)
    if report.critical:
        written = f"; the whole result: {report.results}" if report.results else ""
        raise DataQualityFailed(
            thing,
            value=explain(report),
            limit=f"all {report.judged} expectations of the manifest",
            remedy=f"{remedy}{written}",
        )


def require_columns(frame: pd.DataFrame, needed: Sequence[str], *, subject: str) -> None:
    """:raises DataQualityFailed: ``frame`` lacks one of the columns ``needed``."""
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        raise DataQualityFailed(
            f"{subject}, columns {', '.join(missing)}",
            value=f"the source gave {', '.join(map(str, frame.columns))}",
            limit="time column, target, quality.key and every feature column of the manifest",
            remedy="correct the manifest's names, or let the data source give these columns",
        )
