"""Prediction logs of a plane as sketches: counted every half minute, and up to date whenever somebody asks."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson

from airflow_provider_mlpipex.domain.drift.batch_faults import find_faults
from airflow_provider_mlpipex.domain.drift.references import REFERENCE_PATH, ColumnReference, Reference
from airflow_provider_mlpipex.domain.drift.report import BatchFaults
from airflow_provider_mlpipex.domain.drift.served import (
    MAX_BATCHES,
    REST,
    BatchSketches,
    ServedSketches,
    whole_minutes,
)
from airflow_provider_mlpipex.domain.drift.sketches import Floats, Sketch, merge
from airflow_provider_mlpipex.domain.errors import PlaneUnavailable
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.serving.artifacts import verify_directory
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec
from airflow_provider_mlpipex.serving.periodic import Background
from airflow_provider_mlpipex.serving.plane_log import ROWS_NOT_COUNTED, plane_log
from airflow_provider_mlpipex.serving.prediction_log.reader import is_silent
from airflow_provider_mlpipex.serving.sketches.aggregation import compact
from airflow_provider_mlpipex.serving.sketches.batch_counts import batch_counts
from airflow_provider_mlpipex.serving.sketches.packed import difference
from airflow_provider_mlpipex.serving.sketches.store import HOUR, REST_ID, SketchStore, opened, reference_in
from airflow_provider_mlpipex.serving.state_dir import Places

EVERY_S = 30.0
#: Between two chunks (seconds), so that a long log does not keep the plane's other threads from their work.
_PAUSE_S = 0.01
#: References that are kept in memory: a megabyte or two each.
_REFERENCES = 16
Name = tuple[EndpointRef, str]


class SketchedLogs(Background):
    """:param places: of the plane. :param say: takes errors of the counting; one log's never stops the others.
    :param now: epoch seconds.
    """

    def __init__(
        self, places: Places, *, say: Callable[[str, Exception], None], now: Callable[[], float] = time.time
    ) -> None:
        super().__init__("sketches", every_s=EVERY_S, say=say)
        self._places = places
        self._now = now
        self._guard = threading.Lock()
        self._locks: dict[Name, threading.Lock] = {}
        self._references: OrderedDict[Name, Reference] = OrderedDict()

    def work(self) -> None:
        """Count what every log of this plane has; what goes wrong with one of them is said."""
        for path in sorted(self._places.servers.glob("*/spec.json")):
            if self._stopping.is_set():
                return
            try:
                spec = _spec(path)
                if spec is not None:
                    self._compact_one(spec.endpoint, spec.release.id)
            except Exception as error:  # noqa: BLE001 - one log's trouble must not keep the others from being counted
                self._say(f"sketches of {path.parent.name}", error)

    def sketches(self, endpoint: EndpointRef, release_id: str, *, since: datetime, until: datetime) -> ServedSketches:
        """See :meth:`ports.ServingPlane.sketches`.

        :raises PlaneUnavailable: the log cannot be read or the store not be written.
        :raises SketchUnusable: the release's reference cannot be read.
        """
        since, until = whole_minutes(since, until)
        with self._asked(endpoint, release_id) as store:
            if store is None:
                return ServedSketches(release=release_id, since=since, until=until)
            first, end = _known_window(store, since, until)
            columns = {name: store.total(name, first, end) for name in store.reference.columns}
            dropped = store.dropped(first, end)
        rows = max((sketch.rows for sketch in columns.values()), default=0)
        share = dropped / (dropped + rows) if dropped else 0.0
        # A log that does not even say how much it lost may have lost everything.
        silent = is_silent(self._places.prediction_log(endpoint, release_id), until)
        return ServedSketches(
            release=release_id,
            since=_moment(first),
            until=_moment(end),
            reference=store.reference,
            columns=columns,
            dropped_share=1.0 if silent else share,
        )

    def sketches_by_batch(
        self, endpoint: EndpointRef, release_id: str, *, column: str, since: datetime, until: datetime
    ) -> BatchSketches:
        """See :meth:`ports.ServingPlane.sketches_by_batch`; errors as :meth:`sketches`."""
        since, until = whole_minutes(since, until)
        with self._asked(endpoint, release_id) as store:
            if store is None or column not in store.reference.columns:
                return BatchSketches(release=release_id, column=column, since=since, until=until)
            first, end = _known_window(store, since, until)
            batches, rest = _by_batch(store, column, first, end)
            return BatchSketches(
                release=release_id,
                column=column,
                since=_moment(first),
                until=_moment(end),
                reference=store.reference.columns[column],
                batches=batches,
                rest=rest,
            )

    def batch_faults(
        self, endpoint: EndpointRef, release_id: str, *, since: datetime, until: datetime, psi: float, alpha: float
    ) -> BatchFaults:
        """See :meth:`ports.ServingPlane.batch_faults`; errors as :meth:`sketches`."""
        since, until = whole_minutes(since, until)
        with self._asked(endpoint, release_id) as store:
            if store is None:
                return BatchFaults()
            window = _known_window(store, since, until)
            counts = {name: batch_counts(store, name, *window) for name in store.reference.columns}
            reference = store.reference
        return find_faults(reference, counts, psi=psi, alpha=alpha)

    def _compact_one(self, endpoint: EndpointRef, release_id: str) -> None:
        with self._locked(endpoint, release_id):
            reference = self._reference(endpoint, release_id)
            if reference is not None:
                with opened(self._places.sketches(endpoint, release_id), reference) as store:
                    self._compact(endpoint, release_id, store, goes_on=lambda: not self._stopping.wait(_PAUSE_S))

    @contextmanager
    def _asked(self, endpoint: EndpointRef, release_id: str) -> Iterator[SketchStore | None]:
        """The store, up to date, to be read as of one moment; ``None`` where the release has no reference."""
        try:
            with self._locked(endpoint, release_id):
                reference = self._reference(endpoint, release_id)
                if reference is not None:
                    with opened(self._places.sketches(endpoint, release_id), reference) as store:
                        self._compact(endpoint, release_id, store)
            if reference is None:
                yield None
                return
            with opened(self._places.sketches(endpoint, release_id), reference) as store, store.reading():
                yield store
        except (OSError, sqlite3.Error) as error:
            raise PlaneUnavailable(
                f"sketches of {release_id} of {endpoint}",
                value=f"{type(error).__name__}: {error}"[:300],
                limit="the prediction log read, and its counts stored",
                remedy="see that the plane's state folder has room; nothing is lost, the next look tries again",
            ) from error

    def _compact(
        self,
        endpoint: EndpointRef,
        release_id: str,
        store: SketchStore,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> None:
        lost = compact(self._places.prediction_log(endpoint, release_id), store, now=self._now, goes_on=goes_on)
        if lost:
            plane_log.warning(ROWS_NOT_COUNTED, endpoint=str(endpoint), release=release_id, about=lost)

    def _reference(self, endpoint: EndpointRef, release_id: str) -> Reference | None:
        """Of the store; before there is one, of the release's artifact, whose digest is verified then."""
        name = endpoint, release_id
        with self._guard:
            known = self._references.get(name)
            if known is not None:
                self._references.move_to_end(name)
                return known
        reference = reference_in(self._places.sketches(endpoint, release_id))
        if reference is None:
            spec = _spec(self._places.server(endpoint, release_id) / "spec.json")
            reference = None if spec is None else _reference_of(spec)
        if reference is not None:
            with self._guard:
                self._references[name] = reference
                while len(self._references) > _REFERENCES:
                    self._references.popitem(last=False)
        return reference

    @contextmanager
    def _locked(self, endpoint: EndpointRef, release_id: str) -> Iterator[None]:
        """One compaction a log at a time."""
        with self._guard:
            lock = self._locks.setdefault((endpoint, release_id), threading.Lock())
        with lock:
            yield


def _spec(path: Path) -> ModelServerSpec | None:
    """What a model server was last started with; it stays when the release is retired."""
    try:
        return ModelServerSpec.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _reference_of(spec: ModelServerSpec) -> Reference | None:
    folder = Path(spec.model_dir)
    path = folder / REFERENCE_PATH
    if not path.is_file():
        return None
    verify_directory(folder, spec.release.model.artifact_digest)
    return Reference.from_json(orjson.loads(path.read_bytes()))


def _known_window(store: SketchStore, since: datetime, until: datetime) -> tuple[int, int]:
    """Epoch seconds; whole hours as far as minutes are known no more."""
    first, end = int(since.timestamp()), int(until.timestamp())
    known = store.minutes_from()
    return first // HOUR * HOUR if first < known else first, -(-end // HOUR) * HOUR if end < known else end


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)


def _by_batch(store: SketchStore, column: str, first: int, end: int) -> tuple[dict[str, Sketch], int]:
    """Batches of a window, and how many known ones are left together.

    Only batches that matter are read: what is left is the window less them, for counts subtract as well as they add.
    """
    whole, parts = store.total(column, first, end), store.parts(column, first, end)
    pruned = first < store.minutes_from()
    if not parts:
        return ({REST: whole} if whole.rows else {}), 0
    ids, places = np.unique(np.array([part[0] for part in parts], dtype=np.int64), return_inverse=True)
    groups = np.frombuffer(b"".join(part[1] for part in parts), dtype="<u4").reshape(len(parts), -1)
    names = store.names()
    if pruned or REST_ID in ids or len(ids) > MAX_BATCHES:
        left, candidates = REST, np.flatnonzero(ids != REST_ID)
    else:
        # The batch that takes most to read is what is left when all others are taken off.
        largest = int(np.argmax(np.bincount(places)))
        left, candidates = names[int(ids[largest])], np.delete(np.arange(len(ids)), largest)
    shares = np.zeros((len(ids), groups.shape[1]))
    np.add.at(shares, places, groups)
    pushes = _pushes(store.reference.columns[column], whole, shares[candidates])
    chosen = candidates[np.argsort(-pushes, kind="stable")[: MAX_BATCHES - 1]]
    read = store.batches(column, ids[chosen].tolist(), first, end)
    totals = {names[number]: sketch for number, sketch in read.items()}
    unread = np.flatnonzero(~np.isin(places, chosen)).tolist()
    # Extremes cannot be had by subtraction.
    extremes = [(parts[place][2], parts[place][3]) for place in unread]
    extremes += [(whole.minimum, whole.maximum)] if pruned or not extremes else []
    rest = difference(
        whole,
        merge([store.reference.empty()[column], *totals.values()]),
        minimum=min(low for low, _ in extremes),
        maximum=max(high for _, high in extremes),
    )
    return {**totals, **({left: rest} if rest.rows else {})}, len(candidates) - len(chosen)


def _pushes(reference: ColumnReference, whole: Sketch, shares: Floats) -> Floats:
    """How much each batch pushes the window away from training, to first order: that of its PSI.

    :param shares: [batch, group] rows.
    """
    trained, served = (reference.counts(sketch)[1] + 0.5 for sketch in (reference.sketch, whole))
    p, q = trained / trained.sum(), served / served.sum()
    excess = shares - shares.sum(axis=1, keepdims=True) * p
    pushes: Floats = excess @ np.log(q / p)
    return pushes
