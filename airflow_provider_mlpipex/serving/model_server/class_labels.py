"""Labels in the answer of a classifier, for a client that asks for them by a header."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from airflow_provider_mlpipex.serving.model_server.scoring import Scored, refused

#: ``true``: the answer names the classes in the order of the probabilities, and the likeliest one of each row.
CLASSES_HEADER = "x-mlpipex-classes"
_WISHES = {"": False, "false": False, "0": False, "true": True, "1": True}


def refusal_of(wish: str, classes: Sequence[Any] | None) -> Scored | None:
    """Why a request with this value of :data:`CLASSES_HEADER` gets no answer; ``None`` where it gets one.

    :param classes: of the model; ``None`` where it has none, does not say, or gives a row several.
    """
    asked = _WISHES.get(wish.strip().lower())
    if asked is None:
        return refused(400, "BAD_REQUEST", f"header {CLASSES_HEADER} is true or false")
    if asked and classes is None:
        why = "this release's model has no classes, or several a row; it answers values"
        return refused(400, "BAD_REQUEST", f"{CLASSES_HEADER}: {why}")
    return None


def is_asked(wish: str) -> bool:
    return _WISHES.get(wish.strip().lower(), False)


def labelled(answer: Scored, classes: Sequence[Any]) -> Scored:
    """``answer`` with ``classes``, in the order of its probabilities, and ``labels``, the likeliest one of each row.

    A model that answers labels has answered them already. Predictions stay as they are, also in the prediction log.
    """
    if answer.status != 200:
        return answer
    labels = [_label(output, classes) for output in answer.outputs]
    if None in labels:
        return refused(
            400, "BAD_REQUEST", f"{CLASSES_HEADER}: this release's answers are not one label or {len(classes)} numbers"
        )
    more = orjson.dumps({"classes": list(classes), "labels": labels}, default=str)
    answer.body = answer.body.rstrip().removesuffix(b"}") + b"," + more.removeprefix(b"{")
    return answer


def _label(output: Any, classes: Sequence[Any]) -> Any:
    """``None`` for an answer that is neither a label nor one number a class."""
    if isinstance(output, dict):
        output = [*output.values()]
    if not isinstance(output, list):
        # 1.0 is class 1, as some libraries say it.
        return next((label for label in classes if label == output), None)
    numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in output)
    if len(output) != len(classes) or not numbers:
        return None
    return classes[max(range(len(output)), key=output.__getitem__)]
