"""What a serving plane has counted of one release: sketches of a window, for whoever judges them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_mlpipex.domain.drift.references import ColumnReference, Reference
from airflow_provider_mlpipex.domain.drift.sketches import Sketch
from airflow_provider_mlpipex.domain.errors import SketchUnusable


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedSketches:
    """Requests that one release answered in a window, counted in the bins of its reference.

    :param reference: of the release; ``None`` where it was registered without one, and then nothing is counted.
    :param since: first moment, cut down to its minute; sketches know no shorter time. ``until`` is past the last.
    :param columns: one merged sketch for each column of the reference, of no rows where nothing was asked.
    :param dropped_share: rows that never reached a sketch (full log queues, segments deleted before they were
        counted) over all rows.
    """

    release: str
    since: datetime
    until: datetime
    reference: Reference | None = None
    columns: Mapping[str, Sketch] = field(default_factory=dict)
    dropped_share: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "release": self.release,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "reference": self.reference.to_json() if self.reference else None,
            "columns": {name: sketch.to_json() for name, sketch in self.columns.items()},
            "dropped_share": self.dropped_share,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ServedSketches:
        """What :meth:`to_json` wrote.

        :raises SketchUnusable: it is not that.
        """
        try:
            return cls(
                release=str(stored["release"]),
                since=datetime.fromisoformat(stored["since"]),
                until=datetime.fromisoformat(stored["until"]),
                reference=Reference.from_json(stored["reference"]) if stored["reference"] else None,
                columns={name: Sketch.from_json(sketch) for name, sketch in stored["columns"].items()},
                dropped_share=float(stored["dropped_share"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _unreadable("sketches of a window", error) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchSketches:
    """One column of one release in a window, a sketch for each batch.

    :param reference: of the column; ``None`` where the release has no reference, or its reference no such column.
    :param batches: batch -> its merged sketch; requests whose caller named no batch are under ``""``.
    """

    release: str
    column: str
    since: datetime
    until: datetime
    reference: ColumnReference | None = None
    batches: Mapping[str, Sketch] = field(default_factory=dict)


def _unreadable(thing: str, error: Exception) -> SketchUnusable:
    return SketchUnusable(
        thing,
        value=f"{type(error).__name__}: {error}"[:300],
        limit="as the serving plane writes them",
        remedy="run plane and caller on the same version of the provider",
    )
