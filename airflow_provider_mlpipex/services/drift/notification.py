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


def notify(platform: Platform, check: DriftCheck, away_at: int, *, channel: str) -> None:
    """Raise what on-call has not been told since entry ``away_at``."""
    sources = {source.batch: source for source in (check.traced.batches if check.traced else ())}
    for title, batch in _troubles(check):
        if not _was_notified(platform, check, title, away_at):
            source = sources.get(batch)
            alerts.raise_alert(
                platform,
                check.endpoint,
                channel=channel,
                title=title,
                body=check.message,
                severity="warning",
                facts=_facts(check, source),
            )


def _troubles(check: DriftCheck) -> Iterator[tuple[str, str]]:
    """Title and batch of each alert: one of the drift of the window, one of each faulty batch that does not carry it.

    A title is the same for the same trouble, by which it is known again.
    """
    carriers = [source.batch for source in (check.traced.batches if check.traced else ()) if source.shares]
    as_a_whole = bool(check.raising) or check.verdict == "error" or not check.faulty
    if as_a_whole:
        yield _title(check), (carriers or [""])[0]
    unsaid = [batch for batch in check.faulty_batches if not as_a_whole or batch not in carriers]
    for batch in unsaid[:_FAULTY]:
        yield f"{check.endpoint}: faulty {batch_name(batch)} on {check.release}", batch
    if len(unsaid) > _FAULTY:
        yield f"{check.endpoint}: many faulty batches on {check.release}", unsaid[_FAULTY]


def _title(check: DriftCheck) -> str:
    # In an order of its own: that of the damage may change from look to look.
    named = sorted(check.raising if check.raising else check.broken)
    if not named:
        return f"{check.endpoint}: drift of {check.release} cannot be measured"
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    what = "drift of" if check.raising else "broken:"
    return f"{check.endpoint}: {what} {', '.join(named[:_NAMED])}{more} on {check.release}"


def _was_notified(platform: Platform, check: DriftCheck, title: str, away_at: int) -> bool:
    return any(
        isinstance(entry.event, AlertRaised)
        and entry.event.title == title
        and (entry.event.channel is not None or not entry.event.failures)  # what reached nobody is owed, and sent again
        for entry in platform.ledger.read(check.endpoint, after_seq=away_at, types=("alert-raised",))
    )


def _facts(check: DriftCheck, source: BatchSource | None) -> dict[str, str]:
    facts = {
        "endpoint": str(check.endpoint),
        "release": check.release,
        "window": f"{check.since:%Y-%m-%d %H:%M} to {check.until:%Y-%m-%d %H:%M}",
        "rows": str(check.rows),
        "ledger entry": str(check.seq),
    }
    if check.page.address:
        facts["report"] = check.page.address
    if source and source.batch:
        facts["batch"] = source.batch
    if source and source.sent:
        facts["sent by"] = source.message
    return facts
