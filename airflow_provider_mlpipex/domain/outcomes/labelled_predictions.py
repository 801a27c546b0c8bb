"""Outcomes: what became true of a prediction, weeks after it was served, beside what was said to the client."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from airflow_provider_mlpipex.domain.release.training import Task
from airflow_provider_mlpipex.domain.values import Value

#: A label as it is kept: a finite number (``True`` is 1), or text.
Label = float | str
Period = Literal["day", "week"]
#: Longer ids name nothing that this provider or a gateway has made up.
MAX_ID_LENGTH = 200
MAX_LABEL_LENGTH = 200


class ServedAnswer(Value):
    """What the client of one row got. Answers to mirrored copies are none of these.

    :param request_id: as in the prediction log; further rows of one request are ``id#1``, ``id#2`` …
    :param kind: of the answer, as the log says: ``probability``, ``number``, ``text`` …
    :param score: the number, or the probability of the last class; ``None`` for what is no finite number.
    :param predicted: the label as text: thresholded at one half, arg max, or the value itself.
    :param probabilities: of the classes, where there are more than two.
    """

    request_id: str
    release: str
    at: datetime
    kind: str
    score: float | None = None
    predicted: str = ""
    probabilities: tuple[float, ...] | None = None


class ServedAnswers(Value):
    """:param ambiguous: ids that clients have used for several requests with different answers.
    :param log_since: release -> its oldest record that is still kept; what was served before that cannot be found.
    """

    rows: tuple[ServedAnswer, ...] = ()
    ambiguous: tuple[str, ...] = ()
    log_since: dict[str, datetime] = {}

    def with_more(self, other: ServedAnswers) -> ServedAnswers:
        """Both together; they were asked for different ids."""
        return ServedAnswers(
            rows=(*self.rows, *other.rows),
            ambiguous=(*self.ambiguous, *other.ambiguous),
            log_since={**self.log_since, **other.log_since},
        )


@dataclass(frozen=True, slots=True)
class LabelledPrediction:
    """One labelled row: everything that its metrics are computed from. Fields are those of :class:`ServedAnswer`.

    :param observed_at: when the label was known, where the source of the labels says so.
    """

    request_id: str
    release: str
    served_at: datetime
    kind: str
    score: float | None
    predicted: str
    probabilities: tuple[float, ...] | None
    label: Label
    observed_at: datetime | None = None


class Added(Value):
    """What adding outcomes has changed: new rows, rows that were known just so, and labels that were replaced."""

    added: int = Field(default=0, ge=0)
    unchanged: int = Field(default=0, ge=0)
    corrected: int = Field(default=0, ge=0)


class LabelConflict(Value):
    """A label that is to be another one than the label that is kept."""

    request_id: str
    kept: Label
    given: Label


class LabelledSpan(Value):
    """Of one release: how many labelled rows, and when the first and the last of them were served."""

    rows: int
    first: datetime
    last: datetime


def unfit_labels(task: Task, given: Collection[Label], known: Collection[Label] = ()) -> str | None:
    """Why distinct labels cannot be truths of ``task``, beside those that are known; ``None`` if they can."""
    kinds = {type(label) for label in (*given, *known)}
    if task == "regression":
        text = sorted(label for label in given if isinstance(label, str))
        return f"text ({', '.join(map(repr, text[:3]))}) where the model predicts numbers" if text else None
    if len(kinds) > 1:
        shown = [
            repr(min((label for label in (*given, *known) if type(label) is kind), key=str)) for kind in (float, str)
        ]
        return f"numbers and text together ({' and '.join(shown)})"
    classes = sorted({*given, *known}, key=str)
    if task == "binary" and len(classes) > 2:
        return f"{len(classes)} classes of a binary task: {', '.join(map(repr, classes[:5]))}"
    return None


def classes_of(task: Task, known: Collection[Label], *, columns: int | None = None) -> tuple[list[Label], str]:
    """The classes of a task in the order of a model's outputs, or none and why they cannot be known yet.

    scikit-learn sorts its classes, so sorted they are here; 0 and 1 are known before both were seen.

    :param columns: probabilities that the model gives, one a class.
    """
    classes: list[Label] = sorted(known, key=lambda label: (isinstance(label, str), label))
    if task == "binary" and set(classes) <= {0.0, 1.0}:
        classes = [0.0, 1.0]
    wanted = 2 if task == "binary" else columns
    if wanted is not None and len(classes) != wanted:
        return [], f"labels of {len(classes)} classes so far, and the model knows {wanted}"
    return classes, ""


def period_of(moment: datetime, by: Period) -> tuple[datetime, datetime]:
    """The UTC day, or the week from Monday, that ``moment`` (UTC) lies in: its start and its end."""
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if by == "day":
        return start, start + timedelta(days=1)
    start -= timedelta(days=start.weekday())
    return start, start + timedelta(days=7)


def grouped(
    outcomes: Iterable[LabelledPrediction], by: Period
) -> dict[tuple[datetime, datetime], Sequence[LabelledPrediction]]:
    """Outcomes by the period that they were served in, in order of time."""
    groups: dict[tuple[datetime, datetime], list[LabelledPrediction]] = {}
    for outcome in sorted(outcomes, key=lambda prediction: prediction.served_at):
        groups.setdefault(period_of(outcome.served_at, by), []).append(outcome)
    return dict(groups)
