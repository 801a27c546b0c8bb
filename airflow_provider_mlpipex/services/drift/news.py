"""Whether a look at drift is news: for the ledger, which keeps what somebody will ask for, and for followers."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.rollout.events import DriftJudged, Entry, Origin
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform

if TYPE_CHECKING:
    from airflow_provider_mlpipex.services.drift.check import DriftCheck


def is_history(since: datetime, until: datetime, *, at: datetime) -> bool:
    return at - until > until - since


def away_at(platform: Platform, check: DriftCheck) -> int:
    """The entry of the last look that found no drift of this release, 0 where none is in the chain; a look at history
    finds nothing of today."""
    for entry in journal.walk_back(platform, check.endpoint, types=("drift-judged",), subject=check.release):
        event = entry.event
        if not isinstance(event, DriftJudged) or event.verdict != "pass":
            continue
        if not is_history(event.since, event.until, at=entry.recorded_at):
            return entry.seq
    return 0


def is_routine(check: DriftCheck, before: list[Entry], *, history: bool) -> bool:
    """Whether nobody will ask for this look in a year: it found nothing, as the look before it.

    :param before: looks at this release since it was last without drift. One that finds no drift any more is news.
    """
    if check.verdict in ("fail", "error"):
        return False
    drifted = any(isinstance(entry.event, DriftJudged) and entry.event.verdict in ("fail", "error") for entry in before)
    return history or check.verdict != "pass" or not drifted


def is_news(check: DriftCheck, before: list[Entry], origin: Origin) -> bool:
    """Each task is asked for itself, because each has followers of its own; another try of the same run finds anew.

    A batch that is faulty while the window is well is no news for followers, who retrain: on-call is told of it.
    """
    if check.verdict != "fail" or not check.raising:
        return False
    return not any(
        isinstance(entry.event, DriftJudged)
        and entry.event.verdict == "fail"
        and (entry.origin.dag_id, entry.origin.task_id) == (origin.dag_id, origin.task_id)
        and entry.origin.run_id != origin.run_id
        and set(check.raising) <= set(entry.event.facts.get("raising", ()))
        for entry in before
    )
