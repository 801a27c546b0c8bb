"""Whose rows a drift comes from: how much of it each batch carries, which Dag run sent that, and a few of its rows.

Shares come from counts that are kept for months; sample rows from the prediction log, which keeps them for days.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain

from airflow_provider_mlpipex.domain.drift.report import Attribution, BatchFault, Measure, Season
from airflow_provider_mlpipex.domain.drift.served import REST
from airflow_provider_mlpipex.domain.errors import DriftUndecided, IllegalTransition, MlpipexError, NotFound
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.predictions import Prediction
from airflow_provider_mlpipex.domain.rollout.events import DriftJudged, Entry, RoutineRecord
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.batches.origin import BatchFacts, batches_of
from airflow_provider_mlpipex.services.platform import Platform

#: Batches that are named for each column, and the part of its drift that one must carry to be named.
MAX_BATCHES, WORTH_NAMING = 3, 0.1
#: Rows of each of them that are shown.
SAMPLE_ROWS = 5


def batch_name(batch: str) -> str:
    """A batch in a sentence."""
    return f"batch {batch}" if batch else "requests without a batch"


class BatchSource(Value):
    """A batch that carries a part of a drift, or is faulty by itself, and who sent it.

    :param batch: what its requests carried; empty for all requests that named none.
    :param rows: that were answered in the window.
    :param shares: column -> part of its drift that goes away with this batch, 0 to 1.
    :param faults: in what it is not like the other batches.
    :param sent: by which Dag run, and the digest of its rows; ``None`` where the ledger knows of no such batch.
    :param sample: a few of its rows. :param trouble: why there are none.
    """

    batch: str
    rows: int
    shares: dict[str, float]
    faults: tuple[BatchFault, ...] = ()
    sent: BatchFacts | None = None
    sample: tuple[Prediction, ...] = ()
    trouble: str = ""

    @property
    def message(self) -> str:
        """Who sent it, as a sentence."""
        if self.batch == REST:
            return f"{REST}: {self.rows} rows of batches that the plane does not tell apart"
        name = batch_name(self.batch)
        if self.sent is None:
            return f"{name}: no task says that it sent them"
        task = f"task {self.sent.task_id} of Dag run {self.sent.run_id} of {self.sent.dag_id}"
        if self.rows > self.sent.sent:
            return (
                f"{name}: {self.rows} rows came under this name, but {task} wrote down {self.sent.sent}: "
                f"at least {self.rows - self.sent.sent} are somebody else's"
            )
        return f"{name}: sent by {task}, rows {self.sent.digest[:12]}"


class Traced(Value):
    """Where the drift of some columns came from: in the order of the columns, and of the shares."""

    attributions: tuple[Attribution, ...] = ()
    batches: tuple[BatchSource, ...] = ()

    @property
    def messages(self) -> tuple[str, ...]:
        """One sentence a column, then one a batch."""
        return (*(attribution.reason for attribution in self.attributions), *(batch.message for batch in self.batches))


def trace(
    platform: Platform,
    endpoint: EndpointRef,
    release: str,
    columns: Mapping[str, Measure],
    *,
    faults: Sequence[BatchFault] = (),
    season: Season | None = None,
    since: datetime,
    until: datetime,
    strict: bool = False,
) -> Traced:
    """Attribute the drift of ``columns`` to batches, and say who sent those that carry it, and those that are faulty.

    :param columns: column -> measure of its drift.
    :param faults: of single batches, the most certain first.
    :param season: with which rows of the reference the window was compared.
    :param strict: whether a column that cannot be attributed is raised. Otherwise it is said to be so, as are rows that
        are no longer there: what was found of the others must not be lost for it.
    :raises MlpipexError: only if ``strict``.
    """
    attributions = []
    for column, measure in columns.items():
        try:
            answer = _attribution(platform, endpoint, release, column, measure, season=season, since=since, until=until)
        except MlpipexError as error:
            if strict:
                raise
            answer = Attribution(column=column, measure=measure, conclusive=False, reason=f"{column}: {error}")
        attributions.append(answer)
    faulty = dict.fromkeys(fault.batch for fault in faults)
    named: dict[str, dict[str, float]] = {batch: {} for batch in list(faulty)[:MAX_BATCHES]}
    rows = {fault.batch: fault.rows for fault in faults}
    for attribution in attributions:
        for share in attribution.batches[:MAX_BATCHES]:
            if share.share >= WORTH_NAMING:
                named.setdefault(share.batch, {})[attribution.column] = share.share
                rows[share.batch] = share.rows
    sent = batches_of(platform, endpoint, named)
    sources = [
        _source(
            platform,
            endpoint,
            release,
            batch,
            rows=rows[batch],
            shares=shares,
            faults=tuple(fault for fault in faults if fault.batch == batch),
            sent=sent.get(batch),
            since=since,
            until=until,
        )
        for batch, shares in named.items()
    ]
    certain = list(faulty)
    # What carries a drift comes first, then what is only faulty, in the order of its certainty.
    sources.sort(
        key=lambda source: (
            -max(source.shares.values(), default=0.0),
            certain.index(source.batch) if source.batch in faulty else len(certain),
            source.batch,
        )
    )
    return Traced(attributions=tuple(attributions), batches=tuple(sources))


def attribute(
    platform: Platform, endpoint: EndpointRef, *, seq: int | None = None, column: str | None = None
) -> tuple[Entry | RoutineRecord, Traced]:
    """Attribute a drift that was judged before: the look, and where its drift came from.

    :param seq: of a ``drift-judged`` entry; the last one that found drift if not given, and with ``column`` the last.
    :param column: the column to attribute; those that the entry calls drifted if not given.
    :raises NotFound: there is no such entry. :raises IllegalTransition: it found nothing to attribute.
    :raises DriftUndecided: the release has no reference of the column.
    :raises PlaneUnavailable: the plane does not answer.
    """
    looked, judged = _drift_entry(platform, endpoint, seq=seq, failed=column is None)
    columns: dict[str, Measure] = dict(judged.facts.get("drifted", {}))
    faults = [BatchFault.model_validate(stored) for stored in judged.facts.get("faults", ())]
    if column is not None:
        columns = {column: columns.get(column, "psi")}
        faults = [fault for fault in faults if fault.column == column]
    if not columns and not faults:
        raise IllegalTransition(
            f"drift of {endpoint}, look of {looked.recorded_at:%Y-%m-%d %H:%M:%S}",
            value=judged.verdict,
            limit="a look that found a drifted column or a faulty batch",
            remedy="name a column to attribute all the same",
        )
    traced = trace(
        platform,
        endpoint,
        judged.release,
        columns,
        faults=faults,
        season=judged.facts.get("season", judged.facts.get("demand", {}).get("season")),
        since=judged.since,
        until=judged.until,
        strict=True,
    )
    return looked, traced


def _attribution(
    platform: Platform,
    endpoint: EndpointRef,
    release: str,
    column: str,
    measure: Measure,
    *,
    season: Season | None,
    since: datetime,
    until: datetime,
) -> Attribution:
    from airflow_provider_mlpipex.domain.drift import attribution as causes
    from airflow_provider_mlpipex.domain.drift.chunks import Window
    from airflow_provider_mlpipex.domain.drift.season import column_in_season

    served = platform.plane.sketches_by_batch(endpoint, release, column=column, since=since, until=until)
    if served.reference is None:
        raise DriftUndecided(
            f"column {column} of release {release}",
            value="no reference",
            limit="a column that the release was trained on",
            remedy="name one of its model inputs, or @score",
        )
    window = Window(since=served.since, until=served.until, season=season)
    reference = column_in_season(served.reference, window) or served.reference
    return causes.attribute(reference, served.batches, measure=measure)


def _source(
    platform: Platform,
    endpoint: EndpointRef,
    release: str,
    batch: str,
    *,
    rows: int,
    shares: dict[str, float],
    faults: tuple[BatchFault, ...],
    sent: BatchFacts | None,
    since: datetime,
    until: datetime,
) -> BatchSource:
    source = BatchSource(batch=batch, rows=rows, shares=shares, faults=faults, sent=sent)
    if batch == REST:
        return source.model_copy(update={"trouble": "they are of many batches"})
    try:
        sample = platform.plane.predictions(
            endpoint, release, since=since, until=until, limit=SAMPLE_ROWS, batch=batch
        ).rows
    except MlpipexError as error:
        return source.model_copy(update={"trouble": str(error)})
    trouble = "" if sample else "its rows are no longer in the prediction log"
    return source.model_copy(update={"sample": sample, "trouble": trouble})


def _drift_entry(
    platform: Platform, endpoint: EndpointRef, *, seq: int | None, failed: bool
) -> tuple[Entry | RoutineRecord, DriftJudged]:
    """The look that is meant, and what it found. One without news is no entry, and the last of all may be one."""
    candidates: Iterator[Entry | RoutineRecord]
    if seq is not None:
        candidates = iter(platform.ledger.read(endpoint, after_seq=seq - 1, before_seq=seq + 1))
    else:
        routine = [] if failed else platform.ledger.records(endpoint, types=("drift-judged",), limit=1)
        entries = journal.walk_back(platform, endpoint, types=("drift-judged",))
        newest = next(entries, None)
        both: list[Entry | RoutineRecord] = [*([newest] if newest else []), *routine]
        candidates = chain(sorted(both, key=lambda each: each.recorded_at, reverse=True), entries)
    for looked in candidates:
        if isinstance(looked.event, DriftJudged) and (seq is not None or not failed or looked.event.verdict == "fail"):
            return looked, looked.event
    raise NotFound(
        f"ledger of {endpoint}",
        value="no such entry" if seq is None else f"entry {seq}",
        limit="a look at drift" if seq is not None or not failed else "a look that found drift",
        remedy=f"list its entries with: mlpipex history {endpoint}; or look now: mlpipex drift check {endpoint}",
    )
