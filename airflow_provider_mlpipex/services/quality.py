"""Judging the tables of a rollout: where each result is kept, and what a broken expectation stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.errors import DataQualityFailed
from airflow_provider_mlpipex.domain.expectations import Judged
from airflow_provider_mlpipex.domain.manifest import Manifest
from airflow_provider_mlpipex.domain.quality import QualityReport, ResultPlace, explain

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.ports import DataValidator

#: Gets every report, whatever it says, before a broken one is raised.
Tell = Callable[[QualityReport], object]


def unheard(report: QualityReport) -> None:
    """A :data:`Tell` for callers that want to know of broken expectations only."""


def place_of(manifest: Manifest, judged: Judged) -> ResultPlace:
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
