"""``mlpipex alerts …``: receivers that every process shares, and what a rollback says of whom it notified."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_mlpipex.demo.webhook import AlertReceiver
from airflow_provider_mlpipex.services.platform import Platform
from tests.support.factories import make_release
from tests.support.terminal import ENDPOINT, answer, refusal, release, run, terminal_platform


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    return terminal_platform(tmp_path, monkeypatch)


@pytest.fixture
def hook() -> Iterator[AlertReceiver]:
    receiver = AlertReceiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def two_releases(platform: Platform) -> Platform:
    release(platform, make_release("1.0.0"))
    release(platform, make_release("1.1.0"))
    return platform


def test_a_rollback_that_notifies_nobody_says_so(two_releases: Platform) -> None:
    result = run("rollback", ENDPOINT, "--cause", "wrong fares")
    assert result.exit_code == 0
    assert "NOBODY WAS NOTIFIED" in result.stdout
    assert "mlpipex alerts set on-call" in result.stdout


def test_receivers_of_the_ledger_are_everybodys_and_hear_of_what_was_undelivered(
    two_releases: Platform, hook: AlertReceiver
) -> None:
    assert answer("rollback", ENDPOINT, "--cause", "wrong fares")["notified"] == []
    assert answer("alerts", "set", "on-call", hook.apprise_url) == {"channel": "on-call", "receivers": ["json"]}
    again = answer("rollback", ENDPOINT)
    assert again["notified"] == ["channel on-call, receiver 1 of 1 (json)"]
    (received,) = hook.received()
    assert (received["title"], "wrong fares" in received["message"]) == (f"{ENDPOINT} rolled back", True)
    # What is delivered is owed no more, and the platform of any other process has the same receivers.
    answer("rollback", ENDPOINT)
    assert len(hook.received()) == 1
    assert two_releases.alerter.alert(channel="on-call", title="a", body="b", severity="info", facts={}).notified


def test_channels_are_listed_without_credentials_and_removed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "nobody would be notified" in run("alerts", "list").stdout
    answer("alerts", "set", "on-call", "json://user:hush@127.0.0.1/")
    monkeypatch.setenv("MLPIPEX_ALERT_CHANNELS", '{"team": ["json://user:hush@127.0.0.1/"]}')
    listed = run("alerts", "list").stdout
    assert listed == "on-call: json (ledger)\nteam: json (MLPIPEX_ALERT_CHANNELS, this process alone)\n"
    answer("alerts", "remove", "on-call")
    assert list(answer("alerts", "list")) == ["team"]


def test_a_test_alert_says_who_got_it(platform: Platform, hook: AlertReceiver) -> None:
    nobody = run("alerts", "test")
    assert (nobody.exit_code, nobody.stdout.startswith("NOT NOTIFIED: channel on-call")) == (1, True)
    answer("alerts", "set", "on-call", hook.apprise_url)
    assert run("alerts", "test").stdout == "notified: channel on-call, receiver 1 of 1 (json)\n"
    assert hook.received()[0]["title"] == "MLPipeX test alert"


def test_an_url_that_is_none_is_refused_by_its_position(platform: Platform) -> None:
    refused = refusal("alerts", "set", "on-call", "json://127.0.0.1/", "hush hush")
    assert refused["value"] == "number 2 of 2"
    assert "hush" not in str(refused)
