"""Outcomes in the ledger's database, in a table of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from airflow_provider_mlpipex.adapters.sql.database import moment_text, shared_database
from airflow_provider_mlpipex.adapters.sql.outcome_rules import conflicting
from airflow_provider_mlpipex.domain.errors import LedgerUnavailable
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import (
    Added,
    Label,
    LabelConflict,
    LabelledPrediction,
    LabelledSpan,
)

#: Ids in one query: below what every SQLite takes as variables.
_CHUNK = 500
#: An ingest of the same rows that came in between is seen at the next try.
_TRIES = 3

_outcomes = sa.Table(
    "mlpipex_outcomes",
    sa.MetaData(),
    sa.Column("endpoint", sa.String(130), primary_key=True),
    sa.Column("request_id", sa.String(200), primary_key=True),
    sa.Column("release", sa.String(64)),
    sa.Column("served_at", sa.String(32)),
    sa.Column("kind", sa.String(20)),
    sa.Column("score", sa.Double),
    sa.Column("predicted", sa.Text),
    sa.Column("probabilities", sa.Text),
    sa.Column("label_number", sa.Double),
    sa.Column("label_text", sa.Text),
    sa.Column("observed_at", sa.String(32)),
)
_MINE = _outcomes.c


class _LostRace(Exception):
    """Another process has added some of these outcomes since they were looked for."""


class SqlOutcomes:
    """:param url: of the ledger. :raises ConfigurationInvalid: a url that cannot work."""

    def __init__(self, url: str) -> None:
        self._database = shared_database(url)

    def add(self, endpoint: EndpointRef, outcomes: Sequence[LabelledPrediction], *, correct: bool = False) -> Added:
        for _ in range(_TRIES):
            try:
                with self._database.transaction() as connection:
                    return _add(connection, endpoint, outcomes, correct=correct)
            except _LostRace:
                continue
        raise LedgerUnavailable(
            f"outcomes of {endpoint}",
            value=f"{_TRIES} tries lost to other writers",
            limit="one ingest of the same rows at a time",
            remedy="nothing was written; run it again when the other ingest is done",
        )

    def read(
        self, endpoint: EndpointRef, release: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[LabelledPrediction]:
        query = sa.select(_outcomes).where(_MINE.endpoint == str(endpoint), _MINE.release == release)
        if since is not None:
            query = query.where(_MINE.served_at >= moment_text(since))
        if until is not None:
            query = query.where(_MINE.served_at <= moment_text(until))
        query = query.order_by(_MINE.served_at, _MINE.request_id)
        with self._database.reading() as connection:
            return [_outcome(row) for row in connection.execute(query).mappings()]

    def known(self, endpoint: EndpointRef, request_ids: Sequence[str]) -> dict[str, LabelledPrediction]:
        with self._database.reading() as connection:
            return {outcome.request_id: outcome for outcome in _known(connection, endpoint, request_ids)}

    def spans(self, endpoint: EndpointRef) -> dict[str, LabelledSpan]:
        query = (
            sa.select(_MINE.release, sa.func.count(), sa.func.min(_MINE.served_at), sa.func.max(_MINE.served_at))
            .where(_MINE.endpoint == str(endpoint))
            .group_by(_MINE.release)
            .order_by(_MINE.release)
        )
        with self._database.reading() as connection:
            return {
                release: LabelledSpan(rows=rows, first=first, last=last)
                for release, rows, first, last in connection.execute(query)
            }

    def labels(self, endpoint: EndpointRef, *, limit: int) -> list[Label]:
        query = sa.select(_MINE.label_number, _MINE.label_text).where(_MINE.endpoint == str(endpoint)).distinct()
        with self._database.reading() as connection:
            labels = [number if text is None else text for number, text in connection.execute(query.limit(limit))]
        return sorted(labels, key=str)


def _add(
    connection: sa.Connection, endpoint: EndpointRef, outcomes: Sequence[LabelledPrediction], *, correct: bool
) -> Added:
    kept = {
        outcome.request_id: outcome.label
        for outcome in _known(connection, endpoint, [outcome.request_id for outcome in outcomes])
    }
    new = [outcome for outcome in outcomes if outcome.request_id not in kept]
    changed = [
        outcome for outcome in outcomes if outcome.request_id in kept and kept[outcome.request_id] != outcome.label
    ]
    if changed and not correct:
        raise conflicting(
            endpoint,
            [
                LabelConflict(request_id=outcome.request_id, kept=kept[outcome.request_id], given=outcome.label)
                for outcome in changed
            ],
        )
    if changed:
        correction = (
            _outcomes.update()
            .where(_MINE.endpoint == sa.bindparam("of"), _MINE.request_id == sa.bindparam("named"))
            .values({name: sa.bindparam(f"new_{name}") for name in ("label_number", "label_text", "observed_at")})
        )
        rows = [_row(endpoint, outcome) for outcome in changed]
        connection.execute(
            correction,
            [
                {
                    "of": row["endpoint"],
                    "named": row["request_id"],
                    **{f"new_{name}": row[name] for name in ("label_number", "label_text", "observed_at")},
                }
                for row in rows
            ],
        )
    if new:
        try:
            connection.execute(_outcomes.insert(), [_row(endpoint, outcome) for outcome in new])
        except IntegrityError:
            raise _LostRace from None
    return Added(added=len(new), unchanged=len(outcomes) - len(new) - len(changed), corrected=len(changed))


def _known(
    connection: sa.Connection, endpoint: EndpointRef, request_ids: Sequence[str]
) -> Iterator[LabelledPrediction]:
    for at in range(0, len(request_ids), _CHUNK):
        some = request_ids[at : at + _CHUNK]
        query = sa.select(_outcomes).where(_MINE.endpoint == str(endpoint), _MINE.request_id.in_(some))
        yield from (_outcome(row) for row in connection.execute(query).mappings())


def _row(endpoint: EndpointRef, outcome: LabelledPrediction) -> dict[str, Any]:
    is_text = isinstance(outcome.label, str)
    return {
        "endpoint": str(endpoint),
        "request_id": outcome.request_id,
        "release": outcome.release,
        "served_at": moment_text(outcome.served_at),
        "kind": outcome.kind,
        "score": outcome.score,
        "predicted": outcome.predicted,
        "probabilities": None if outcome.probabilities is None else json.dumps(outcome.probabilities),
        "label_number": None if is_text else outcome.label,
        "label_text": outcome.label if is_text else None,
        "observed_at": None if outcome.observed_at is None else moment_text(outcome.observed_at),
    }


def _outcome(row: Mapping[Any, Any]) -> LabelledPrediction:
    probabilities, observed_at = row["probabilities"], row["observed_at"]
    return LabelledPrediction(
        request_id=row["request_id"],
        release=row["release"],
        served_at=datetime.fromisoformat(row["served_at"]),
        kind=row["kind"],
        score=row["score"],
        predicted=row["predicted"],
        probabilities=None if probabilities is None else tuple(json.loads(probabilities)),
        label=row["label_number"] if row["label_text"] is None else row["label_text"],
        observed_at=None if observed_at is None else datetime.fromisoformat(observed_at),
    )
