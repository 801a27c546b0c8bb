"""The notifier: what it says, everybody behind it, and failures that are raised together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow.sdk import BaseNotifier

from airflow_provider_mlpipex import RolloutNotifier
from airflow_provider_mlpipex.domain.rollout.events import AlertDelivery
from airflow_provider_mlpipex.testing.platform import MemoryPlatform
from tests.airflow.release_run import PRODUCTION, ReleaseRun


class Sync(BaseNotifier):
    """Somebody else's notifier, as most are: only ``notify``, with a template."""

    template_fields = ("text",)

    def __init__(self, text: str = "{{ rollout.title }}: {{ rollout.body }}") -> None:
        super().__init__()
        self.text = text
        self.told: list[str] = []

    def notify(self, context: Any) -> None:
        self.told.append(self.text)


class Async(Sync):
    """One that can do both; which of them was called is told."""

    def notify(self, context: Any) -> None:
        self.told.append(f"sync {self.text}")

    async def async_notify(self, context: Any) -> None:
        await asyncio.sleep(0)
        self.told.append(f"async {self.text}")


class Broken(BaseNotifier):
    def notify(self, context: Any) -> None:
        raise ConnectionError("no route to the chat")


def notifier(**kwargs: Any) -> RolloutNotifier:
    return RolloutNotifier(endpoint=str(PRODUCTION), channel="team", **kwargs)


def context() -> Any:
    return {"run_id": "run-1"}


async def tell(one: RolloutNotifier, how: str) -> None:
    """As Airflow does: by a call in the Dag processor, by awaiting it in the triggerer."""
    if how == "sync":
        one(context())
    else:
        one.context = context()
        await one


HOW = pytest.mark.parametrize("how", ["sync", "async"])


@HOW
async def test_the_notifier_tells_what_serves_and_how_the_last_rollout_ended(first: ReleaseRun, how: str) -> None:
    first.first_release()
    first.platform.alerter.sent.clear()
    await tell(notifier(severity="warning"), how)
    (sent,) = first.platform.alerter.sent
    assert (sent.channel, sent.severity) == ("team", "warning")
    assert sent.title == f"{PRODUCTION}: promoted"
    assert sent.facts == {
        "endpoint": str(PRODUCTION),
        "current": first.current,
        "previous": "nothing",
        "ending": "promoted",
    }


@HOW
async def test_the_notifier_tells_of_a_rollout_under_way(second: ReleaseRun, how: str) -> None:
    second.to_canary(0)
    second.platform.alerter.sent.clear()
    await tell(notifier(), how)
    assert second.platform.alerter.sent[0].title == f"{PRODUCTION}: rollout in canary"


@HOW
async def test_an_endpoint_without_releases_is_no_error(fakes: MemoryPlatform, how: str) -> None:
    await tell(notifier(), how)
    assert (fakes.alerter.sent[0].title, fakes.alerter.sent[0].body) == (
        f"{PRODUCTION}: no rollout yet",
        "serving nothing",
    )


@HOW
async def test_notifiers_behind_it_find_the_rollout_in_their_templates(first: ReleaseRun, how: str) -> None:
    first.first_release()
    simple, capable = Sync(), Async()
    await tell(notifier(behind=[simple, capable]), how)
    title = f"{PRODUCTION}: promoted"
    assert [text.partition(": ")[0] for text in simple.told] == [str(PRODUCTION)]
    assert simple.told[0].startswith(title)
    # Who can be awaited is awaited on the triggerer.
    assert capable.told[0].startswith(f"{how} {title}")


@HOW
async def test_everybody_is_told_and_then_all_failures_are_raised(fakes: MemoryPlatform, how: str) -> None:
    fakes.alerter.trouble = "receiver 1 of 1: not delivered"
    before, after = Sync(), Sync()
    with pytest.raises(ExceptionGroup) as failed:
        await tell(notifier(behind=[before, Broken(), after]), how)
    assert str(PRODUCTION) in str(failed.value)
    assert [str(each) for each in failed.value.exceptions] == [
        "channel team: receiver 1 of 1: not delivered",
        "no route to the chat",
    ]
    assert (len(before.told), len(after.told)) == (1, 1)


@HOW
async def test_without_a_channel_only_those_behind_it_are_told(fakes: MemoryPlatform, how: str) -> None:
    behind = Sync()
    await tell(RolloutNotifier(endpoint=str(PRODUCTION), behind=[behind]), how)
    assert len(behind.told) == 1
    assert fakes.alerter.sent == []


@HOW
async def test_its_own_fields_are_templates(fakes: MemoryPlatform, how: str) -> None:
    await tell(RolloutNotifier(endpoint="production/{{ run_id }}", channel="team-{{ run_id }}"), how)
    assert fakes.alerter.sent[0].channel == "team-run-1"
    assert fakes.alerter.sent[0].facts["endpoint"] == "production/run-1"


async def test_awaiting_it_does_not_hold_the_event_loop(fakes: MemoryPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alert that takes its time runs beside the loop, which goes on meanwhile."""
    import threading

    ticked = threading.Event()

    def slow(**_: Any) -> AlertDelivery:
        return AlertDelivery(failures=() if ticked.wait(30) else ("the loop stood still",))

    monkeypatch.setattr(fakes.alerter, "alert", slow)

    async def tick() -> None:
        ticked.set()

    one = notifier()
    one.context = context()

    async def telling() -> None:
        await one

    told = asyncio.create_task(telling())
    await asyncio.gather(told, tick())
