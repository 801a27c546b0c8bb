"""Fallbacks: says when the previous release answers what current cannot, so that somebody mends current."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from airflow_provider_mlpipex.domain.gates.evidence import Telemetry
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.serving.periodic import Background

EVERY_S = 2.0
#: Attempts are in the log a moment after they ended.
SETTLED_S = 2.0
#: Seconds without an answer of the fallback after which the next one is a new incident.
QUIET_S = 300.0


class FallbackUse(NamedTuple):
    """``answers`` of ``fallback`` to requests that were ``current``'s."""

    endpoint: EndpointRef
    current: str
    fallback: str
    answers: int


class TelemetryOf(Protocol):
    def __call__(self, endpoint: EndpointRef, *, since: datetime, until: datetime) -> Telemetry: ...


class Fallbacks(Background):
    """:param plans: in force now. :param telemetry: of an endpoint in a window.
    :param notify: is called once an incident; where it raises, again in the next round.
    :param say: takes what it raised.
    """

    def __init__(
        self,
        plans: Callable[[], Iterable[TrafficPlan]],
        telemetry: TelemetryOf,
        notify: Callable[[FallbackUse], None],
        say: Callable[[str, Exception], None],
    ) -> None:
        super().__init__("fallbacks", every_s=EVERY_S, say=say)
        self._plans = plans
        self._telemetry = telemetry
        self._notify = notify
        self._asked_until: dict[EndpointRef, datetime] = {}
        self._answered_at: dict[EndpointRef, float] = {}

    def work(self) -> None:
        # Seconds are counted whole: those that are past, each of them once.
        until = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=SETTLED_S)
        for plan in self._plans():
            use = self._use(plan, until)
            if use is None:
                continue
            before, now = self._answered_at.get(plan.endpoint), time.monotonic()
            if before is None or now - before > QUIET_S:
                self._notify(use)
            self._answered_at[plan.endpoint] = now
        self._asked_until = {plan.endpoint: until for plan in self._plans()}

    def _use(self, plan: TrafficPlan, until: datetime) -> FallbackUse | None:
        since = self._asked_until.get(plan.endpoint, until)
        if plan.fallback is None or plan.fallback in plan.releases or since >= until:
            # A release with a share of its own, or a shadow, is asked anyhow.
            return None
        telemetry = self._telemetry(plan.endpoint, since=since, until=until).releases.get(plan.fallback)
        answers = telemetry.requests - telemetry.errors if telemetry is not None else 0
        if answers <= 0:
            return None
        return FallbackUse(endpoint=plan.endpoint, current=plan.current, fallback=plan.fallback, answers=answers)
