"""The ``review`` block of an environment: which changes a person must approve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, get_args

from pydantic import (
    Field,
    field_validator,
)

from airflow_provider_mlpipex.domain.changes import CHANGE_ORDER, Change, ChangeKind
from airflow_provider_mlpipex.domain.fields.quantities import Duration, format_duration, parse_duration
from airflow_provider_mlpipex.domain.fields.yaml_text import FieldPath, Problem
from airflow_provider_mlpipex.domain.manifest.gates_diff import (
    NONE,
    Strictness,
    compare,
    loosened,
    tightened,
)
from airflow_provider_mlpipex.domain.values import Value


class ReviewSpec(Value):
    """Which changes a person must approve, and which this policy approves by itself. Others need a person too."""

    required_for: tuple[ChangeKind, ...] = ("model", "runtime", "gate-loosened")
    auto_approve: tuple[ChangeKind, ...] = ()
    timeout: Duration = Field(default=parse_duration("24h"), description="after this without an answer: rejected")

    @field_validator("required_for", "auto_approve")
    @classmethod
    def _as_a_set(cls, kinds: tuple[ChangeKind, ...]) -> tuple[ChangeKind, ...]:
        """Order and repetition mean nothing, so they must not make another manifest."""
        return tuple(kind for kind in get_args(ChangeKind) if kind in kinds)


class ReviewNeed(NamedTuple):
    """``auto_approved_by`` names the policy that approves; empty where a person must, or nothing changed."""

    needs_person: bool
    why: str
    auto_approved_by: str


def review_needed(changes: Iterable[Change], review: ReviewSpec) -> ReviewNeed:
    """Whether a person must approve ``changes`` under ``review``. A kind that it does not name needs a person."""
    kinds = sorted({change.kind for change in changes}, key=CHANGE_ORDER.index)
    if not kinds:
        return ReviewNeed(False, "nothing changed", "")
    demanded = [kind for kind in kinds if kind in review.required_for]
    if demanded:
        return ReviewNeed(True, f"required_for names {', '.join(demanded)}", "")
    unnamed = [kind for kind in kinds if kind not in review.auto_approve]
    if unnamed:
        return ReviewNeed(True, f"auto_approve does not name {', '.join(unnamed)}", "")
    return ReviewNeed(False, f"only {', '.join(kinds)} changed", f"review.auto_approve: {', '.join(kinds)}")


def stricter_review(current: ReviewSpec | None, candidate: ReviewSpec | None) -> ReviewSpec | None:
    """The review that a rollout goes through: what either manifest demands, so that none can excuse itself."""
    if current is None or candidate is None:
        return current or candidate
    required = dict.fromkeys([*current.required_for, *candidate.required_for])
    return ReviewSpec(
        required_for=tuple(required),
        auto_approve=tuple(
            kind for kind in candidate.auto_approve if kind in current.auto_approve and kind not in required
        ),
        timeout=min(current.timeout, candidate.timeout),
    )


def broken_rules(review: ReviewSpec | None, path: FieldPath) -> Iterator[Problem]:
    """What cannot be meant; ``path``: of the environment."""
    both = [kind for kind in review.auto_approve if kind in review.required_for] if review else []
    if both:
        yield Problem(
            (*path, "review", "auto_approve"),
            ", ".join(both),
            "a kind of change is approved by a person or by this policy, not by both",
            "remove it from auto_approve or from required_for",
        )


def diff_review(path: str, before: ReviewSpec | None, after: ReviewSpec | None) -> Iterator[Change]:
    """Changes of who must approve what."""
    if before is None or after is None:
        if before is not after:
            change = tightened if before is None else loosened
            yield change(path, NONE if before is None else "declared", NONE if after is None else "declared")
        return
    for kind in CHANGE_ORDER:
        # Named in required_for is strictest, named nowhere needs a person too, auto-approved is loosest.
        yield from compare(f"{path} of {kind}", [_demand(before, kind)], [_demand(after, kind)])
    if before.timeout != after.timeout:
        shown = [format_duration(review.timeout) for review in (before, after)]
        yield Change(kind="policy", what=f"{path}.timeout", before=shown[0], after=shown[1])


def _demand(review: ReviewSpec, kind: ChangeKind) -> Strictness:
    if kind in review.required_for:
        return Strictness("", 2, "required")
    return Strictness("", 0, "auto-approved") if kind in review.auto_approve else Strictness("", 1, "not named")
