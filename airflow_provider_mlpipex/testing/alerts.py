"""On-call in memory: the port's fake, which keeps what it was told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_provider_mlpipex.domain.rollout.events import AlertDelivery


@dataclass(frozen=True)
class SentAlert:
    """One alert as it was sent."""

    channel: str
    title: str
    body: str
    severity: str
    facts: Mapping[str, str] = field(default_factory=dict)


class MemoryAlerter:
    """``sent``: every alert that was delivered, oldest first.

    ``trouble``: non-empty means that nobody can be told; every alert fails with this message, and is not kept.
    """

    def __init__(self) -> None:
        self.sent: list[SentAlert] = []
        self.trouble = ""

    def alert(self, *, channel: str, title: str, body: str, severity: str, facts: Mapping[str, str]) -> AlertDelivery:
        if self.trouble:
            return AlertDelivery(failures=(f"channel {channel}: {self.trouble}",))
        self.sent.append(SentAlert(channel, title, body, severity, dict(facts)))
        return AlertDelivery(notified=(f"channel {channel}, receiver 1 of 1 (memory)",))
