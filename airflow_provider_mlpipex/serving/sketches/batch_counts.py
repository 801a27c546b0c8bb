"""Every batch of a window as counts in groups: what a test of each batch against the others needs."""

from __future__ import annotations

import numpy as np

from airflow_provider_mlpipex.domain.drift.batch_faults import BatchCounts, beyond_training
from airflow_provider_mlpipex.domain.drift.categorical_bins import CategoricalBins
from airflow_provider_mlpipex.domain.drift.references import ColumnReference
from airflow_provider_mlpipex.domain.drift.served import REST
from airflow_provider_mlpipex.domain.drift.sketches import Floats, Ints
from airflow_provider_mlpipex.serving.sketches.store import REST_ID, SketchStore


def batch_counts(store: SketchStore, column: str, first: int, end: int) -> BatchCounts:
    """Counts of the parts in the window; no sketch is read but those of parts that reach beyond what training had.

    What the store knows without its batch (too long ago, too many a day) is one batch, ``@rest``.
    """
    reference = store.reference.columns[column]
    parts, names = store.parts(column, first, end), store.names()
    numbers = np.array([part[0] for part in parts], dtype=np.int64)
    ids, places = np.unique(numbers, return_inverse=True)
    size = len(reference.bins.starts) + 1
    groups = np.zeros((len(ids), size))
    if len(parts):
        np.add.at(groups, places, np.frombuffer(b"".join(part[1] for part in parts), dtype="<u4").reshape(-1, size))
    beyond = _beyond(store, reference, parts, ids, groups, first, end)
    batches = [REST if number == REST_ID else names[int(number)] for number in ids]
    if first < store.minutes_from():
        rest = np.maximum(0.0, reference.counts(store.total(column, first, end))[1] - groups.sum(axis=0))
        if rest.any() and REST in batches:
            groups[batches.index(REST)] += rest
        elif rest.any():
            batches, groups, beyond = [*batches, REST], np.vstack([groups, rest]), np.append(beyond, 0.0)
    return BatchCounts(batches=tuple(batches), groups=groups, beyond=beyond)


def _beyond(
    store: SketchStore,
    reference: ColumnReference,
    parts: list[tuple[int, bytes, float, float]],
    ids: Ints,
    groups: Floats,
    first: int,
    end: int,
) -> Floats:
    """Rows of each batch beyond what training had."""
    bins = reference.bins
    if isinstance(bins, CategoricalBins):
        return groups[:, -2].copy() if bins.complete else np.zeros(len(ids))
    counts = np.zeros(len(ids))
    if not len(bins.edges):
        return counts
    low, high = bins.edges[0], bins.edges[-1]
    outside = {number for number, _, least, most in parts if least <= low or most > high}
    for number, sketch in store.batches(reference.name, outside, first, end).items():
        counts[int(np.searchsorted(ids, number))] = beyond_training(reference, sketch)
    return counts
