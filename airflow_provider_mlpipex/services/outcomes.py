"""Late labels: joined to the release that served them, and what they say of it over time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, DataQualityFailed
from airflow_provider_mlpipex.domain.events import RolloutOpened
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.outcomes import Label, Outcome, Period, classes_of, grouped, unfit_labels
from airflow_provider_mlpipex.domain.training import Task
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services.evaluation import evaluate
from airflow_provider_mlpipex.services.label_rows import LabelledId, read_labels
from airflow_provider_mlpipex.services.platform import Platform

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

#: Distinct labels that are looked at; a classification of more classes is beyond what its metrics say.
MOST_CLASSES = 1000
_SHOWN = 5


class Ingested(Value):
    """What became of one table of labels.

    :param rows: of the table; ``unlabelled`` had no label yet, ``repeated`` said once more what another row had said.
    :param added: new outcomes; ``unchanged`` were known just so, ``corrected`` had another label.
    :param unmatched: ids without a record in the prediction logs that are kept: pruned by size, dropped by a full
        queue, answered with an error, mirrored only, or never ours. ``log_since`` says how far back each log reaches.
    :param ambiguous: ids that clients have used for several requests.
    :param releases: release -> outcomes of this table that it served.
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


class Performance(Value):
    """How good a release was on what it served in one period (both ends UTC, the last one exclusive).

    :param samples: labelled rows behind ``metrics``; ``unscored`` more had an answer that no metric can be made of.
    :param why: why there are no metrics, or fewer.
    """

    release: str
    since: datetime
    until: datetime
    samples: int
    unscored: int = 0
    metrics: dict[str, float] = {}
    why: str = ""


def ingest(
    platform: Platform, endpoint: EndpointRef, table: pd.DataFrame, *, subject: str, correct: bool = False
) -> Ingested:
    """Keep the labels of ``table`` beside what was served for them. All of it or nothing; twice is once.

    :param table: as :func:`~airflow_provider_mlpipex.services.label_rows.read_labels` takes it.
    :param correct: labels that differ from those kept replace them.
    :raises DataQualityFailed: the table is no table of labels, or its labels are not what the model predicts.
    :raises OutcomeConflict: other labels than those kept, and ``correct`` is not set.
    :raises ConfigurationInvalid: no manifest of the endpoint says what its model predicts.
    :raises PlaneUnavailable: the logs cannot be asked; nothing was kept.
    """
    tasks = _Tasks(platform, endpoint)
    read = read_labels(table, subject=subject)
    distinct = {row.label for row in read.labels}
    known_labels = platform.outcomes.labels(endpoint, limit=MOST_CLASSES)
    unfit = unfit_labels(tasks.newest, distinct, () if correct else known_labels)
    if unfit:
        raise DataQualityFailed(
            f"{subject}, labels of {endpoint}",
            value=unfit,
            limit=f"truths of a {tasks.newest} task, like the {len(known_labels)} kept labels",
            remedy="write the value that the model was trained to predict; nothing was kept of this table",
        )
    ids = [row.request_id for row in read.labels]
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
        **added.to_json(),
    )


def _outcome(row: LabelledId, answer: Any, known: dict[str, Outcome]) -> Outcome | None:
    """``row`` beside what was served for it, as it is known already or as the log says; ``None`` without either."""
    kept = known.get(row.request_id)
    if kept is None and answer is None:
        return None
    return Outcome(
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
    tasks = _Tasks(platform, endpoint)
    labels = platform.outcomes.labels(endpoint, limit=MOST_CLASSES)
    found = []
    for name in [release] if release else platform.outcomes.spans(endpoint):
        outcomes = platform.outcomes.read(endpoint, name, since=since, until=until)
        if not outcomes:
            continue
        whole = {(outcomes[0].served_at, outcomes[-1].served_at): outcomes}
        for (start, end), rows in (grouped(outcomes, by) if by else whole).items():
            found.append(measure(tasks.of(name), rows, labels, release=name, since=start, until=end))
    return sorted(found, key=lambda one: (one.since, one.release))


def measure(
    task: Task, outcomes: Sequence[Outcome], labels: Sequence[Label], *, release: str, since: datetime, until: datetime
) -> Performance:
    """Metrics of ``outcomes``, all of one release.

    :param labels: every label that the endpoint has ever had, which says what classes there are.
    """
    scored = [outcome for outcome in outcomes if outcome.score is not None or outcome.kind == "text"]
    kinds = sorted({outcome.kind for outcome in scored})
    metrics: dict[str, float] = {}
    why = ""
    if not scored:
        why = "no answer with a finite number"
    elif len(kinds) > 1:
        why = f"answers of several kinds: {', '.join(kinds)}"
    else:
        metrics, why = _metrics(task, kinds[0], scored, labels)
    return Performance(
        release=release,
        since=since,
        until=until,
        samples=len(scored),
        unscored=len(outcomes) - len(scored),
        metrics=metrics,
        why=why,
    )


def _metrics(
    task: Task, kind: str, outcomes: Sequence[Outcome], labels: Sequence[Label]
) -> tuple[dict[str, float], str]:
    import numpy as np

    text = any(isinstance(label, str) for label in labels)
    if kind in ("numbers", "several"):
        return {}, "the model gives several outputs, and a label is of one"
    if kind != "probability" and text != (kind == "text"):
        return {}, f"labels are {'text' if text else 'numbers'}, and the model answers {kind}"
    if task == "regression":
        if kind != "number":
            return {}, f"the model answers {kind}, and its task is regression"
        return evaluate(task, _floats(o.label for o in outcomes), _floats(o.score for o in outcomes)), ""
    columns = len(outcomes[0].probabilities or (0, 0)) if kind == "probability" else None
    classes, why = classes_of(task, labels, columns=columns)
    if why:
        return {}, why
    truth = np.array([outcome.label for outcome in outcomes], dtype=object if text else float)
    answers, why = _answers(task, kind, outcomes, classes)
    return ({}, why) if why else (evaluate(task, truth, answers, classes=classes), "")


def _answers(
    task: Task, kind: str, outcomes: Sequence[Outcome], classes: Sequence[Label]
) -> tuple[np.ndarray | None, str]:
    """What ``evaluate`` takes (probabilities by class, one number, or labels), or why there is no such thing."""
    import numpy as np

    if kind == "text":
        return np.array([outcome.predicted for outcome in outcomes], dtype=object), ""
    scores = _floats(outcome.score for outcome in outcomes)
    if kind == "number":
        are_labels = set(scores.tolist()) <= set(classes)
        if task == "multiclass":
            return scores, "" if are_labels else "the model answers numbers that are none of the labels"
        # The log keeps labels as floats: as objects they are labels, as floats they would be probabilities.
        return (scores.astype(object) if are_labels else scores), ""
    widths = {len(outcome.probabilities or (0, 0)) for outcome in outcomes}
    if len(widths) > 1:
        return None, "answers of different numbers of classes"
    if widths == {2}:
        return np.column_stack([1.0 - scores, scores]), ""
    return np.array([outcome.probabilities for outcome in outcomes], dtype=float), ""


def _floats(values: Any) -> np.ndarray:
    import numpy as np

    return np.fromiter(values, dtype=float)


class _Tasks:
    """What the releases of an endpoint predict, from the manifests that they were rolled out under.

    :raises ConfigurationInvalid: none of these says it.
    """

    def __init__(self, platform: Platform, endpoint: EndpointRef) -> None:
        self._of: dict[str, Task] = {}
        self.newest: Task
        for entry in platform.ledger.read(endpoint):
            if isinstance(entry.event, RolloutOpened) and (training := entry.event.manifest.get("training")):
                self._of[entry.event.release.id] = self.newest = training["task"]
        if not self._of:
            raise ConfigurationInvalid(
                f"outcomes of {endpoint}",
                value="no manifest with a training block",
                limit="training.task, which says what a label is compared with",
                remedy="check the endpoint's name, or add a training block to its manifest and roll it out",
            )

    def of(self, release: str) -> Task:
        return self._of.get(release, self.newest)
