"""Options of the terminal that no other test gives: each changes what happens. And none is without a test."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from airflow_provider_mlpipex.cli import adopt as adopt_cli
from airflow_provider_mlpipex.cli import release as release_cli
from airflow_provider_mlpipex.cli.main import app
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised
from airflow_provider_mlpipex.domain.validation.loading import load_manifest
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.serving.plane.state import PlaneMemory, write_memory
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support.factories import ORIGIN, make_release
from tests.support.terminal import ENDPOINT, answer, refusal, release, run

TESTS = Path(__file__).parents[2]


def options(command: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Command and option, of a flag with its opposite behind a bar."""
    if hasattr(command, "commands"):
        for part, inner in command.commands.items():
            yield from options(inner, f"{name} {part}".strip())
        return
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            yield name, "|".join([parameter.opts[0], *parameter.secondary_opts])


OPTIONS = sorted(set(options(get_command(app))))


def test_they_are_walked() -> None:
    assert len(OPTIONS) > 100 and ("release", "--as-of") in OPTIONS


@pytest.fixture(scope="module")
def given() -> str:
    """Every word that some test gives to a command."""
    files = [*TESTS.glob("unit/cli/*.py"), *TESTS.glob("system/*.py"), *TESTS.glob("support/*.py")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize("option", sorted({option for _, option in OPTIONS}))
def test_an_option_is_given_by_some_test(given: str, option: str) -> None:
    assert re.search(rf"""["' ]({option})["' ,=]""", given), f"no test gives {option}"


# How a release is carried.


class Carried(Exception):
    """What would be carried, and as of when."""


@pytest.fixture
def carried(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``mlpipex release`` and ``promote`` hand over; nothing is trained."""
    told: dict[str, Any] = {}

    def train(_: Platform, manifest: Any, **how: Any) -> Any:
        told.update(how)
        return make_release("1.0.0").model

    class Carrier:
        def __init__(self, _: Platform, manifest: Any, release: Any, *, rollout_id: str, host: Any) -> None:
            told.update(rollout_id=rollout_id, release=release)

        def carry(self, environment: str) -> Any:
            raise Carried

    monkeypatch.setattr(release_cli, "train_and_register", train)
    monkeypatch.setattr(release_cli, "make_release", lambda *_, **__: make_release("1.0.0"))
    monkeypatch.setattr(release_cli, "Carrier", Carrier)
    answer("init", tmp_path / "start")
    return told


def test_a_release_may_be_of_another_moment_commit_and_run(carried: dict[str, Any], tmp_path: Path) -> None:
    manifest = tmp_path / "start" / "my-model.yaml"
    run("release", manifest, "--as-of", "2026-01-02T03:04", "--code-version", "0123456789abcdef", "--run", "nightly-7")
    assert f"{carried['as_of']:%Y-%m-%d %H:%M %Z}" == "2026-01-02 03:04 UTC"
    assert (carried["code_version"], carried["rollout_id"]) == ("0123456789abcdef", "nightly-7")
    run("release", manifest, "--code-version", "0123456789abcdef")
    assert carried["as_of"].year > 2000 and carried["rollout_id"] not in ("", "nightly-7")


def test_a_promotion_may_have_a_name_for_its_run(carried: dict[str, Any], two_releases: Platform) -> None:
    run("promote", ENDPOINT, "--release", make_release("1.0.0").id, "--run", "again-7")
    assert (carried["rollout_id"], carried["release"].id) == ("again-7", make_release("1.0.0").id)


# What the ledger says.


def test_history_shows_the_latest_or_what_decided_nothing(two_releases: Platform) -> None:
    whole = answer("history", ENDPOINT, "--events")
    assert answer("history", ENDPOINT, "--events", "--last", "2") == whole[-2:]
    assert answer("history", ENDPOINT, "--last", "1") == answer("history", ENDPOINT)[-1:]
    assert answer("history", ENDPOINT, "--routine") == []
    two_releases.ledger.record(ENDPOINT, AlertRaised(title="a fact"), origin=ORIGIN)
    (fact,) = answer("history", ENDPOINT, "--routine")
    assert fact["event"]["title"] == "a fact"
    assert answer("history", ENDPOINT, "--events") == whole


def test_a_rollback_of_a_rollout_leaves_every_other_alone(two_releases: Platform) -> None:
    old, new = make_release("1.0.0"), make_release("1.1.0")
    refused = refusal("rollback", ENDPOINT, "--rollout", "another")
    assert refused["error"] in ("IllegalTransition", "NotFound", "RolloutEnded")
    assert answer("status", ENDPOINT)[0]["current"] == new.id
    answer("rollback", ENDPOINT, "--rollout", new.id)
    assert answer("status", ENDPOINT)[0]["current"] == old.id


def test_a_rollback_keeps_automation_off_unless_it_is_told_not_to(two_releases: Platform) -> None:
    answer("rollback", ENDPOINT, "--no-hold")
    assert answer("status", ENDPOINT)[0]["held_back"] is None
    release(two_releases, make_release("1.2.0"))
    answer("rollback", ENDPOINT, "--hold")
    assert answer("status", ENDPOINT)[0]["held_back"] is not None


def test_pruning_spares_what_is_younger(two_releases: Platform) -> None:
    ledger = two_releases.ledger
    ledger.record(ENDPOINT, AlertRaised(title="a fact"), origin=ORIGIN)
    assert answer("ledger", "prune", "--older-than", "1h")["pruned"] == 0
    time.sleep(0.01)
    assert answer("ledger", "prune", "--older-than", "0.001s")["pruned"] == 1
    assert ledger.records(ENDPOINT, since=two_releases.clock.now() - timedelta(days=1)) == []


# What the plane's folder holds.


def test_pages_and_logs_are_collected_by_an_age_of_their_own(tmp_path: Path) -> None:
    state = tmp_path / "plane"
    state.mkdir()
    write_memory(state / "state.json", PlaneMemory())
    moment = time.time() - 20 * 86_400
    for name in ("drift/page.html", "quality/result.json", "plane/predictions/production/a/r1/segment.parquet"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text("x")
        for aged in (path, path.parent):
            os.utime(aged, (moment, moment))
    roots = ("--drift-root", tmp_path / "drift", "--quality-root", tmp_path / "quality")

    def found(*arguments: str | Path) -> list[str]:
        return sorted(each["kind"] for each in answer("serve", "collect", "--state-dir", state, *arguments)["found"])

    assert found(*roots) == []
    assert found("--log-days", "10") == ["predictions"]
    assert found("--log-days", "10", *roots[:2]) == ["page", "predictions"]
    assert found("--log-days", "10", *roots) == ["page", "page", "predictions"]


# Where the rows of an adopted model come from.


def test_rows_may_be_a_query_over_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query, labels = "SELECT * FROM payments", ("--task", "binary", "--target", "fraud")
    rows = ("--rows", query, "--connection", "warehouse")
    (written,) = answer("init", tmp_path, "--adopt", "models:/fraud/7", *rows, *labels)["files"]
    manifest = load_manifest(Path(written).read_text(encoding="utf-8"), file=written)
    assert manifest.evaluation is not None
    assert "warehouse" in repr(manifest.evaluation) and query in repr(manifest.evaluation)

    asked: list[str] = []
    world = replace(memory_platform())
    monkeypatch.setattr(adopt_cli, "configured_platform", lambda **_: world)
    monkeypatch.setattr(
        "airflow_provider_mlpipex.hooks.adoption.adopt",
        lambda _, manifest, **__: asked.append(repr(manifest.evaluation)) or (_ for _ in ()).throw(Carried),
    )
    run("adopt", "models:/fraud/7", *rows, *labels)
    run("adopt", "models:/fraud/7", "--rows", "holdout.csv", *labels)
    assert ["warehouse" in each for each in asked] == [True, False]
