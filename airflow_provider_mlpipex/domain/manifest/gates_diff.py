"""Whether a gate, or a demand like one, was tightened or loosened: decided by its numbers, never by its wording.

What cannot be decided counts as loosened, because a loosening must never pass as anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from airflow_provider_mlpipex.domain.changes import Change, ChangeKind
from airflow_provider_mlpipex.domain.fields.quantities import format_duration
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.quality.expectations import SEVERITIES, Expectation
from airflow_provider_mlpipex.domain.values import canonical_json

NONE = "none"


class Strictness(NamedTuple):
    """One number of a demand. ``demand`` grows as it gets stricter; ``shown`` is what people wrote."""

    aspect: str
    demand: float
    shown: str


def tightened(what: str, before: str, after: str) -> Change:
    return Change(kind="gate-tightened", what=what, before=before, after=after)


def loosened(what: str, before: str, after: str) -> Change:
    return Change(kind="gate-loosened", what=what, before=before, after=after)


def compare(what: str, before: Sequence[Strictness], after: Sequence[Strictness]) -> Iterator[Change]:
    """Changes between two readings of the same demand, aspect by aspect."""
    for old, new in zip(before, after, strict=True):
        if old.demand != new.demand:
            change = tightened if new.demand > old.demand else loosened
            yield change(f"{what} {old.aspect}".rstrip(), old.shown, new.shown)


def diff_gates(what: str, before: Sequence[Gate], after: Sequence[Gate]) -> Iterator[Change]:
    """Changes between two lists of gates of one block; a gate is known by its name."""
    old, new = {gate.name: gate for gate in before}, {gate.name: gate for gate in after}
    for name in dict.fromkeys([*old, *new]):
        where = f"{what} {name}"
        a, b = old.get(name), new.get(name)
        if a is not None and b is not None and _same_question(a, b):
            yield from compare(where, _strictness(a), _strictness(b))
            continue
        if a is not None:
            yield loosened(where, a.rule, NONE)
        if b is not None:
            yield tightened(where, NONE, b.rule)


def _same_question(a: Gate, b: Gate) -> bool:
    # A number of points and a part of the baseline cannot be compared before the baseline is known.
    return (a.metric, a.criterion, a.better, a.in_points) == (b.metric, b.criterion, b.better, b.in_points)


def _strictness(gate: Gate) -> tuple[Strictness, ...]:
    """A gate's numbers. In a trial more evidence is more demanding, because nothing passes without it. After promotion
    only a failure does anything: there, whatever makes the gate speak later makes it looser."""
    watching, looking_back = gate.source in ("serving", "drift"), gate.source == "outcomes"
    seconds = gate.window.total_seconds() if gate.window else float("inf") if watching else 0.0
    age = gate.max_age.total_seconds() if gate.max_age else float("inf")
    lower_is_stricter = gate.criterion in ("max", "within")
    sign = -1 if watching or looking_back else 1
    return (
        Strictness("threshold", -gate.bound if lower_is_stricter else gate.bound, gate.rule),
        Strictness("min_samples", sign * gate.min_samples, str(gate.min_samples)),
        Strictness("window", sign * seconds, _duration(gate.window)),
        Strictness("max_age", age if looking_back else -age, _duration(gate.max_age)),
        Strictness(
            "detects",
            float("-inf") if gate.detects is None else -gate.detects,
            NONE if gate.detects is None else gate.apart(gate.detects),
        ),
        Strictness("advisory", -float(gate.advisory), str(gate.advisory).lower()),
        # At once is stricter than after a closer look.
        Strictness("on_fail", float(gate.on_fail == "revert"), gate.on_fail or "grow-control"),
    )


def _duration(duration: timedelta | None) -> str:
    return NONE if duration is None else format_duration(duration)


def diff_expectations(what: str, before: Sequence[Expectation], after: Sequence[Expectation]) -> Iterator[Change]:
    """Changes of what must hold for a table. Bounds, ``mostly``, severity and sets of allowed values can be compared,
    other arguments cannot."""
    old, new = _by_subject(before), _by_subject(after)
    for subject in dict.fromkeys([*old, *new]):
        where = f"{what} {subject}"
        a, b = old.get(subject), new.get(subject)
        if a is None and b is not None:
            yield tightened(where, NONE, _shown(b))
        elif a is not None and b is None:
            yield loosened(where, _shown(a), NONE)
        elif a is not None and b is not None and a != b:
            yield Change(kind=_kind(a, b), what=where, before=_shown(a), after=_shown(b))


def _by_subject(expectations: Sequence[Expectation]) -> dict[str, Expectation]:
    by_subject: dict[str, Expectation] = {}
    for expectation in expectations:
        subject = " ".join((expectation.expect, *expectation.columns))
        # The same expectation twice on a column: the second is another demand.
        while subject in by_subject:
            subject += "'"
        by_subject[subject] = expectation
    return by_subject


def _kind(before: Expectation, after: Expectation) -> ChangeKind:
    if not _only_tightens(before, after):
        return "gate-loosened"
    # Other words for the same demand.
    return "policy" if _only_tightens(after, before) else "gate-tightened"


def _only_tightens(before: Expectation, after: Expectation) -> bool:
    old, new = before.arguments, after.arguments
    compared = ("mostly", "min_value", "max_value", "severity", *_WORDS, *(("value_set",) if _allows(after) else ()))
    if any(old.get(name) != new.get(name) for name in {*old, *new} - {*compared}):
        return False
    return (
        _rises(old.get("mostly"), new.get("mostly"), absent=1.0)
        and _rises(old.get("min_value"), new.get("min_value"), absent=float("-inf"))
        and _rises(new.get("max_value"), old.get("max_value"), absent=float("inf"))
        and SEVERITIES.index(after.severity) <= SEVERITIES.index(before.severity)
        and (not _allows(after) or all(value in _set(old) for value in _set(new)))
    )


#: Arguments that are only told, and decide nothing.
_WORDS = ("notes", "description")


def _allows(expectation: Expectation) -> bool:
    """Whether its ``value_set`` names all that is allowed, so that a smaller one demands more."""
    return expectation.expect.endswith("_to_be_in_set")


def _set(arguments: dict[str, Any]) -> list[Any]:
    return list(arguments["value_set"]) if isinstance(arguments.get("value_set"), list) else []


def _rises(old: Any, new: Any, *, absent: float) -> bool:
    """Whether a bound did not fall; ``absent`` is what a missing one stands for. Texts can only stay the same."""
    old, new = (absent if bound is None else bound for bound in (old, new))
    if all(isinstance(bound, (int, float)) for bound in (old, new)):
        return bool(new >= old)
    return bool(old == new)


def _shown(expectation: Expectation) -> str:
    return canonical_json(expectation.arguments).decode() if expectation.arguments else "to hold"
