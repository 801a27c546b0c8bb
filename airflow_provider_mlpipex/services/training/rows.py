"""The rows of a snapshot, parted where the snapshot says."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.ports import SnapshotStore


class SplitRows(NamedTuple):
    """``training`` rows are older than the split, ``evaluation`` rows are not."""

    training: pd.DataFrame
    evaluation: pd.DataFrame


def split_rows(snapshot: DatasetSnapshot, store: SnapshotStore) -> SplitRows:
    """Read ``snapshot`` and part it at ``split_at``; each part is numbered from 0.

    :raises SnapshotCorrupt: the rows are not the recorded ones, or are gone.
    """
    rows = store.read(snapshot)
    older = rows[snapshot.time_column] < snapshot.split_at
    return SplitRows(rows[older].reset_index(drop=True), rows[~older].reset_index(drop=True))
