"""The ``shadow``, ``canary`` and ``rollback`` blocks of an environment: live stages, their pace and their gates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    model_validator,
)

from airflow_provider_mlpipex.domain.changes import Change
from airflow_provider_mlpipex.domain.fields.quantities import (
    Duration,
    Ratio,
    format_duration,
    format_ratio,
)
from airflow_provider_mlpipex.domain.fields.refusal import Refusal
from airflow_provider_mlpipex.domain.fields.types import (
    Column,
)
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.manifest.gate_lists import gate_of
from airflow_provider_mlpipex.domain.manifest.gates_diff import (
    NONE,
    Strictness,
    compare,
    diff_gates,
    loosened,
    tightened,
)
from airflow_provider_mlpipex.domain.rollout.traffic_plan import KEPT_ON_CURRENT, TOTAL_WEIGHT
from airflow_provider_mlpipex.domain.values import Recorded, Value

ShadowGates = tuple[Annotated[Gate, gate_of("shadow")], ...]
CanaryGates = tuple[Annotated[Gate, gate_of("canary")], ...]
ServingGates = tuple[Annotated[Gate, gate_of("serving")], ...]


#: What becomes of a trial that has had its time and is still undecided: a person is asked, or it is taken back.
WhenUndecided = Literal["hold", "roll-back"]


class ShadowSpec(Recorded):
    """A copy of live requests goes to the candidate; its answers never reach a client.

    :param undecided: when its time is over (``honest_release.patience_at``); ``hold`` where nothing is written.
    :param ignore_first: of a candidate that has just begun to answer, gates on a latency look away for so long.
    :param slices: model inputs by whose values the pairs are compared as well: the worst slices are named, and
        ``shadow.worst_slice_flip_rate`` is measured over them.
    """

    added_later = frozenset({"undecided", "ignore_first"})

    fraction: Ratio
    duration: Duration
    undecided: WhenUndecided | None = None
    ignore_first: Duration | None = None
    min_pairs: int = Field(default=1, ge=1, description="requests answered by both releases, at least")
    slices: tuple[Column, ...] = ()
    gates: ShadowGates = ()

    @property
    def judged_gates(self) -> tuple[Gate, ...]:
        """:attr:`gates`, and the one that ``min_pairs`` stands for."""
        return (*self.gates, Gate(name="min-pairs", metric="shadow.pairs", min=self.min_pairs))


class ExposureSpec(Value):
    """How many bad predictions users may get before a bad candidate is found.

    :param max_bad: of them at most, as expected.
    :param effect: the smallest excess that matters: so much larger than a gate allows is the share of bad ones.
    """

    max_bad: int = Field(ge=1)
    effect: Ratio = Field(gt=0, lt=1)


class CanarySpec(Recorded):
    """Rising shares of live requests, each judged before the next.

    :param step_duration: how long each is kept.
    :param exposure: instead, what it may cost to find a bad candidate; lengths follow from it (``canary_schedule``). A
        gate with a window spans all steps then.
    :param undecided: what becomes of a step when its time is over (``honest_release.patience_at``); ``hold`` where
        nothing is written.
    :param ignore_first: of each step, gates on a latency look away for so long.
    """

    added_later = frozenset({"undecided", "ignore_first"})

    steps: tuple[Ratio, ...] = Field(min_length=1)
    step_duration: Duration | None = None
    exposure: ExposureSpec | None = None
    undecided: WhenUndecided | None = None
    ignore_first: Duration | None = None
    gates: CanaryGates = ()

    @property
    def judged_steps(self) -> tuple[float, ...]:
        """Share of the requests that the candidate has in each step: the current release always keeps a little."""
        return tuple(min(step, 1.0 - KEPT_ON_CURRENT / TOTAL_WEIGHT) for step in self.steps)

    @model_validator(mode="after")
    def _one_pace(self) -> CanarySpec:
        if (self.step_duration is None) == (self.exposure is None):
            raise Refusal(
                "exactly one of step_duration, exposure",
                value="neither" if self.exposure is None else "both",
                remedy="write step_duration: 10m, or exposure: {max_bad: 200, effect: 5%}",
            )
        return self


class RollbackSpec(Value):
    """For ``window`` after promotion, a failed gate returns traffic to the previous release by itself.

    :param control: share of the requests that the previous release keeps in that time. Then gates may be relative to
        it, and a limit that it breaks as well is no reason to return to it (``concurrent_baseline``).
    """

    window: Duration
    control: Ratio | None = None
    gates: ServingGates = ()


def diff_stage(path: str, before: Any, after: Any) -> Iterator[Change]:
    """Shadow, canary or rollback: its presence, its numbers, its gates."""
    if before is None or after is None:
        if before is not after:
            change = tightened if before is None else loosened
            yield change(path, NONE if before is None else "declared", NONE if after is None else "declared")
        return
    if (old_pace := _pace(before)) != (new_pace := _pace(after)):
        # Whether a clock or a budget asks for more depends on the traffic.
        yield loosened(f"{path} pace", old_pace, new_pace)
    else:
        yield from compare(path, _numbers(before), _numbers(after))
    if (old := getattr(before, "steps", ())) != (new := getattr(after, "steps", ())):
        change = tightened if _more_careful(old, new) else loosened
        yield change(f"{path} steps", _shares(old), _shares(new))
    yield from _slices(path, getattr(before, "slices", ()), getattr(after, "slices", ()))
    yield from diff_gates(f"{path}.gates", before.gates, after.gates)


def _slices(path: str, before: tuple[str, ...], after: tuple[str, ...]) -> Iterator[Change]:
    """What is looked at slice by slice: more columns are stricter, others may no longer show what these did."""
    old, new = set(before), set(after)
    if old != new:
        change = tightened if old < new else loosened
        yield change(f"{path} slices", ", ".join(sorted(old)) or NONE, ", ".join(sorted(new)) or NONE)


def _pace(stage: Any) -> str:
    """What the length of a stage is stated by."""
    return "exposure" if getattr(stage, "exposure", None) else "duration"


def _numbers(stage: Any) -> list[Strictness]:
    """The numbers of a stage that make it more demanding as they grow."""
    numbers = []
    for name in ("duration", "step_duration", "window"):
        if duration := getattr(stage, name, None):
            numbers.append(Strictness(name, duration.total_seconds(), format_duration(duration)))
    if budget := getattr(stage, "exposure", None):
        numbers.append(Strictness("exposure max_bad", -budget.max_bad, str(budget.max_bad)))
        numbers.append(Strictness("exposure effect", -budget.effect, format_ratio(budget.effect)))
    if (fraction := getattr(stage, "fraction", None)) is not None:
        numbers.append(Strictness("fraction", fraction, format_ratio(fraction)))
    if hasattr(stage, "control"):
        control = stage.control
        numbers.append(Strictness("control", control or 0.0, NONE if control is None else format_ratio(control)))
    if hasattr(stage, "ignore_first"):
        ignored = stage.ignore_first
        seconds = ignored.total_seconds() if ignored else 0.0
        numbers.append(Strictness("ignore_first", -seconds, format_duration(ignored) if ignored else NONE))
    if hasattr(stage, "undecided"):
        # Taken back is less than kept until somebody has looked: asking a person is the looser of the two.
        shown = stage.undecided or "hold"
        numbers.append(Strictness("undecided", float(shown == "roll-back"), shown))
    if (pairs := getattr(stage, "min_pairs", None)) is not None:
        numbers.append(Strictness("min_pairs", pairs, str(pairs)))
    return numbers


def _more_careful(before: tuple[float, ...], after: tuple[float, ...]) -> bool:
    """At no step more users on the candidate than before, in at least as many steps."""
    return len(after) >= len(before) and all(new <= old for old, new in zip(before, after, strict=False))


def _shares(steps: tuple[float, ...]) -> str:
    return ", ".join(map(format_ratio, steps))
