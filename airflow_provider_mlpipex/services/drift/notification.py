"""Notifying on-call of drift, of what is broken, and of single faulty batches: of the same trouble once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.rollout.events import AlertRaised
from airflow_provider_mlpipex.services import alerts
from airflow_provider_mlpipex.services.drift.attribution import batch_name
from airflow_provider_mlpipex.services.platform import Platform

if TYPE_CHECKING:
    from airflow_provider_mlpipex.services.drift.attribution import BatchSource
    from airflow_provider_mlpipex.services.drift.check import DriftCheck

#: Columns, and faulty batches, that the title of an alert names.
_NAMED = 5
_FAULTY = 3


def notify(platform: Platform, seen: DriftCheck, away_at: int, *, channel: str) -> None:
    """Raise what on-call has not been told since entry ``away_at``."""
    sources = {source.batch: source for source in (seen.traced.batches if seen.traced else ())}
    for title, batch in _troubles(seen):
        if not _was_notified(platform, seen, title, away_at):
            source = sources.get(batch)
            alerts.raise_alert(
                platform,
                seen.endpoint,
                channel=channel,
                title=title,
                body=seen.message,
                severity="warning",
                facts=_facts(seen, source),
            )


def _troubles(seen: DriftCheck) -> Iterator[tuple[str, str]]:
    """Title and batch of each alert: one of the drift of the window, one of each faulty batch that does not carry it.

    A title is the same for the same trouble, by which it is known again.
    """
    carriers = [source.batch for source in (seen.traced.batches if seen.traced else ()) if source.shares]
    as_a_whole = bool(seen.raising) or seen.verdict == "error" or not seen.faulty
    if as_a_whole:
        yield _title(seen), (carriers or [""])[0]
    unsaid = [batch for batch in seen.faulty_batches if not as_a_whole or batch not in carriers]
    for batch in unsaid[:_FAULTY]:
        yield f"{seen.endpoint}: faulty {batch_name(batch)} on {seen.release}", batch
    if len(unsaid) > _FAULTY:
        yield f"{seen.endpoint}: many faulty batches on {seen.release}", unsaid[_FAULTY]


def _title(seen: DriftCheck) -> str:
    # In an order of its own: that of the damage may change from look to look.
    named = sorted(seen.raising if seen.raising else seen.broken)
    if not named:
        return f"{seen.endpoint}: drift of {seen.release} cannot be measured"
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    what = "drift of" if seen.raising else "broken:"
    return f"{seen.endpoint}: {what} {', '.join(named[:_NAMED])}{more} on {seen.release}"


def _was_notified(platform: Platform, seen: DriftCheck, title: str, away_at: int) -> bool:
    return any(
        isinstance(entry.event, AlertRaised)
        and entry.event.title == title
        and (entry.event.channel is not None or not entry.event.failures)  # what reached nobody is owed, and sent again
        for entry in platform.ledger.read(seen.endpoint, after_seq=away_at, types=("alert-raised",))
    )


def _facts(seen: DriftCheck, source: BatchSource | None) -> dict[str, str]:
    facts = {
        "endpoint": str(seen.endpoint),
        "release": seen.release,
        "window": f"{seen.since:%Y-%m-%d %H:%M} to {seen.until:%Y-%m-%d %H:%M}",
        "rows": str(seen.rows),
        "ledger entry": str(seen.seq),
    }
    if seen.page.address:
        facts["report"] = seen.page.address
    if source and source.batch:
        facts["batch"] = source.batch
    if source and source.sent:
        facts["sent by"] = source.message
    return facts
