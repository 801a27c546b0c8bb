"""Answers to a batch in files: a Parquet table in the end, and lines of JSON beside it until then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.adapters.files.snapshot_table import table_of
from airflow_provider_mlpipex.adapters.files.tables import PARQUET
from airflow_provider_mlpipex.atomic import atomic_file
from airflow_provider_mlpipex.domain.batches import AnsweredChunk
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, TableUnavailable

if TYPE_CHECKING:
    import pandas as pd


class AnswerFile:
    """``<path>`` holds the finished table, ``.<name>.<key>.jsonl`` beside it what was answered so far.

    Other unfinished files of the same table are removed with it: their rows were not the ones that counted.

    :param path: of the Parquet file; its folder is made where it is missing.
    :raises ConfigurationInvalid: no name of a Parquet file, or a path with ``..`` or control characters.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        written = str(path)
        if not self._path.name.lower().endswith(PARQUET) or ".." in self._path.parts or not written.isprintable():
            raise ConfigurationInvalid(
                f"output {written!r}",
                value=self._path.name,
                limit=f"a path without '..' to a file whose name ends in {' or '.join(PARQUET)}",
                remedy="correct output_path of the task, for example /data/scores/{{ run_id }}.parquet",
            )

    def chunks(self, key: str) -> list[AnsweredChunk]:
        try:
            lines = self._unfinished(key).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unavailable(error) from error
        chunks = []
        for line in filter(None, lines):
            try:
                chunks.append(AnsweredChunk.model_validate(json.loads(line)))
            except ValueError:
                # Torn: the task was ended while it wrote this line. Its rows are asked for again.
                continue
        return chunks

    def keep(self, key: str, chunk: AnsweredChunk) -> None:
        # A line break before the line, too: what was torn must not take this one with it.
        line = f"\n{json.dumps(chunk.model_dump())}\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._unfinished(key).open("a", encoding="utf-8") as stream:
                stream.write(line)
        except OSError as error:
            raise self._unavailable(error) from error

    def finish(self, table: pd.DataFrame) -> str:
        import pyarrow.parquet as pq

        arrow = table_of(table, name=f"answers for {self._path.name}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self._path, fsync=True) as part:
                pq.write_table(arrow, part, compression="zstd")
            for left in self._path.parent.glob(f".{_literal(self._path.name)}.*.jsonl"):
                left.unlink(missing_ok=True)
        except OSError as error:
            raise self._unavailable(error) from error
        return str(self._path)

    def _unfinished(self, key: str) -> Path:
        return self._path.with_name(f".{self._path.name}.{key}.jsonl")

    def _unavailable(self, error: OSError) -> TableUnavailable:
        return TableUnavailable(
            f"output {self._path}",
            value=error.strerror or type(error).__name__,
            limit="a folder that may be written here",
            remedy="mend the folder and run the task again; it goes on after the rows that were answered",
        )


def _literal(name: str) -> str:
    """``name`` without meaning to ``glob``."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
