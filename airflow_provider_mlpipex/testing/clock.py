"""A clock that shows what it is set to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class ManualClock:
    """Stands still until it is advanced. :param start: what it shows first (UTC)."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> datetime:
        """Move on by ``seconds`` and return the new time. Negative: step back, as a machine's clock may."""
        self._now += timedelta(seconds=seconds)
        return self._now
