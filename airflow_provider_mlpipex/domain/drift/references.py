"""The reference of a release: bins and counts of every training column, made once, stored at registration.

Whatever is served later is counted in the same bins, so drift needs neither the training rows nor the served ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from airflow_provider_mlpipex.domain.drift.categorical_bins import CategoricalBins
from airflow_provider_mlpipex.domain.drift.chunks import Chunks, make_chunks, slots_of
from airflow_provider_mlpipex.domain.drift.column_bins import Bins, bins_from_json, fit_bins, no_rows
from airflow_provider_mlpipex.domain.drift.column_values import (
    Column,
    Values,
    as_column,
    read_moments,
    read_numbers,
)
from airflow_provider_mlpipex.domain.drift.damage import (
    Effects,
    by_association,
    effects_of,
    group_count,
    one_row_of_each,
    rows_to_ask,
)
from airflow_provider_mlpipex.domain.drift.group_scores import Scores
from airflow_provider_mlpipex.domain.drift.numeric_bins import NumericBins
from airflow_provider_mlpipex.domain.drift.sketches import Floats, Ints, Sketch, require_same_bins
from airflow_provider_mlpipex.domain.errors import SketchUnusable

#: The model's answers, sketched beside its features: the score (the predicted value, or the probability that decides),
#: or, of a model that answers text, the class.
SCORE = "@score"
#: Where a reference lies inside a model's artifact, and so under its digest.
REFERENCE_PATH = Path("mlpipex/drift_reference.json")
_FORMAT = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnReference:
    """One training column: its bins, and its own rows counted in them.

    :param chunks: the same rows by the time that they are of. :param effects: what the model says of each group. Both
        are ``None`` where nobody knows, as in references of before they were kept.
    """

    name: str
    bins: Bins
    sketch: Sketch
    chunks: Chunks | None = None
    effects: Effects | None = None

    def counts(self, sketch: Sketch) -> tuple[Floats, Floats]:
        """Rows of ``sketch`` in every fine bin, and in every group with the unusable rows as the last.

        :raises SketchUnusable: it was counted in other bins.
        """
        require_same_bins([sketch], self.bins.identity)
        if len(sketch.filled) and sketch.filled[-1] >= self.bins.size:
            raise SketchUnusable(
                f"sketch of column {self.name}",
                value=f"rows in bin {sketch.filled[-1]}",
                limit=f"{self.bins.size} bins",
                remedy="compact this part of the prediction log again",
            )
        fine = sketch.dense(self.bins.size).astype(np.float64)
        return fine, np.append(np.add.reduceat(fine, self.bins.starts), sketch.unusable)

    def to_json(self) -> dict[str, Any]:
        stored = {"bins": self.bins.to_json(), "sketch": self.sketch.to_json()}
        if self.chunks is not None:
            stored["chunks"] = self.chunks.to_json()
        if self.effects is not None:
            stored["effects"] = self.effects.to_json()
        return stored

    @classmethod
    def from_json(cls, name: str, stored: Mapping[str, Any]) -> ColumnReference:
        """What :meth:`to_json` wrote.

        :raises KeyError, TypeError, ValueError, AttributeError: it is not that.
        :raises SketchUnusable: its sketch is not over its bins.
        """
        bins, sketch = bins_from_json(stored["bins"]), Sketch.from_json(stored["sketch"])
        chunks = Chunks.from_json(stored["chunks"]) if "chunks" in stored else None
        if chunks is not None and not np.isin(bins.starts, chunks.starts).all():
            raise ValueError("chunks of other groups")
        effects = Effects.from_json(stored["effects"]) if "effects" in stored else None
        if effects is not None and len(effects.away) != group_count(bins):
            raise ValueError("effects of other groups")
        reference = cls(name=name, bins=bins, sketch=sketch, chunks=chunks, effects=effects)
        reference.counts(sketch)
        return reference


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """All columns of one release.

    :param columns: name -> column; :data:`SCORE` among them where training rows were scored.
    """

    columns: Mapping[str, ColumnReference]

    @property
    def answer_field(self) -> Literal["score", "label"]:
        """Which field of a logged answer is counted under :data:`SCORE`."""
        answers = self.columns.get(SCORE)
        return "label" if answers and isinstance(answers.bins, CategoricalBins) else "score"

    @property
    def score(self) -> NumericBins | None:
        """Bins of the score; ``None`` where the training rows were not scored, or were answered by classes."""
        score = self.columns.get(SCORE)
        return score.bins if score and isinstance(score.bins, NumericBins) else None

    def sketch(self, rows: Mapping[str, Values], *, scores: Values | None = None) -> dict[str, Sketch]:
        """One sketch for each column of the reference.

        :param rows: column -> one value a row. A column that is not there is counted as ``absent`` in every row;
            columns that training did not have are left out.
        :param scores: the model's :attr:`answer_field` of each row; left out where the reference has none.
        :raises SketchUnusable: columns of different lengths, or something that is no column.
        """
        columns, count = _lined_up(rows, scores)
        return self._sketch(columns, count)

    def sketch_by(
        self, labels: Values, rows: Mapping[str, Values], *, scores: Values | None = None
    ) -> dict[Hashable, dict[str, Sketch]]:
        """:meth:`sketch` of the rows that share a label: a batch, a minute, or a number that stands for both.

        :raises SketchUnusable: as :meth:`sketch`, and where labels do not line up with rows.
        """
        columns, count = _lined_up(rows, scores)
        label_array = np.asarray(labels)
        if label_array.shape != (count,):
            raise _not_lined_up({"labels": len(np.atleast_1d(label_array)), "rows": count})
        distinct, group = np.unique(label_array, return_inverse=True)
        order = np.argsort(group, kind="stable")
        ends = np.cumsum(np.bincount(group, minlength=len(distinct)))
        return {
            label: self._sketch({name: _taken(column, chosen) for name, column in columns.items()}, len(chosen))
            for label, chosen in zip(distinct.tolist(), np.split(order, ends[:-1]), strict=True)
        }

    def effects(self, name: str) -> Floats | None:
        """How far the score of each group ``[groups + 1]`` of a column lies from that of all rows, in its standard
        deviations; NaN where training does not say. ``None`` where nothing is known: training rows were not scored, all
        alike, or answered by classes.
        """
        column = self.columns[name]
        if column.effects is not None:
            return column.effects.away if column.effects.used else np.zeros(len(column.effects.away))
        scored = self.columns.get(SCORE)
        if scored is None or self.score is None or not column.sketch.group_rows.any():
            return None
        variance = scored.sketch.variance
        return by_association(column.sketch, variance) if variance > 0 else None

    def empty(self) -> dict[str, Sketch]:
        """The sketches of no rows."""
        return {name: no_rows(reference.bins) for name, reference in self.columns.items()}

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; about 40 kB a numeric column of real numbers."""
        return {
            "format": _FORMAT,
            "columns": {name: reference.to_json() for name, reference in self.columns.items()},
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Reference:
        """What :meth:`to_json` wrote.

        :raises SketchUnusable: it is not that, or of a format of another age.
        """
        try:
            if stored["format"] != _FORMAT:
                raise ValueError(f"format {stored['format']}")
            columns = {name: ColumnReference.from_json(name, column) for name, column in stored["columns"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SketchUnusable(
                "stored reference",
                value=f"{type(error).__name__}: {error}",
                limit=f"format {_FORMAT}, as it was written at registration",
                remedy="make the reference again from the release's training snapshot",
            ) from error
        return cls(columns=columns)

    def _sketch(self, columns: Mapping[str, Column], rows: int) -> dict[str, Sketch]:
        joint = None
        if self.score is not None and SCORE in columns:
            read = read_numbers(columns[SCORE])
            joint = Scores(self.score.fixed(np.where(read.usable, read.values, 0.0)), read.usable)
        return {
            name: replace(no_rows(reference.bins), absent=rows)
            if (column := columns.get(name)) is None
            else reference.bins.count(column, joint)
            for name, reference in self.columns.items()
        }


def make_reference(
    rows: Mapping[str, Values],
    *,
    scores: Values | None = None,
    times: Values | None = None,
    categorical: Collection[str] = (),
) -> Reference:
    """The reference of training rows.

    :param rows: feature -> one value a row: see :data:`~column_values.Values`.
    :param scores: the registered model's score of each row, needed to rank drift by its damage; where it answers
        text, the class of each row.
    :param times: moment of each row, needed to tell drift from what the columns do by themselves over day and week.
    :param categorical: numeric columns that are codes.
    :raises SketchUnusable: columns of different lengths, no rows, or a feature named :data:`SCORE`.
    """
    if SCORE in rows:
        raise SketchUnusable("training columns", value=SCORE, limit="a name of its own", remedy="rename the feature")
    columns, count = _lined_up(rows, scores)
    if not columns or not count:
        raise SketchUnusable(
            "training rows",
            value=f"{len(columns)} columns, {count} rows",
            limit="at least one of each",
            remedy="give the training snapshot",
        )
    bins = {
        name: fit_bins(column, categorical=_are_classes(column) if name == SCORE else name in categorical or None)
        for name, column in columns.items()
    }
    blank = {name: ColumnReference(name=name, bins=own, sketch=no_rows(own)) for name, own in bins.items()}
    uncounted = Reference(columns=blank)
    counted = uncounted._sketch(columns, count)
    chunks = {} if times is None else _chunks(uncounted, columns, counted, times)
    return Reference(
        columns={name: replace(column, sketch=counted[name], chunks=chunks.get(name)) for name, column in blank.items()}
    )


def _chunks(
    uncounted: Reference, columns: Mapping[str, Column], counted: Mapping[str, Sketch], times: Values
) -> dict[str, Chunks]:
    """Each column's rows by slots of time; none where all rows are of one moment, or some of no moment."""
    read = read_moments(as_column(times, name="times"))
    if len(read.values) != next(iter(counted.values())).rows:
        raise _not_lined_up({"times": len(read.values), "rows": next(iter(counted.values())).rows})
    slotted = slots_of(read.values) if read.usable.all() else None
    if slotted is None:
        return {}
    slot, begin, slot_s = slotted
    order = np.argsort(slot, kind="stable")
    numbers, first = np.unique(slot[order], return_index=True)
    parts = {
        int(number): uncounted._sketch({name: _taken(column, chosen) for name, column in columns.items()}, len(chosen))
        for number, chosen in zip(numbers, np.split(order, first[1:]), strict=True)
        if number >= 0
    }
    return {
        name: make_chunks(
            column.bins,
            {number: sketches[name] for number, sketches in parts.items()},
            whole=counted[name],
            begin=begin,
            slot_s=slot_s,
        )
        for name, column in uncounted.columns.items()
    }


def with_effects(
    reference: Reference, rows: Mapping[str, Values], answer: Callable[[Ints, str, Ints], Sequence[float | None]]
) -> Reference:
    """``reference`` with what each column does to the score, measured by permuting it through the model.

    :param rows: those that the reference was made of.
    :param answer: ``(rows, column, others)`` -> the score of each of these rows with the value that ``column`` has in
        the row of ``others`` beside it; rows are numbers.
    """
    scored = reference.columns.get(SCORE)
    if scored is None or reference.score is None or not scored.sketch.variance > 0:
        return reference
    deviation = math.sqrt(scored.sketch.variance) * reference.score.scale
    named = [name for name in reference.columns if name != SCORE]
    measured = dict(reference.columns)
    for name in named:
        column = reference.columns[name]
        groups = group_count(column.bins)
        group_of = column.bins.group_of(as_column(rows[name], name=name))
        asked = min(len(group_of), rows_to_ask(len(named), groups))
        own = np.linspace(0, len(group_of) - 1, asked).astype(np.int64)
        others = one_row_of_each(group_of, groups, asked)
        there = others[0] >= 0
        scores = np.full((asked, groups), math.nan)
        given = answer(np.repeat(own, int(there.sum())), name, others[:, there].ravel())
        scores[:, there] = np.array([math.nan if value is None else value for value in given]).reshape(asked, -1)
        shares = column.counts(column.sketch)[1]
        if np.isfinite(scores[:, there]).all():
            effects = effects_of(scores, shares / shares.sum(), deviation=deviation)
            measured[name] = replace(column, effects=effects)
    return Reference(columns=measured)


def _are_classes(answers: Column) -> bool:
    """Answers that are numbers, or nothing at all, are scores."""
    return any(isinstance(answer, str) for answer in answers.array.tolist())


def _lined_up(rows: Mapping[str, Values], scores: Values | None) -> tuple[dict[str, Column], int]:
    given = {**rows, SCORE: scores} if scores is not None else dict(rows)
    columns = {name: as_column(raw, name=name) for name, raw in given.items()}
    lengths = {name: len(column.array) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise _not_lined_up(lengths)
    return columns, next(iter(lengths.values()), 0)


def _not_lined_up(lengths: Mapping[str, int]) -> SketchUnusable:
    return SketchUnusable(
        "rows to sketch", value=dict(lengths), limit="columns of one length", remedy="give one value a row, or a null"
    )


def _taken(column: Column, chosen: Ints) -> Column:
    return Column(column.array[chosen], None if column.mask is None else column.mask[chosen])
