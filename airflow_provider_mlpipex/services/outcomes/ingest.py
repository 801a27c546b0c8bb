"""Late labels: joined to the release that served them, and what they say of it over time."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import DataQualityFailed
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import (
    Label,
    LabelledPrediction,
    Period,
    grouped,
    unfit_labels,
)
from airflow_provider_mlpipex.domain.rollout.events import OutcomesJudged
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services.outcomes.gates import judge
from airflow_provider_mlpipex.services.outcomes.label_rows import LabelledId, read_labels
from airflow_provider_mlpipex.services.outcomes.metrics import MAX_CLASSES, Performance, Tasks, measure
from airflow_provider_mlpipex.services.platform import Platform

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 5


class Ingested(Value):
    """What became of one table of labels.

    :param rows: of the table; ``unlabelled`` had no label yet, ``repeated`` said once more what another row had said.
    :param added: new outcomes; ``unchanged`` were known just so, ``corrected`` had another label.
    :param unmatched: ids without a record in the prediction logs that are kept: pruned by size, dropped by a full
        queue, answered with an error, mirrored only, or never ours. ``log_since`` says how far back each log reaches.
    :param ambiguous: ids that clients have used for several requests.
    :param releases: release -> outcomes of this table that it served.
    :param judged: what the outcome gates say of the current release by now; ``None`` where its manifest has none.
    :param reopened: why its promotion is in doubt, empty if it is not.
    """

    endpoint: str
    rows: int
    unlabelled: int
    repeated: int
    added: int
    unchanged: int
    corrected: int
    unmatched: int
    ambiguous: int
    releases: dict[str, int]
    some_unmatched: tuple[str, ...] = ()
    log_since: dict[str, datetime] = {}
    judged: OutcomesJudged | None = None
    reopened: str = ""


def ingest(
    platform: Platform, endpoint: EndpointRef, table: pd.DataFrame, *, subject: str, correct: bool = False
) -> Ingested:
    """Keep the labels of ``table`` beside what was served for them, and judge the current release by all of its labels.

    All of the table is kept or nothing of it; twice is once.

    :param table: as :func:`~airflow_provider_mlpipex.services.outcomes.label_rows.read_labels` takes it.
    :param correct: labels that differ from those kept replace them.
    :raises DataQualityFailed: the table is no table of labels, or its labels are not what the model predicts.
    :raises OutcomeConflict: other labels than those kept, and ``correct`` is not set.
    :raises ConfigurationInvalid: no manifest of the endpoint says what its model predicts.
    :raises PlaneUnavailable: the logs cannot be asked; nothing was kept.
    """
    tasks = Tasks(platform, endpoint)
    read = read_labels(table, subject=subject)
    distinct = {row.label for row in read.labels}
    ids = [row.request_id for row in read.labels]
    known_labels = _labels_beside(platform, endpoint, ids) if correct else _labels(platform, endpoint)
    unfit = unfit_labels(tasks.newest, distinct, known_labels)
    if unfit:
        raise DataQualityFailed(
            f"{subject}, labels of {endpoint}",
            value=unfit,
            limit=f"truths of a {tasks.newest} task, like the {len(known_labels)} kept labels",
            remedy="write the value that the model was trained to predict; nothing was kept of this table",
        )
    known = platform.outcomes.known(endpoint, ids)
    # What is known needs no log: a file may be ingested again when its records are long gone.
    asked = [rid for rid in ids if rid not in known]
    served = platform.plane.served(endpoint, asked) if asked else None
    answers = {answer.request_id: answer for answer in served.rows} if served else {}
    ambiguous = set(served.ambiguous) if served else set()
    outcomes = [
        outcome for row in read.labels if (outcome := _outcome(row, answers.get(row.request_id), known)) is not None
    ]
    added = platform.outcomes.add(endpoint, outcomes, correct=correct)
    unmatched = [rid for rid in asked if rid not in answers and rid not in ambiguous]
    releases = [outcome.release for outcome in outcomes]
    judgement = judge(platform, endpoint)
    return Ingested(
        endpoint=str(endpoint),
        rows=read.rows,
        unlabelled=read.unlabelled,
        repeated=read.repeated,
        unmatched=len(unmatched),
        ambiguous=len(ambiguous),
        releases={release: releases.count(release) for release in sorted(set(releases))},
        some_unmatched=tuple(unmatched[:_SHOWN]),
        log_since=served.log_since if served else {},
        judged=judgement.judged if judgement else None,
        reopened=judgement.doubt.cause if judgement and judgement.doubt else "",
        **added.to_json(),
    )


def _labels(platform: Platform, endpoint: EndpointRef) -> set[Label]:
    return set(platform.outcomes.labels(endpoint, limit=MAX_CLASSES))


def _labels_beside(platform: Platform, endpoint: EndpointRef, ids: Collection[str]) -> set[Label]:
    """Distinct labels that are kept when those of ``ids`` have been replaced."""
    replaced = set(ids)
    return {
        outcome.label
        for release in platform.outcomes.spans(endpoint)
        for outcome in platform.outcomes.read(endpoint, release)
        if outcome.request_id not in replaced
    }


def _outcome(row: LabelledId, answer: Any, known: dict[str, LabelledPrediction]) -> LabelledPrediction | None:
    """``row`` beside what was served for it, as it is known already or as the log says; ``None`` without either."""
    kept = known.get(row.request_id)
    if kept is None and answer is None:
        return None
    return LabelledPrediction(
        request_id=row.request_id,
        release=kept.release if kept else answer.release,
        served_at=kept.served_at if kept else answer.at,
        kind=kept.kind if kept else answer.kind,
        score=kept.score if kept else answer.score,
        predicted=kept.predicted if kept else answer.predicted,
        probabilities=kept.probabilities if kept else answer.probabilities,
        label=row.label,
        observed_at=row.observed_at,
    )


def performance(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    release: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    by: Period | None = None,
) -> list[Performance]:
    """The metrics of ``services.evaluation`` on labelled rows, by release and period, oldest first.

    :param release: only this one; every release with labels if not given.
    :param since: when rows were *served*, with ``until`` both inclusive: a label that came today speaks of the day of
        its prediction.
    :param by: UTC days, or weeks from Monday; ``None``: one period a release.
    """
    tasks = Tasks(platform, endpoint)
    labels = platform.outcomes.labels(endpoint, limit=MAX_CLASSES)
    periods = []
    for name in [release] if release else platform.outcomes.spans(endpoint):
        outcomes = platform.outcomes.read(endpoint, name, since=since, until=until)
        if not outcomes:
            continue
        whole = {(outcomes[0].served_at, outcomes[-1].served_at): outcomes}
        for (start, end), rows in (grouped(outcomes, by) if by else whole).items():
            periods.append(measure(tasks.of(name), rows, labels, release=name, since=start, until=end))
    return sorted(periods, key=lambda period: (period.since, period.release))
