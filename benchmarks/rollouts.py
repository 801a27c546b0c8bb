"""A watched promotion, played on the platform in memory and looked at by the product's own ``look``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, ModelVersion, Release, RuntimeEnvironment
from airflow_provider_mlpipex.domain.rollout.events import RolloutOpened, RolloutPolicy
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TOTAL_WEIGHT
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.rollout import promote, watch
from airflow_provider_mlpipex.testing.platform import memory_platform

ENDPOINT = EndpointRef(environment="production", name="simulated")
_NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
#: Probability that a request fails, given who answers (``new`` or ``old``) and seconds after the promotion.
Failing = Callable[[str, float], float]


class Watched(NamedTuple):
    """:param reverted_after: seconds after the promotion; ``None`` where the release stayed.
    :param bad: failed requests that the new release answered.
    :param notified: whether on-call was told of a limit that both break.
    """

    reverted_after: float | None
    bad: int
    notified: bool


def play_watch(
    rollback: dict[str, Any],
    failing: Failing,
    seed: Sequence[int],
    *,
    rate: float,
    seconds: float,
    every: float = 5.0,
) -> Watched:
    """One promotion under ``rollback`` (the manifest's block), looked at ``every`` so many seconds, or sooner where a
    look asks for it.

    :param seed: the same requests come, and would fail, whatever share the control arm has: so plays are compared that
        differ in nothing else.
    """
    platform = memory_platform()
    spec = EnvironmentSpec.model_validate({"rollback": rollback})
    manifest, control = _manifest(spec), spec.rollback.control if spec.rollback else None
    for number, version in enumerate(("1.0.0", "1.1.0"), start=1):
        policy = RolloutPolicy(
            offline_gates=False,
            rollback_window_s=spec.rollback.window.total_seconds() if spec.rollback else 0.0,
            control_weight=round(control * TOTAL_WEIGHT) if control else None,
            lease_s=600.0,
        )
        opened = RolloutOpened(
            rollout_id=f"run-{number}",
            release=_release(version, manifest),
            policy=policy,
            manifest=manifest.to_json(),
        )
        journal.note(platform, ENDPOINT, opened)
        promote.promote(platform, endpoint=ENDPOINT, rollout_id=opened.rollout_id, timeout_s=1.0)
    new = _release("1.1.0", manifest).id
    passed, pause, bad, looks = 0.0, every, 0, 0
    while passed < seconds:
        plan = platform.plane.plan_in_force(ENDPOINT)
        assert plan is not None
        generator, looks = np.random.default_rng([*seed, looks]), looks + 1
        which, luck = generator.random((2, generator.poisson(rate * pause)))
        to_control = which < plan.control_weight / TOTAL_WEIGHT
        for release, own in ((plan.current, ~to_control), (plan.control, to_control)):
            if release is not None:
                errors = int((luck[own] < failing("new" if release == new else "old", passed)).sum())
                platform.plane.serve(ENDPOINT, release, requests=int(own.sum()), errors=errors)
                bad += errors if release == new else 0
        platform.clock.advance(pause)
        passed += pause
        seen = watch.look(platform, endpoint=ENDPOINT, rollout_id="run-2", stage="watch")
        notified = any("no better" in alert.title for alert in platform.alerter.sent)
        if seen.status != "watching":
            return Watched(passed if seen.status == "ended" else None, bad, notified)
        pause = min(every, seen.look_again_s or every)
    return Watched(None, bad, notified)


def _manifest(environment: EnvironmentSpec) -> Manifest:
    return Manifest.model_validate(
        {
            "apiVersion": "mlpipex/v1",
            "kind": "Deployment",
            "name": ENDPOINT.name,
            "owner": {"team": "benchmarks", "contact": "nobody@example.com"},
            "model": {"name": "simulated", "version": "1.0.0"},
            "runtime": {"version": "1.0.0", "environment": "provider"},
            "data": {"source": "acme:load", "time_column": "at", "window": {"train": "60d", "evaluate": "30d"}},
            "features": {"columns": ["amount"]},
            "environments": {ENDPOINT.environment: environment.to_json()},
        }
    )


def _release(version: str, manifest: Manifest) -> Release:
    dataset = DatasetSnapshot(
        name="simulated",
        digest=digest_of("rows"),
        uri="memory://rows",
        rows=100,
        columns={"amount": "float64"},
        window_start=_NOON - timedelta(days=90),
        split_at=_NOON - timedelta(days=30),
        window_end=_NOON,
        time_column="at",
    )
    model = ModelVersion(
        name="simulated",
        version=version,
        artifact_uri=f"memory://{version}",
        artifact_digest=digest_of(version),
        signature={"inputs": "[]"},
        signature_digest=digest_of("signature"),
        architecture="simulated",
        configuration_digest=digest_of("configuration"),
        dataset=dataset,
        code_version="0123abc",
        metrics={"accuracy": 0.8},
        evaluation_rows=1000,
        run_id=version,
    )
    runtime = RuntimeEnvironment(version="1.0.0", kind="provider", digest=digest_of("runtime"))
    return Release(model=model, runtime=runtime, manifest_digest=manifest.digest)
