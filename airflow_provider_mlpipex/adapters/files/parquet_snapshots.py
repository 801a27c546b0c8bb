"""Dataset snapshots as Parquet files named by the digest of their rows."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from airflow_provider_mlpipex.adapters.files.snapshot_table import altered_columns, describe, digest_of_rows, table_of
from airflow_provider_mlpipex.atomic import atomic_file
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, DataQualityFailed, SnapshotCorrupt
from airflow_provider_mlpipex.domain.names import check_name
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class ParquetSnapshots:
    """``<root>/<name>/<digest>.parquet``, with ``<digest>.json`` beside it for people.

    Files are never changed: the same rows find the file that holds them, other rows get another name. A file is
    written beside its place, synced and renamed, so that a reader sees a whole one or none.

    :param root: folder of all snapshots; made where it is missing.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

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
        """Keep ``frame`` (its index is dropped) and describe it.

        :raises DataQualityFailed: the table is empty, does not fit its windows, or holds what Parquet cannot.
        """
        import pyarrow.parquet as pq

        check_name(name, what="dataset name")
        table = table_of(frame, name=name)
        digest = digest_of_rows(table)
        path = self._path(name, digest)
        snapshot = describe(
            table,
            name=name,
            uri=path.absolute().as_uri(),
            digest=digest,
            time_column=time_column,
            window_start=window_start,
            split_at=split_at,
            window_end=window_end,
            evaluation_only=evaluation_only,
        )
        # A torn file under this name can only come from a broken disk; rewriting it is what heals it.
        if _rows_in(path) != digest:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path, fsync=True) as part:
                pq.write_table(table, part, compression="zstd")
            held = _read(path)
            if held is None or digest_of_rows(held) != digest:
                path.unlink(missing_ok=True)
                altered = altered_columns(table, held) if held is not None else table.column_names
                raise DataQualityFailed(
                    f"dataset {name}, {'columns' if len(altered) > 1 else 'column'} {', '.join(altered)}",
                    value="other rows are read back than were written: "
                    + ", ".join(f"{column} is {table.schema.field(column).type}" for column in altered),
                    limit="a table that Parquet holds exactly",
                    remedy="convert unusual column types to numbers, text or timestamps in the data source",
                )
        sidecar = path.with_suffix(".json")
        if not sidecar.exists():
            text = snapshot.model_dump_json(indent=2)
            with atomic_file(sidecar, fsync=True) as part:
                part.write_text(text, encoding="utf-8")
        return snapshot

    def digest(self, frame: pd.DataFrame, *, name: str) -> str:
        return digest_of_rows(table_of(frame, name=name))

    def read(self, snapshot: DatasetSnapshot) -> pd.DataFrame:
        """The rows of ``snapshot``.

        :raises SnapshotCorrupt: the file is gone, torn, or holds other rows.
        """
        path = self._path(snapshot.name, snapshot.digest)
        table = _read(path)
        held = None if table is None else digest_of_rows(table)
        if table is None or held != snapshot.digest:
            raise SnapshotCorrupt(
                f"snapshot {snapshot.name} at {path}",
                value=held or ("unreadable file" if path.exists() else "no file"),
                limit=f"rows with digest {snapshot.digest}",
                remedy="restore the file from a backup, or take the snapshot again",
            )
        return table.to_pandas()

    def find(self, digest: str) -> DatasetSnapshot:
        """The snapshot whose digest begins with ``digest``.

        :raises SnapshotCorrupt: there is none, or its description cannot be read.
        :raises ConfigurationInvalid: it is no beginning of a digest, or of more than one.
        """
        if not re.fullmatch(r"[0-9a-f]{6,64}", digest):
            raise ConfigurationInvalid(
                "snapshot",
                value=digest,
                limit="6 to 64 lower-case hex digits of its digest",
                remedy="see its task's XCom",
            )
        matches = sorted(self.root.glob(f"*/{digest}*.json"))
        if len(matches) > 1:
            raise ConfigurationInvalid(
                f"snapshot {digest}",
                value=", ".join(f"{path.parent.name}/{path.stem[:16]}" for path in matches),
                limit="one snapshot",
                remedy="give more digits",
            )
        try:
            return DatasetSnapshot.model_validate_json(matches[0].read_bytes() if matches else b"")
        except (OSError, ValidationError):
            raise SnapshotCorrupt(
                f"snapshot {digest} below {self.root}",
                value="not found" if not matches else f"unreadable description {matches[0].name}",
                limit="a snapshot with its description",
                remedy="is MLPIPEX_SNAPSHOT_ROOT the right folder?",
            ) from None

    def _path(self, name: str, digest: str) -> Path:
        return self.root / name / f"{digest}.parquet"


def _read(path: Path) -> pa.Table | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # One file, not a data set: Arrow must not read partition columns out of the folder's name.
        return pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException):
        return None


def _rows_in(path: Path) -> str | None:
    table = _read(path)
    return None if table is None else digest_of_rows(table)
