"""The rows behind a drift, for a page that people look at: a sample of what was trained on and of what was served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.drift.report import DriftPage
from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.served_quality import table_of

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.services.drift import DriftLook

#: Rows of each side that are drawn at most; of more, an even sample.
MOST_ROWS = 5_000


def draw(platform: Platform, seen: DriftLook) -> DriftPage:
    """A page on the columns of ``seen``; without one where no reporter is configured. Costs no verdict.

    The rows trained on are those that the reference was made of: the evaluation rows of the release's snapshot.
    """
    if platform.drift_reporter is None:
        return DriftPage()
    try:
        trained = _trained(platform, seen)
        sample = platform.plane.predictions(
            seen.endpoint, seen.release, since=seen.since, until=seen.until, limit=MOST_ROWS
        )
    except MlpipexError as error:
        return DriftPage(trouble=str(error))
    if trained is None:
        return DriftPage(trouble=f"the ledger no longer knows which rows release {seen.release} was trained on")
    if not sample.rows:
        return DriftPage(trouble="no served rows are left in the prediction log")
    return platform.drift_reporter.draw(
        trained, table_of(sample), endpoint=seen.endpoint, release=seen.release, at=platform.clock.now()
    )


def _trained(platform: Platform, seen: DriftLook) -> pd.DataFrame | None:
    release = journal.load(platform, seen.endpoint).release(seen.release)
    if release is None:
        return None
    dataset = release.model.dataset
    rows = platform.snapshots.read(dataset)
    judged = [column.column for column in seen.report.columns] if seen.report else []
    rows = rows.loc[rows[dataset.time_column] >= dataset.split_at, [name for name in judged if name in rows.columns]]
    return rows.sample(MOST_ROWS, random_state=0) if len(rows) > MOST_ROWS else rows
