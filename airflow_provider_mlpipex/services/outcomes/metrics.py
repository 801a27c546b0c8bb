"""What labelled rows say of a release: the metrics that its evaluation gave, on what was served."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import Label, LabelledPrediction, classes_of
from airflow_provider_mlpipex.domain.release.training import Task
from airflow_provider_mlpipex.domain.rollout.events import RolloutOpened
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.training.evaluation import evaluate

if TYPE_CHECKING:
    import numpy as np

#: Distinct labels that are looked at; a classification of more classes is beyond what its metrics say.
MAX_CLASSES = 1000


class Performance(Value):
    """How good a release was on what it served in one period (both ends UTC, the last one exclusive).

    :param samples: labelled rows behind ``metrics``; ``unscored`` more had an answer that no metric can be made of.
    :param why: why there are no metrics.
    :param waiting: whether more labels may bring them.
    """

    release: str
    since: datetime
    until: datetime
    samples: int
    unscored: int = 0
    metrics: dict[str, float] = {}
    why: str = ""
    waiting: bool = False


def measure(
    task: Task,
    outcomes: Sequence[LabelledPrediction],
    labels: Sequence[Label],
    *,
    release: str,
    since: datetime,
    until: datetime,
) -> Performance:
    """Metrics of ``outcomes``, all of one release.

    :param labels: every label that the endpoint has ever had, which says what classes there are.
    """
    outcomes, labels = _in_one_language(outcomes, labels)
    scored = [outcome for outcome in outcomes if outcome.score is not None or outcome.kind == "text"]
    kinds = sorted({outcome.kind for outcome in scored})
    metrics: dict[str, float] = {}
    why, waiting = "", False
    if not scored:
        why, waiting = "no answer with a finite number", True
    elif len(kinds) > 1:
        why = f"answers of several kinds: {', '.join(kinds)}"
    elif unseen := _unseen_classes(task, kinds[0], scored, labels):
        why, waiting = unseen, True
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
        waiting=waiting,
    )


def _in_one_language(
    outcomes: Sequence[LabelledPrediction], labels: Sequence[Label]
) -> tuple[Sequence[LabelledPrediction], Sequence[Label]]:
    """Answers and labels that say the same as numbers, where one side says it in words: ``true`` is 1, ``"2"`` is 2.

    Which words are numbers depends on who wrote the table and in which format, and the model knows nothing of that.
    """
    if all(isinstance(label, str) and label.lower() in _FLAGS for label in labels):
        if not all(outcome.kind == "number" or _is_flag(outcome) for outcome in outcomes):
            return outcomes, labels
        outcomes = [replace(outcome, label=_number(str(outcome.label))) for outcome in outcomes]
        labels = sorted({_number(str(label)) for label in labels})
    if any(isinstance(label, str) for label in labels):
        return outcomes, labels
    numbers = {
        outcome.predicted: _number(outcome.predicted)
        for outcome in outcomes
        if outcome.kind == "text" and outcome.score is None
    }
    if not all(map(math.isfinite, numbers.values())):
        return outcomes, labels
    return [
        replace(outcome, kind="number", score=numbers[outcome.predicted])
        if outcome.kind == "text" and outcome.score is None
        else outcome
        for outcome in outcomes
    ], labels


_FLAGS = {"true": 1.0, "false": 0.0}


def _is_flag(outcome: LabelledPrediction) -> bool:
    return outcome.kind == "text" and outcome.predicted.lower() in _FLAGS


def _number(text: str) -> float:
    """NaN where it is none."""
    try:
        return _FLAGS[text.lower()] if text.lower() in _FLAGS else float(text)
    except ValueError:
        return math.nan


def _unseen_classes(task: Task, kind: str, outcomes: Sequence[LabelledPrediction], labels: Sequence[Label]) -> str:
    """Why it is not known yet which class is which; empty where it is, or where that does not matter."""
    if task == "regression" or kind not in ("probability", "number", "text"):
        return ""
    columns = len(outcomes[0].probabilities or (0, 0)) if kind == "probability" else None
    return classes_of(task, labels, columns=columns)[1]


def _metrics(
    task: Task, kind: str, outcomes: Sequence[LabelledPrediction], labels: Sequence[Label]
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
    classes, _ = classes_of(task, labels)
    truth = np.array([outcome.label for outcome in outcomes], dtype=object if text else float)
    answers, why = _answers(task, kind, outcomes, classes)
    return ({}, why) if why else (evaluate(task, truth, answers, classes=classes), "")


def _answers(
    task: Task, kind: str, outcomes: Sequence[LabelledPrediction], classes: Sequence[Label]
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


def _task_of(manifest: Mapping[str, Any]) -> Task | None:
    """What the model of a stored manifest predicts, whether it was trained or adopted under it."""
    blocks = (manifest.get(name) or {} for name in ("training", "evaluation"))
    return next((block["task"] for block in blocks if block.get("task")), None)


class Tasks:
    """What the releases of an endpoint predict, from the manifests that they were rolled out under.

    :raises ConfigurationInvalid: none of these says it.
    """

    def __init__(self, platform: Platform, endpoint: EndpointRef) -> None:
        self._of: dict[str, Task] = {}
        self.newest: Task
        for entry in journal.walk(platform, endpoint, types=("rollout-opened",)):
            if isinstance(entry.event, RolloutOpened) and (task := _task_of(entry.event.manifest)):
                self._of[entry.event.release.id] = self.newest = task
        if not self._of:
            raise ConfigurationInvalid(
                f"outcomes of {endpoint}",
                value="no manifest that says its task",
                limit="training.task or evaluation.task, which says what a label is compared with",
                remedy="check the endpoint's name, or add the task to its manifest and roll it out",
            )

    def of(self, release: str) -> Task:
        return self._of.get(release, self.newest)
