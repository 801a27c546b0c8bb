"""Whole rollouts, and watched promotions, on the platform in memory, looked at by the product's own ``look``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import numpy as np

from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.planning.live_gates import LiveGate, live_gates
from airflow_provider_mlpipex.domain.planning.sampling import look_every
from airflow_provider_mlpipex.domain.planning.synthetic_evidence import allowed_share
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, ModelVersion, Release, RuntimeEnvironment
from airflow_provider_mlpipex.domain.rollout.events import RolloutOpened, RolloutPolicy
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TOTAL_WEIGHT, TrafficPlan
from airflow_provider_mlpipex.domain.statistics.confidence import log_evidence_against
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.rollout import promote, trial, watch
from airflow_provider_mlpipex.services.rollout.opening import policy_of
from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform

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
    manifest, control = _manifest(spec, rate=rate), spec.rollback.control if spec.rollback else None
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


class Bad(NamedTuple):
    """Chance, in each half minute of a stage, that a request fails or is slow: of the candidate, of the current one."""

    errors: tuple[np.ndarray, np.ndarray]
    slow: tuple[np.ndarray, np.ndarray]


#: (generator, stage, half minutes) -> the chances in each of them; the first :data:`BEFORE` lie before the stage.
World = Callable[[np.random.Generator, str, int], Bad]
Ended = Literal["back", "waits", "promoted"]
#: Seconds for which a chance holds, how many such blocks lie before a shadow, and times the length of a stage that
#: chances are drawn for.
BLOCK_S, BEFORE, _ROOM = 30, 60, 7
_FAST_MS, _SLOW_MS = 60.0, 480.0


class PlayedRollout:
    """One rollout of a candidate, from the shadow to the end of its watch.

    A look that can neither end a stage nor let it pass is left out: before a stage is due only a limit that the
    candidate has broken by itself can end it, and the martingale of that is asked here.
    """

    #: Where it is, or has ended.
    stage: watch.WatchedStage = "shadow"

    def __init__(self, spec: EnvironmentSpec, world: World, generator: np.random.Generator, *, rate: float) -> None:
        self.platform: MemoryPlatform = memory_platform()
        self._spec, self._world, self._generator, self._rate = spec, world, generator, rate
        manifest = _manifest(spec, rate=rate)
        self._releases = _release("1.0.0", manifest), _release("1.1.0", manifest)
        for number, release in enumerate(self._releases, start=1):
            state = journal.load(self.platform, ENDPOINT)
            policy = policy_of(state, manifest, release.model).model_copy(update={"lease_s": 1e6, "review": False})
            opened = RolloutOpened(
                rollout_id=f"run-{number}", release=release, policy=policy, manifest=manifest.to_json()
            )
            journal.note(self.platform, ENDPOINT, opened)
            if number == 1:
                promote.promote(self.platform, endpoint=ENDPOINT, rollout_id="run-1", timeout_s=1.0)
        #: Requests of the candidate since its stage began, failed and slow ones.
        self._since = [0, 0, 0]
        self._live: dict[tuple[str, int | None], list[LiveGate]] = {}
        for live in live_gates(spec, rate):
            self._live.setdefault((live.stage, live.step), []).append(live)

    def play(self) -> Ended:
        before = self._world(self._generator, "before", BEFORE)
        for block in range(BEFORE):
            self._pass_time(before, block, float(BLOCK_S))
        if self._spec.shadow:
            trial.start_shadow(self.platform, endpoint=ENDPOINT, rollout_id="run-2", timeout_s=1.0)
            ended = self._stage("shadow", None, self._spec.shadow.duration)
            if ended != "promoted":
                return ended
        canary = self._spec.canary
        for step in range(len(canary.steps) if canary else 0):
            assert canary is not None and canary.step_duration is not None
            trial.step_canary(self.platform, endpoint=ENDPOINT, rollout_id="run-2", step=step, timeout_s=1.0)
            ended = self._stage("canary", step, canary.step_duration)
            if ended != "promoted":
                return ended
        promote.promote(self.platform, endpoint=ENDPOINT, rollout_id="run-2", timeout_s=1.0)
        rollback = self._spec.rollback
        return self._stage("watch", None, rollback.window) if rollback else "promoted"

    def _stage(self, stage: watch.WatchedStage, step: int | None, duration: timedelta) -> Ended:
        self.stage, self._since = stage, [0, 0, 0]
        due, every = duration.total_seconds(), look_every(duration).total_seconds()
        bad, broken = self._world(self._generator, stage, BEFORE + _ROOM * int(due) // BLOCK_S), False
        passed, pause = 0.0, every
        while passed < _ROOM * due:
            plan = self._plan()
            self._pass_time(bad, BEFORE + int(passed) // BLOCK_S, pause)
            passed, pause = passed + pause, every
            broken = broken or self._may_fail(stage, step)
            if passed < due and not broken:
                continue
            seen = watch.look(
                self.platform, endpoint=ENDPOINT, rollout_id="run-2", stage=stage, step=-1 if step is None else step
            )
            if seen.status == "ended":
                return "back"
            if seen.status == "passed":
                return "promoted"
            if seen.cause.startswith("on hold"):
                return "waits"
            pause = min(every, seen.look_again_s or every)
            if self._plan() != plan and stage != "watch":
                self._since = [0, 0, 0]
        return "waits"

    def _plan(self) -> TrafficPlan:
        plan = self.platform.plane.plan_in_force(ENDPOINT)
        assert plan is not None
        return plan

    def _may_fail(self, stage: str, step: int | None) -> bool:
        requests, errors, slow = self._since
        return any(
            log_evidence_against(allowed_share(live.gate), slow if live.gate.quantile else errors, requests)
            > 0.99 * -np.log(live.alpha)
            for live in self._live[stage, step]
        )

    def _pass_time(self, bad: Bad, block: int, seconds: float) -> None:
        """Requests of so many seconds, as the plan in force spreads and mirrors them."""
        plan, plane, chance = self._plan(), self.platform.plane, self._generator
        shares = {release: weight / TOTAL_WEIGHT for release, weight in plan.weights.items()}
        if plan.mirror is not None:
            shares[plan.mirror.release] = plan.mirror.fraction
            plane.answer_pairs(ENDPOINT, primary=plan.current, shadow=plan.mirror.release, pairs=1)
        for release, share in shares.items():
            is_old = release == self._releases[0].id
            requests = int(chance.poisson(self._rate * share * seconds))
            slow = int(chance.binomial(requests, bad.slow[is_old][block]))
            failed = [int(chance.binomial(part, bad.errors[is_old][block])) for part in (requests - slow, slow)]
            plane.serve(ENDPOINT, release, requests=requests - slow, errors=failed[0], latency_ms=_FAST_MS)
            plane.serve(ENDPOINT, release, requests=slow, errors=failed[1], latency_ms=_SLOW_MS)
            if not is_old:
                self._since = [a + b for a, b in zip(self._since, (requests, sum(failed), slow), strict=True)]
        self.platform.clock.advance(seconds)


def _manifest(environment: EnvironmentSpec, *, rate: float) -> Manifest:
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
            "traffic": {"expected_rate": f"{rate:g}/s"},
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
