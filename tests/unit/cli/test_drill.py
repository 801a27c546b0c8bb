"""``mlpipex drill``: there and back on a real ledger, and what it says where a rollback would not work."""

from __future__ import annotations

import pytest

from airflow_provider_mlpipex.domain.errors import ReleaseNotReady
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.rollout.events import WatchPassed
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import drill
from airflow_provider_mlpipex.testing.plane import MemoryPlane
from tests.support.factories import make_release
from tests.support.manifests import make_manifest
from tests.support.terminal import ENDPOINT, answer, refusal, release, run


@pytest.fixture
def calm(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """1.1.0 has replaced 1.0.0, is not watched any more, and its manifest allows drills."""
    monkeypatch.setattr(drill, "_COUNTED_AFTER_S", 0.0)
    raw = make_manifest().to_json()
    raw["environments"]["production"]["drills"] = {"allowed": True}
    for version in ("1.0.0", "1.1.0"):
        candidate = make_release(version)
        release(platform, candidate, Manifest.model_validate(raw))
        journal.note(platform, ENDPOINT, WatchPassed(rollout_id=candidate.id, verdict="pass"))
    return platform


def test_it_says_how_long_each_way_took_and_leaves_everything_as_it_was(calm: Platform) -> None:
    before = journal.load(calm, ENDPOINT)
    ended = answer("drill", str(ENDPOINT), "--seconds", "0", "--reason", "Tuesday")
    assert (ended["ok"], ended["to_release"]) == (True, make_release("1.0.0").id)
    assert ended["back_ms"] is not None and ended["forth_ms"] is not None
    after = journal.load(calm, ENDPOINT)
    assert (after.current, after.previous, after.planned) == (before.current, before.previous, before.planned)
    said = run("drill", str(ENDPOINT), "--seconds", "0").stdout
    assert said.startswith(f"{ENDPOINT}: a rollback works: to {make_release('1.0.0').id} and back in 0 ms and 0 ms")


def test_where_a_rollback_would_not_work_it_fails_and_says_why(calm: Platform) -> None:
    assert isinstance(calm.plane, MemoryPlane)
    calm.plane.break_release(make_release("1.0.0").id, ReleaseNotReady("server", value="out of memory"))
    result = run("drill", str(ENDPOINT), "--seconds", "0")
    assert result.exit_code == 1
    assert "the drill FAILED" in result.stdout and "out of memory" in result.stderr


def test_status_says_where_there_is_no_way_back_and_why(calm: Platform) -> None:
    assert answer("status", str(ENDPOINT))[0]["readiness"]["lamp"] == "green"
    assert "NO WAY BACK" not in run("status").stdout
    assert isinstance(calm.plane, MemoryPlane)
    previous = make_release("1.0.0").id
    calm.plane.break_release(previous, ReleaseNotReady("server", value="out of memory"))
    assert answer("status", str(ENDPOINT))[0]["readiness"]["lamp"] == "red"
    assert f"NO WAY BACK NOW: {previous} is cold" in run("status").stdout


def test_the_manifests_word_is_asked_for(two_releases: Platform) -> None:
    refused = refusal("drill", str(ENDPOINT))
    assert (refused["error"], refused["limit"]) == ("NotPermitted", "environments.production.drills.allowed: true")
