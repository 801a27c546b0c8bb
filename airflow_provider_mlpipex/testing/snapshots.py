"""Dataset snapshots in memory: the port's fake, with the same digests and the same refusals."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.adapters.files.snapshot_table import describe, digest_of_rows, table_of
from airflow_provider_mlpipex.domain.errors import SnapshotCorrupt
from airflow_provider_mlpipex.domain.names import check_name
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class MemorySnapshots:
    """A dict of Arrow tables. ``tables`` is public so that a test can spoil one."""

    def __init__(self) -> None:
        self.tables: dict[tuple[str, str], pa.Table] = {}

    def write(
        self,
        frame: pd.DataFrame,
        *,
        name: str,
        time_column: str,
        window_start: datetime,
        split_at: datetime,
        window_end: datetime,
        evaluation_only: bool = False,
    ) -> DatasetSnapshot:
        check_name(name, what="dataset name")
        table = table_of(frame, name=name)
        digest = digest_of_rows(table)
        snapshot = describe(
            table,
            name=name,
            uri=f"memory:///{name}/{digest}",
            digest=digest,
            time_column=time_column,
            window_start=window_start,
            split_at=split_at,
            window_end=window_end,
            evaluation_only=evaluation_only,
        )
        self.tables.setdefault((name, digest), table)
        return snapshot

    def digest(self, frame: pd.DataFrame, *, name: str) -> str:
        return digest_of_rows(table_of(frame, name=name))

    def read(self, snapshot: DatasetSnapshot) -> pd.DataFrame:
        table = self.tables.get((snapshot.name, snapshot.digest))
        held = None if table is None else digest_of_rows(table)
        if table is None or held != snapshot.digest:
            raise SnapshotCorrupt(
                f"snapshot {snapshot.name}",
                value=held or "no rows",
                limit=f"rows with digest {snapshot.digest}",
                remedy="take the snapshot again",
            )
        return table.to_pandas()
