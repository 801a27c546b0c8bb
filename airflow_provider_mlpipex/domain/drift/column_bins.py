"""Bins of one column, fixed once from the training rows: what every later sketch of it is counted in.

Two resolutions in one set of counts. *Fine* bins carry what needs the whole distribution (KS, Wasserstein); *groups*
of neighbouring fine bins, about twenty, carry what compares shares (PSI, Jensen-Shannon, chi-square) and the score's
mean along the column. One more group, the last, holds the rows that are in no bin at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from airflow_provider_mlpipex.domain.drift.categorical_bins import CategoricalBins, fit_categories
from airflow_provider_mlpipex.domain.drift.column_values import (
    Column,
    LabelKind,
    holds_moments,
    is_numeric,
    read_labels,
    read_moments,
    read_numbers,
)
from airflow_provider_mlpipex.domain.drift.numeric_bins import NumericBins, fit_numbers
from airflow_provider_mlpipex.domain.drift.sketches import Sketch, empty

Bins = NumericBins | CategoricalBins


def fit_bins(column: Column, *, categorical: bool | None = None) -> Bins:
    """Bins for a training column.

    :param categorical: treat numbers as categories; found out from the values if not given.
    """
    if categorical is None and holds_moments(column):
        return fit_numbers(np.sort(read_moments(column).finite), moments=True)
    if categorical or (categorical is None and not is_numeric(column)):
        return fit_categories(read_labels(column))
    return fit_numbers(np.sort(read_numbers(column).finite))


def no_rows(bins: Bins) -> Sketch:
    """The sketch of no rows over ``bins``."""
    return empty(bins.identity, groups=len(bins.starts) + 1)


def bins_from_json(stored: Mapping[str, Any]) -> Bins:
    """What ``to_json`` of either kind of bins wrote.

    :raises KeyError, TypeError, ValueError: it is not that.
    """
    starts = np.asarray(stored["starts"], dtype=np.int64)
    bins: Bins
    if stored["kind"] == "numeric":
        bins = NumericBins(
            edges=np.asarray(stored["edges"], dtype=np.float64),
            starts=starts,
            centre=float(stored["centre"]),
            deviation=float(stored["deviation"]),
            moments=bool(stored.get("moments", False)),
        )
        if not (bins.edges[1:] > bins.edges[:-1]).all() or not np.isfinite(bins.edges).all():
            raise ValueError("edges that do not rise")
    else:
        bins = CategoricalBins(
            categories=tuple(stored["categories"]),
            starts=starts,
            complete=bool(stored["complete"]),
            label_kinds=cast(tuple[LabelKind, ...], tuple(stored["label_kinds"])),
        )
    if not len(starts) or starts[0] != 0 or not (np.diff(starts) > 0).all() or starts[-1] >= bins.size:
        raise ValueError("groups that do not follow one another")
    return bins
