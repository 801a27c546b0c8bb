"""Who is told, and how often, that the previous release answers what current cannot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_mlpipex.domain.gates.evidence import LatencyHistogram, ReleaseTelemetry, Telemetry
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.serving.plane import fallbacks
from airflow_provider_mlpipex.serving.plane.fallbacks import Fallbacks, FallbackUse
from tests.support.factories import make_release

FRAUD = EndpointRef.parse("production/fraud-scorer")
OLD, NEW = make_release("1.0.0").id, make_release("1.1.0").id


class Plane:
    """``answers``: (moment, errors or not) of the fallback."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plan = TrafficPlan(endpoint=FRAUD, current=NEW, fallback=OLD)
        self.answered: list[tuple[datetime, bool]] = []
        self.told: list[FallbackUse] = []
        self.trouble: Exception | None = None
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        plane = self

        class Clock(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
                return plane.now

        monkeypatch.setattr(fallbacks, "datetime", Clock)
        monkeypatch.setattr(fallbacks.time, "monotonic", lambda: plane.now.timestamp())
        self.watch = Fallbacks(lambda: [self.plan], self.telemetry, self.notify, lambda *_: None)

    def notify(self, use: FallbackUse) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.told.append(use)

    def telemetry(self, endpoint: EndpointRef, *, since: datetime, until: datetime) -> Telemetry:
        seen = [failed for moment, failed in self.answered if since <= moment < until]
        counted = ReleaseTelemetry(
            release=OLD,
            requests=len(seen),
            errors=sum(seen),
            client_errors=0,
            latency=LatencyHistogram(bounds_ms=(1.0,), counts=(len(seen), 0)),
        )
        return Telemetry(
            endpoint=str(endpoint), since=since, until=until, releases={OLD: counted}, complete=True, detail=""
        )

    def go_on(self, seconds: float, *, answering: bool = False, failed: bool = False) -> None:
        for _ in range(int(seconds / 2)):
            self.now += timedelta(seconds=2)
            if answering:
                self.answered.append((self.now, failed))
            self.watch.work()


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Plane:
    plane = Plane(monkeypatch)
    plane.go_on(4)
    return plane


def test_an_incident_is_told_once_however_long_it_lasts(plane: Plane) -> None:
    plane.go_on(900, answering=True)
    assert plane.told == [FallbackUse(endpoint=FRAUD, current=NEW, fallback=OLD, answers=1)]
    plane.go_on(400)
    plane.go_on(10, answering=True)
    assert len(plane.told) == 2, "after five quiet minutes it is another one"


def test_what_could_not_be_told_is_told_in_the_next_round(plane: Plane) -> None:
    plane.trouble = OSError("the ledger is away")
    plane.answered.append((plane.now, False))
    plane.now += timedelta(seconds=4)
    for _ in range(2):
        with pytest.raises(OSError, match="the ledger is away"):
            plane.watch.work()
    plane.trouble = None
    plane.go_on(2)
    assert len(plane.told) == 1


def test_failures_of_the_fallback_are_no_answers(plane: Plane) -> None:
    plane.go_on(60, answering=True, failed=True)
    assert plane.told == []


@pytest.mark.parametrize("change", [{"fallback": None}, {"control": OLD, "control_weight": 500}])
def test_a_release_that_is_asked_anyhow_tells_nothing(plane: Plane, change: dict[str, object]) -> None:
    plane.plan = plane.plan.model_copy(update=change)
    plane.go_on(60, answering=True)
    assert plane.told == []
