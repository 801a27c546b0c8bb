"""Tables in files: Parquet and CSV, by the ending of their name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, DataQualityFailed, TableUnavailable

if TYPE_CHECKING:
    import pandas as pd

PARQUET, CSV = (".parquet", ".pq"), (".csv", ".csv.gz")


def read_table(path: Path | str) -> pd.DataFrame:
    """The whole table at ``path``. Types of a CSV file are guessed from its values.

    :raises ConfigurationInvalid: neither Parquet nor CSV by its name.
    :raises TableUnavailable: no such file, or none that may be read.
    :raises DataQualityFailed: the file is torn, or not what its name says.
    """
    path = Path(path)
    if not path.name.lower().endswith((*PARQUET, *CSV)):
        raise ConfigurationInvalid(
            f"table {path}",
            value=path.name,
            limit=f"a file name that ends in {', '.join((*PARQUET, *CSV))}",
            remedy="convert the table, or correct the path",
        )
    try:
        return _read(path)
    except OSError as error:
        if error.errno is not None or not path.is_file():
            raise TableUnavailable(
                f"table {path}",
                value=error.strerror or "no such file",
                limit="a file that may be read here",
                remedy="check the path where the task runs",
            ) from None
        raise _unreadable(path, error) from None
    except (ValueError, UnicodeError) as error:
        raise _unreadable(path, error) from None


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow.parquet as pq

    if path.name.lower().endswith(CSV):
        return pd.read_csv(path)
    # One file, not a data set: Arrow must not read partition columns out of the folders' names.
    return pq.ParquetFile(path).read().to_pandas()


def _unreadable(path: Path, error: Exception) -> DataQualityFailed:
    import pandas as pd
    import pyarrow as pa

    # Of the form of a file; any other text may quote a value.
    formal = isinstance(error, (pd.errors.ParserError, pd.errors.EmptyDataError, pa.ArrowException, UnicodeDecodeError))
    return DataQualityFailed(
        f"table {path}",
        value=f"{type(error).__name__}: {error}"[:300] if formal else type(error).__name__,
        limit="a readable table",
        remedy="write the file again",
    )
