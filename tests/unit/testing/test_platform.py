"""The platform that teams test their own Dags on: what its documentation shows, and what each fake refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.adapters.embedded.runtimes import LockedRuntimes
from airflow_provider_mlpipex.domain.errors import RuntimeMismatch
from airflow_provider_mlpipex.domain.manifest.runtime_block import RuntimeSpec
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised, Origin
from airflow_provider_mlpipex.ports import Alerter, Clock, RuntimeResolver
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.rollout import opening, promote, review, trial, watch
from airflow_provider_mlpipex.testing.alerts import SentAlert
from airflow_provider_mlpipex.testing.clock import ManualClock
from airflow_provider_mlpipex.testing.ledger import MemoryLedger
from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform
from tests.support.factories import NOON
from tests.support.manifests import make_manifest
from tests.support.rollouts import ENDPOINT, keep_rows, make_candidate, right_on

LOCK = "requirements.lock"
DIGEST = "ab" * 32


def test_the_documented_example_plays() -> None:
    platform = memory_platform()
    keep_rows(platform.snapshots)
    platform.registry.answers.update({"1.0.0": right_on(0.8), "1.1.0": right_on(0.8)})
    manifest = make_manifest(("p95 latency under 120 ms", "error rate at most 1%"))

    def release_of(version: str) -> Any:
        return opening.make_release(platform, manifest, make_candidate(version), manifest_dir=Path())

    for run, version in (("run-1", "1.0.0"), ("run-2", "1.1.0")):
        check = opening.check_offline_gates(
            platform, endpoint=ENDPOINT, rollout_id=run, release=release_of(version), manifest=manifest
        )
        assert check.verdict == "pass"
        review.open_review(platform, endpoint=ENDPOINT, rollout_id=run)
        review.decide_review(platform, endpoint=ENDPOINT, rollout_id=run, approved=True, reviewer="ada")
        if run == "run-1":
            promote.promote(platform, endpoint=ENDPOINT, rollout_id=run, timeout_s=1)
    release = release_of("1.1.0")
    trial.start_shadow(platform, endpoint=ENDPOINT, rollout_id="run-2", timeout_s=1)
    platform.plane.serve(ENDPOINT, release.id, requests=500, errors=100)
    platform.clock.advance(30)
    seen = watch.look(platform, endpoint=ENDPOINT, rollout_id="run-2", stage="shadow")
    assert seen.status == "ended"
    assert platform.alerter.sent[-1].title.endswith("rolled back")


def test_another_origin_signs_and_the_fakes_stay() -> None:
    platform = memory_platform()
    acting = platform.acting_as(Origin(kind="cli", user="ada"))
    assert isinstance(acting, MemoryPlatform) and acting.plane is platform.plane
    journal.note(acting, ENDPOINT, AlertRaised(title="a fact"))
    (entry,) = platform.ledger.read(ENDPOINT)
    assert (entry.origin.user, platform.origin.kind) == ("ada", "test")


def test_one_port_can_be_another() -> None:
    platform = memory_platform()
    other = MemoryLedger(platform.clock)
    journal.note(replace(platform, ledger=other), ENDPOINT, AlertRaised(title="a fact"))
    assert platform.ledger.endpoints() == [] and other.endpoints() == [ENDPOINT]


def test_two_platforms_share_nothing() -> None:
    one, other = memory_platform(), memory_platform()
    journal.note(one, ENDPOINT, AlertRaised(title="a fact"))
    one.clock.advance(60)
    assert other.ledger.endpoints() == [] and other.clock.now() < one.clock.now()


def test_ledger_and_plane_go_by_the_one_clock() -> None:
    clock = ManualClock(NOON)
    platform = memory_platform(clock=clock)
    clock.advance(90)
    journal.note(platform, ENDPOINT, AlertRaised(title="a fact"))
    assert platform.ledger.read(ENDPOINT)[0].recorded_at == NOON + timedelta(seconds=90)


# The small fakes.


def test_the_clock_stands_still_and_may_step_back() -> None:
    clock = ManualClock(NOON)
    assert isinstance(clock, Clock) and clock.now() == clock.now() == NOON
    assert clock.advance(1.5) == clock.now() == NOON + timedelta(seconds=1.5)
    assert clock.advance(-3600) == clock.now() < NOON
    assert clock.now().utcoffset() == timedelta(0)


def test_the_alerter_keeps_what_it_could_deliver() -> None:
    alerter = memory_platform().alerter
    assert isinstance(alerter, Alerter)
    facts = {"endpoint": "production/x"}
    sent: dict[str, Any] = {"channel": "c", "title": "t", "body": "b", "severity": "info", "facts": facts}
    assert alerter.alert(**sent).notified
    alerter.trouble = "not delivered"
    assert alerter.alert(**sent).failures == ("channel c: not delivered",)
    facts["endpoint"] = "changed afterwards"
    assert alerter.sent == [SentAlert("c", "t", "b", "info", {"endpoint": "production/x"})]


def in_memory(_: Path) -> RuntimeResolver:
    return memory_platform(locks={LOCK: "numpy==2.1.0\n"}).runtimes


def on_disk(folder: Path) -> RuntimeResolver:
    (folder / LOCK).write_text("numpy==2.1.0\n", encoding="utf-8")
    return LockedRuntimes(folder / "runtimes", tracking_uri="")


@pytest.fixture(params=[in_memory, on_disk], ids=["memory", "this machine"])
def runtimes(request: pytest.FixtureRequest, tmp_path: Path) -> RuntimeResolver:
    """The fake beside what it stands for."""
    make: Callable[[Path], RuntimeResolver] = request.param
    return make(tmp_path)


@pytest.mark.parametrize(
    "block",
    [
        {"environment": "provider"},
        {"lock": LOCK},
        {"image": f"registry.local/serving@sha256:{DIGEST}", "digest": DIGEST},
    ],
    ids=["provider", "lock", "image"],
)
def test_every_kind_of_runtime_is_pinned_by_the_same_digest_twice(
    runtimes: RuntimeResolver, tmp_path: Path, block: dict[str, str]
) -> None:
    spec = RuntimeSpec.model_validate({"version": "1.0.0", **block})
    pinned = runtimes.resolve(spec, manifest_dir=tmp_path)
    assert pinned == runtimes.resolve(spec, manifest_dir=tmp_path)
    assert (pinned.kind, pinned.version) == (spec.kind, "1.0.0")
    assert pinned.image == spec.image and bool(pinned.lock_uri) == bool(spec.lock)
    stated = RuntimeSpec.model_validate({"version": "1.0.0", **block, "digest": pinned.digest})
    assert runtimes.resolve(stated, manifest_dir=tmp_path) == pinned


@pytest.mark.parametrize("block", [{"environment": "provider"}, {"lock": LOCK}], ids=["provider", "lock"])
def test_another_digest_than_the_stated_one_is_refused(
    runtimes: RuntimeResolver, tmp_path: Path, block: dict[str, str]
) -> None:
    spec = RuntimeSpec.model_validate({"version": "1.0.0", **block, "digest": DIGEST})
    with pytest.raises(RuntimeMismatch, match=f"pins {DIGEST}"):
        runtimes.resolve(spec, manifest_dir=tmp_path)


def test_a_lock_that_is_missing_is_refused(runtimes: RuntimeResolver, tmp_path: Path) -> None:
    spec = RuntimeSpec.model_validate({"version": "1.0.0", "lock": "missing.lock"})
    with pytest.raises(RuntimeMismatch, match=r"missing\.lock.*No such file"):
        runtimes.resolve(spec, manifest_dir=tmp_path)
