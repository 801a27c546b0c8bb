"""On-call hears that the previous release answers, by the channel of the release that cannot."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.rollout.events import AlertRaised
from airflow_provider_mlpipex.services.rollout.fallback import notify_of_fallback
from tests.support.rollouts import ENDPOINT, World


def test_a_fallback_is_alerted_and_recorded() -> None:
    world = World()
    world.first_release()
    notify_of_fallback(world.platform, ENDPOINT, current="1.1.0-x", fallback="1.0.0-x", answers=12)
    (sent,) = world.memory.alerter.sent
    assert (sent.channel, sent.severity) == ("risk-pager", "critical")
    assert all(word in sent.body for word in ("1.1.0-x could not answer 12", "1.0.0-x did", f"rollback {ENDPOINT}"))
    (recorded,) = world.events(AlertRaised)
    assert recorded.title == f"{ENDPOINT}: the previous release answers"


def test_an_alert_of_a_fallback_that_reaches_nobody_is_owed() -> None:
    world = World()
    world.first_release()
    world.memory.alerter.trouble = "no receivers"
    notify_of_fallback(world.platform, ENDPOINT, current="1.1.0-x", fallback="1.0.0-x", answers=1)
    assert [owed.title for owed in world.state.owed_alerts] == [f"{ENDPOINT}: the previous release answers"]
