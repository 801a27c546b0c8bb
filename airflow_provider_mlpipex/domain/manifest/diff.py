"""Typed differences between manifests and between releases, and the review that they open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from airflow_provider_mlpipex.domain.changes import CHANGE_ORDER, Change, ChangeKind
from airflow_provider_mlpipex.domain.fields.quantities import format_ratio
from airflow_provider_mlpipex.domain.manifest.drift_block import diff_drift
from airflow_provider_mlpipex.domain.manifest.drills_block import diff_drills
from airflow_provider_mlpipex.domain.manifest.features_block import DEMANDS as FEATURE_DEMANDS
from airflow_provider_mlpipex.domain.manifest.features_block import diff_demands
from airflow_provider_mlpipex.domain.manifest.gates_diff import (
    NONE,
    Strictness,
    compare,
    diff_expectations,
    diff_gates,
)
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.manifest.outcomes_block import diff_outcomes
from airflow_provider_mlpipex.domain.manifest.review_block import diff_review
from airflow_provider_mlpipex.domain.manifest.stage_blocks import diff_stage
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


def diff(before: Manifest, after: Manifest) -> tuple[Change, ...]:
    """Every difference in meaning, models first and policy last; empty for manifests of the same digest."""
    changes = [*_sections(before, after), *diff_demands(before.features, after.features)]
    for judged in get_args(TableKind):
        changes += diff_expectations(f"quality.{judged}", before.quality.of(judged), after.quality.of(judged))
    for name in dict.fromkeys([*before.environments, *after.environments]):
        changes += _environment(f"environments.{name}", before.environments.get(name), after.environments.get(name))
    return tuple(sorted(changes, key=lambda change: CHANGE_ORDER.index(change.kind)))


def release_changes(current: Release | None, candidate: Release) -> tuple[Change, ...]:
    """What would be served otherwise, if ``candidate`` replaced ``current``."""
    before, after = _served(current) if current else {}, _served(candidate)
    return tuple(
        Change(kind=kind, what=what, before=before.get((kind, what), NONE), after=value)
        for (kind, what), value in after.items()
        if before.get((kind, what), NONE) != value
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
    yield from diff_review(f"{path}.review", before.review, after.review)
    for stage in ("shadow", "canary", "rollback"):
        yield from diff_stage(f"{path}.{stage}", getattr(before, stage), getattr(after, stage))
    yield from diff_drift(f"{path}.drift", before.drift, after.drift)
    yield from compare(f"{path}.provenance", [_provenance(before)], [_provenance(after)])
    yield from diff_outcomes(f"{path}.outcomes", before.outcomes, after.outcomes)
    yield from diff_drills(f"{path}.drills", before.drills, after.drills)
    old, new = (_leaves(env.alerts.to_json(), f"{path}.alerts") if env.alerts else {} for env in (before, after))
    for field in dict.fromkeys([*old, *new]):
        if old.get(field, NONE) != new.get(field, NONE):
            yield Change(kind="policy", what=field, before=old.get(field, NONE), after=new.get(field, NONE))


def _alarms(environment: EnvironmentSpec) -> Strictness:
    return Strictness("false_alarms", environment.false_alarms, format_ratio(environment.false_alarms))


def _provenance(environment: EnvironmentSpec) -> Strictness:
    asked = environment.provenance or "required"
    return Strictness("", 1 if asked == "required" else 0, asked)
