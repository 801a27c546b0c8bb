"""What a serving plane has counted of one release: sketches of a window, for whoever judges them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_mlpipex.domain.drift.references import ColumnReference, Reference
from airflow_provider_mlpipex.domain.drift.sketches import Sketch, from_arrays, to_arrays
from airflow_provider_mlpipex.domain.errors import SketchUnusable

#: Batches that a plane gives one by one; of more it leaves those that matter least together.
MAX_BATCHES = 2000
#: The batch of whatever is left together.
REST = "@rest"
_MINUTE = timedelta(minutes=1)
_LAST = datetime.max.replace(tzinfo=UTC) - _MINUTE


def whole_minutes(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """The window in UTC, from the minute that ``since`` lies in to the end of the last minute before ``until``."""
    first, end = (moment.astimezone(UTC).replace(second=0, microsecond=0) for moment in (since, until))
    return first, end if end == until or end > _LAST else end + _MINUTE


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedSketches:
    """Requests that one release answered in a window, counted in the bins of its reference.

    :param reference: of the release; ``None`` where it was registered without one, and then nothing is counted.
    :param since: first moment, cut down to its minute; sketches know no shorter time. ``until`` is past the last:
        the end of the last minute that was asked for. Of months ago the plane knows whole hours only.
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
    :param batches: batch -> its merged sketch; requests whose caller named no batch are under ``""``. Together they are
        all rows of the window: of more than :data:`MAX_BATCHES` those that moved the column least are left together
        under :data:`REST`, as are rows that the plane knows without their batch, because it was too long ago or a
        day had too many.
    :param rest: how many batches are known to lie under :data:`REST`.
    """

    release: str
    column: str
    since: datetime
    until: datetime
    reference: ColumnReference | None = None
    batches: Mapping[str, Sketch] = field(default_factory=dict)
    rest: int = 0

    def to_json(self) -> dict[str, Any]:
        arrays = None
        if self.batches:
            arrays = {name: array.tolist() for name, array in to_arrays(list(self.batches.values())).items()}
            # JSON has no infinity, which stands where a sketch has no finite value.
            arrays["extremes"] = [None if low > high else [low, high] for low, high in arrays["extremes"]]
        return {
            "release": self.release,
            "column": self.column,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "reference": self.reference.to_json() if self.reference else None,
            "batches": list(self.batches),
            # As arrays, because thousands of small objects would take seconds to write and to read.
            "sketches": arrays,
            "rest": self.rest,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> BatchSketches:
        """What :meth:`to_json` wrote.

        :raises SketchUnusable: it is not that.
        """
        try:
            arrays = stored["sketches"]
            if arrays:
                arrays = {**arrays, "extremes": [pair or [math.inf, -math.inf] for pair in arrays["extremes"]]}
            return cls(
                release=str(stored["release"]),
                column=str(stored["column"]),
                since=datetime.fromisoformat(stored["since"]),
                until=datetime.fromisoformat(stored["until"]),
                reference=(
                    ColumnReference.from_json(stored["column"], stored["reference"]) if stored["reference"] else None
                ),
                batches=dict(zip(stored["batches"], from_arrays(arrays) if arrays else (), strict=True)),
                rest=int(stored["rest"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _unreadable("sketches of batches", error) from error


def _unreadable(thing: str, error: Exception) -> SketchUnusable:
    return SketchUnusable(
        thing,
        value=f"{type(error).__name__}: {error}"[:300],
        limit="as the serving plane writes them",
        remedy="run plane and caller on the same version of the provider",
    )
