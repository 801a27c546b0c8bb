"""The rows behind a drift, for a page that people look at: a sample of what was trained on and of what was served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.drift.report import DriftPage
from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.evidence.served_quality import table_of
from airflow_provider_mlpipex.services.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    import pandas as pd

    from airflow_provider_mlpipex.domain.names import EndpointRef

#: Rows of each side that are drawn at most; of more, an even sample.
MAX_ROWS = 5_000


def draw(
    platform: Platform,
    endpoint: EndpointRef,
    release: str,
    *,
    columns: Collection[str],
    since: datetime,
    until: datetime,
) -> DriftPage:
    """A page on ``columns`` of what ``release`` served in the window; without one where no reporter is configured.
    Costs no verdict.

    The rows trained on are those that the reference was made of: the evaluation rows of the release's snapshot.
    """
    if platform.drift_reporter is None:
        return DriftPage()
    try:
        trained = _trained(platform, endpoint, release, columns)
        sample = platform.plane.predictions(endpoint, release, since=since, until=until, limit=MAX_ROWS)
    except MlpipexError as error:
        return DriftPage(trouble=str(error))
    if trained is None:
        return DriftPage(trouble=f"the ledger no longer knows which rows release {release} was trained on")
    if not sample.rows:
        return DriftPage(trouble="no served rows are left in the prediction log")
    return platform.drift_reporter.draw(
        trained, table_of(sample), endpoint=endpoint, release=release, at=platform.clock.now()
    )


def _trained(
    platform: Platform, endpoint: EndpointRef, release_id: str, columns: Collection[str]
) -> pd.DataFrame | None:
    release = journal.load(platform, endpoint).release(release_id)
    if release is None:
        return None
    dataset = release.model.dataset
    rows = platform.snapshots.read(dataset)
    rows = rows.loc[rows[dataset.time_column] >= dataset.split_at, [name for name in columns if name in rows.columns]]
    return rows.sample(MAX_ROWS, random_state=0) if len(rows) > MAX_ROWS else rows
