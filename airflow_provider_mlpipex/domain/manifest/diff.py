"""Typed differences between manifests and between releases, and the review that they open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, get_args

from airflow_provider_mlpipex.domain.changes import Change, ChangeKind
from airflow_provider_mlpipex.domain.fields.quantities import format_duration, format_ratio
from airflow_provider_mlpipex.domain.manifest.drift_block import diff_drift
from airflow_provider_mlpipex.domain.manifest.features_block import DEMANDS as FEATURE_DEMANDS
from airflow_provider_mlpipex.domain.manifest.features_block import diff_demands
from airflow_provider_mlpipex.domain.manifest.gates_diff import (
    NONE,
    Strictness,
    compare,
    diff_expectations,
    diff_gates,
    loosened,
    tightened,
)
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest, ReviewSpec
from airflow_provider_mlpipex.domain.manifest.outcomes_block import diff_outcomes
from airflow_provider_mlpipex.domain.quality.expectations import TableKind
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.values import canonical_json

#: Manifest section -> the kind of change that a difference in it is.
_SECTIONS: Mapping[str, ChangeKind] = {
    "model": "model",
    "training": "model",
    "runtime": "runtime",
    "data": "data",
    "evaluation": "data",
    "features": "features",
    "apiVersion": "policy",
    "kind": "policy",
    "name": "policy",
    "owner": "policy",
    "quality": "policy",
    "traffic": "policy",
}
_ORDER: tuple[ChangeKind, ...] = get_args(ChangeKind)


class ReviewNeed(NamedTuple):
    """``auto_approved_by`` names the policy that approves; empty where a person must, or nothing changed."""

    needs_person: bool
    why: str
    auto_approved_by: str


def diff(before: Manifest, after: Manifest) -> tuple[Change, ...]:
    """Every difference in meaning, models first and policy last; empty for manifests of the same digest."""
    changes = [*_sections(before, after), *diff_demands(before.features, after.features)]
    for judged in get_args(TableKind):
        changes += diff_expectations(f"quality.{judged}", before.quality.of(judged), after.quality.of(judged))
    for name in dict.fromkeys([*before.environments, *after.environments]):
        changes += _environment(f"environments.{name}", before.environments.get(name), after.environments.get(name))
    return tuple(sorted(changes, key=lambda change: _ORDER.index(change.kind)))


def release_changes(current: Release | None, candidate: Release) -> tuple[Change, ...]:
    """What would be served otherwise, if ``candidate`` replaced ``current``."""
    before, after = _served(current) if current else {}, _served(candidate)
    return tuple(
        Change(kind=kind, what=what, before=before.get((kind, what), NONE), after=value)
        for (kind, what), value in after.items()
        if before.get((kind, what), NONE) != value
    )


def review_needed(changes: Iterable[Change], review: ReviewSpec) -> ReviewNeed:
    """Whether a person must approve ``changes`` under ``review``. A kind that it does not name needs a person."""
    kinds = sorted({change.kind for change in changes}, key=_ORDER.index)
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


def _served(release: Release) -> dict[tuple[ChangeKind, str], str]:
    model, runtime = release.model, release.runtime
    return {
        ("model", f"model {model.name}"): f"{model.version} ({model.artifact_digest[:12]})",
        ("runtime", "runtime"): f"{runtime.version} ({runtime.kind} {runtime.digest[:12]})",
        ("data", f"dataset {model.dataset.name}"): f"{model.dataset.digest[:12]}, {model.dataset.rows} rows, "
        f"split {model.dataset.split_at:%Y-%m-%d %H:%M}",
        ("features", "feature service"): _service(release),
    }


def _service(release: Release) -> str:
    if release.feature_service is None or release.feature_digest is None:
        return release.feature_service or NONE
    return f"{release.feature_service} ({release.feature_digest[:12]})"


def _sections(before: Manifest, after: Manifest) -> Iterator[Change]:
    old, new = before.to_json(), after.to_json()
    for manifest in (old, new):
        manifest["features"] = {k: v for k, v in manifest["features"].items() if k not in FEATURE_DEMANDS}
        # What must hold for tables is a demand, and compared as one.
        manifest["quality"] = {name: manifest["quality"][name] for name in ("key", "results")}
    for section, kind in _SECTIONS.items():
        # A section that was added later is not there while it says nothing.
        a, b = _leaves(old.get(section), section), _leaves(new.get(section), section)
        for field in dict.fromkeys([*a, *b]):
            if a.get(field, NONE) != b.get(field, NONE):
                yield Change(kind=kind, what=field, before=a.get(field, NONE), after=b.get(field, NONE))


def _leaves(value: Any, path: str) -> dict[str, str]:
    """Dotted path -> value as text; lists count as one value, because their order matters."""
    if value is None:
        return {}
    if isinstance(value, Mapping) and value:
        return {leaf: text for name, inner in value.items() for leaf, text in _leaves(inner, f"{path}.{name}").items()}
    return {path: value if isinstance(value, str) else canonical_json(value).decode()}


def _environment(path: str, before: EnvironmentSpec | None, after: EnvironmentSpec | None) -> Iterator[Change]:
    if before is None or after is None:
        removed = after is None
        kind: ChangeKind = "gate-loosened" if removed else "policy"
        words = ("declared", NONE) if removed else (NONE, "declared")
        yield Change(kind=kind, what=path, before=words[0], after=words[1])
        return
    if before.serve != after.serve:
        shown = [str(serve).lower() for serve in (before.serve, after.serve)]
        yield Change(kind="policy", what=f"{path}.serve", before=shown[0], after=shown[1])
    # The fewer false alarms may be, the more it takes before a gate fails.
    yield from compare(path, [_alarms(before)], [_alarms(after)])
    yield from diff_gates(f"{path}.gates", before.gates, after.gates)
    yield from _review(f"{path}.review", before.review, after.review)
    for stage in ("shadow", "canary", "rollback"):
        yield from _stage(f"{path}.{stage}", getattr(before, stage), getattr(after, stage))
    yield from diff_drift(f"{path}.drift", before.drift, after.drift)
    yield from compare(f"{path}.provenance", [_provenance(before)], [_provenance(after)])
    yield from diff_outcomes(f"{path}.outcomes", before.outcomes, after.outcomes)
    old, new = (_leaves(env.alerts.to_json(), f"{path}.alerts") if env.alerts else {} for env in (before, after))
    for field in dict.fromkeys([*old, *new]):
        if old.get(field, NONE) != new.get(field, NONE):
            yield Change(kind="policy", what=field, before=old.get(field, NONE), after=new.get(field, NONE))


def _alarms(environment: EnvironmentSpec) -> Strictness:
    return Strictness("false_alarms", environment.false_alarms, format_ratio(environment.false_alarms))


def _provenance(environment: EnvironmentSpec) -> Strictness:
    asked = environment.provenance or "required"
    return Strictness("", 1 if asked == "required" else 0, asked)


def _stage(path: str, before: Any, after: Any) -> Iterator[Change]:
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


def _review(path: str, before: ReviewSpec | None, after: ReviewSpec | None) -> Iterator[Change]:
    if before is None or after is None:
        if before is not after:
            change = tightened if before is None else loosened
            yield change(path, NONE if before is None else "declared", NONE if after is None else "declared")
        return
    for kind in _ORDER:
        # Named in required_for is strictest, named nowhere needs a person too, auto-approved is loosest.
        yield from compare(f"{path} of {kind}", [_demand(before, kind)], [_demand(after, kind)])
    if before.timeout != after.timeout:
        shown = [format_duration(review.timeout) for review in (before, after)]
        yield Change(kind="policy", what=f"{path}.timeout", before=shown[0], after=shown[1])


def _demand(review: ReviewSpec, kind: ChangeKind) -> Strictness:
    if kind in review.required_for:
        return Strictness("", 2, "required")
    return Strictness("", 0, "auto-approved") if kind in review.auto_approve else Strictness("", 1, "not named")
