"""What the prediction log says of one output beside the output itself: a number to subtract, a label to compare.

The output of a model may be a number, a class, the probabilities of classes, or several of these under names or in a
list. Two releases are compared by what is said here, so both must say it of the same output in the same way.
"""

from __future__ import annotations

import json
import math
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

#: ``number``: one number. ``probability``: one probability for each class. ``numbers``: several numbers. ``several``:
#: several of anything. ``text``: anything else, compared as text.
Kind = Literal["number", "probability", "numbers", "several", "text"]
#: Of models with more outputs (embeddings, images) the log compares a digest, and not each output by itself.
MAX_OUTPUTS = 32
#: Longer text is cut and told apart by a digest, so that a label stays a label.
MAX_LABEL_LENGTH = 200
#: Farther from 0 a number is as good as infinite: its square, which spreads are computed from, may be no number.
MAX_SCORE = 1e100
#: How far probabilities may miss 1 together: they may come from single precision.
_SUM_TOLERANCE = 1e-4


class Described(NamedTuple):
    """One output.

    :param score: the number itself, 1 or 0 of a flag; of two classes the probability of the second, of more that of the
        most probable; of several outputs the first that has one. ``None`` for text, and for what is not finite or is
        beyond :data:`MAX_SCORE`.
    :param label: the number, the class, or the text; of several outputs all of theirs, as JSON.
    :param outputs: score of each of several outputs, named ones in the order of their names.
    """

    kind: Kind
    score: float | None
    label: str
    outputs: list[float | None] | None = None


def describe_all(outputs: list[Any]) -> list[dict[str, Any]]:
    """The fields of one record for each of ``outputs``, as JSON has them. Never raises.

    A plain number is its own output and its own label: said once, for numbers, a hundred to a request, are most of what
    big requests bring, and to spell each of them three times took a tenth of a model server's time.
    """
    if {*map(type, outputs)} == {float} and sum(map(abs, outputs)) <= MAX_SCORE:
        return [{"kind": "number", "score": value} for value in outputs]
    return [_fields(output, describe(output)) for output in outputs]


def drift_answers(outputs: list[Any]) -> list[float | None] | list[str]:
    """What drift of a model's answers is counted in: their scores, or where none has one, their labels."""
    described = [describe(output) for output in outputs]
    if described and all(answer.score is None and answer.kind in ("text", "several") for answer in described):
        return [answer.label for answer in described]
    return [answer.score for answer in described]


def _fields(output: Any, described: Described) -> dict[str, Any]:
    fields = {"output": output, "kind": described.kind, "score": described.score, "label": described.label}
    return fields if described.outputs is None else {**fields, "outputs": described.outputs}


def describe(output: Any) -> Described:
    """What the log says of ``output``, as JSON has it. Never raises."""
    if isinstance(output, float):
        return Described("number", _finite(output), repr(output))
    if isinstance(output, list):
        return _listed(output)
    if isinstance(output, bool):
        return Described("number", float(output), str(output))
    if isinstance(output, int):
        return _whole(output)
    if isinstance(output, dict):
        return _named(output)
    return Described("text", None, _cut(str(output)))


def _listed(output: list[Any]) -> Described:
    if _is_distribution(output):
        if len(output) == 2:
            return Described("probability", float(output[1]), "1" if output[1] > output[0] else "0")
        best = max(range(len(output)), key=output.__getitem__)
        return Described("probability", float(output[best]), str(best))
    if len(output) == 1:
        return describe(output[0])
    return _several(output) if output else Described("text", None, "[]")


def _named(output: dict[Any, Any]) -> Described:
    if not output:
        return Described("text", None, "{}")
    if len(output) == 1:
        return describe(next(iter(output.values())))
    # In the order of their names: another release may give them in another order.
    return _several({str(name): output[name] for name in sorted(output, key=str)})


def _several(output: dict[str, Any] | list[Any]) -> Described:
    described = [describe(value) for value in (output.values() if isinstance(output, dict) else output)]
    score = next((part.score for part in described if part.kind != "text"), None)
    if len(described) > MAX_OUTPUTS:
        # Exact values, not what is said of them: of so many outputs nobody would see which one moved.
        return Described("several", score, f"{len(described)} outputs {_digest(json.dumps(output, default=str))}")
    labels = [part.label for part in described]
    label = json.dumps(dict(zip(output, labels, strict=True)) if isinstance(output, dict) else labels)
    kind: Kind = "numbers" if all(part.kind == "number" for part in described) else "several"
    return Described(kind, score, label, [part.score for part in described])


def _is_distribution(output: list[Any]) -> bool:
    """Whether these are probabilities of classes: from 0 to 1, together 1, and not the whole numbers of labels."""
    types = {*map(type, output)}
    if len(output) < 2 or float not in types or not types <= {float, int}:
        return False
    in_bounds = min(output) >= -_SUM_TOLERANCE and max(output) <= 1.0 + _SUM_TOLERANCE
    return in_bounds and abs(math.fsum(output) - 1.0) <= _SUM_TOLERANCE


def _whole(output: int) -> Described:
    try:
        number = float(output)
    except OverflowError:
        return Described("text", None, "an integer too large for a number")
    return Described("number", number, repr(number))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_LABEL_LENGTH else f"{text[:MAX_LABEL_LENGTH]}… {_digest(text)}"


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _finite(value: float) -> float | None:
    return float(value) if abs(value) <= MAX_SCORE else None
