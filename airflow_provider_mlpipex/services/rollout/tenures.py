"""Which release was current when: all of it, or the end of it, which takes as long however old the chain is."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from airflow_provider_mlpipex.domain.errors import LedgerTampered
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.events import Entry, Promoted, RolledBack, RolloutOpened
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform

#: Events that can change what is current.
_CHANGES = ("promoted", "rolled-back")


class Tenure(Value):
    """One release as *current*: from ``since`` until ``until`` (``None``: still).

    ``rollout_id`` is the rollout that made it current, by its promotion or by being undone; ``ended_by`` the event that
    ended the tenure; ``seq`` the ledger entry that it began with.
    """

    release: str
    model: str
    runtime: str
    rollout_id: str
    since: datetime
    until: datetime | None = None
    ended_by: str = ""
    seq: int = 0


def tenures(
    platform: Platform, endpoint: EndpointRef, *, last: int | None = None, before: int | None = None
) -> list[Tenure]:
    """Releases that were current, oldest first.

    :param last: at most so many, the latest; all by default.
    :param before: only those that began before this ledger entry: the ``seq`` of the oldest tenure of a page.
    """
    chain = _Tenures(platform, endpoint)
    if last is None and before is None:
        chain.read(journal.walk(platform, endpoint, types=_CHANGES), from_the_start=True)
        return chain.tenures
    size = (last or 1) + 2
    while True:
        page = platform.ledger.read(endpoint, before_seq=before, types=_CHANGES, newest_first=True, limit=size)
        all_of_it = len(page) < size
        chain.read(reversed(page), from_the_start=all_of_it)
        # The first one that is found may have begun before the page did.
        if all_of_it or (last is not None and len(chain.tenures) > last):
            break
        size *= 4
    if before is not None:
        chain.close(journal.walk(platform, endpoint, after_seq=before - 1, types=_CHANGES))
    return chain.tenures[-last:] if last is not None else chain.tenures


class _Tenures:
    """The part of an endpoint's state that says what is current, folded from any place in its chain.

    Of what lies before that place nothing is known: a tenure is found only once a promotion has said what is current.
    """

    def __init__(self, platform: Platform, endpoint: EndpointRef) -> None:
        self._platform = platform
        self._endpoint = endpoint
        self._releases: dict[str, Release] = {}
        self.tenures: list[Tenure] = []
        self._current: Release | None = None
        self._previous: Release | None = None
        self._knows_current = self._knows_previous = False

    def read(self, entries: Iterable[Entry], *, from_the_start: bool) -> None:
        """Begin anew with ``entries``, which follow one another."""
        self.tenures, self._current, self._previous = [], None, None
        self._knows_current = self._knows_previous = from_the_start
        for entry in entries:
            self._add(entry)

    def close(self, entries: Iterable[Entry]) -> None:
        """Let ``entries``, which follow, say when the last tenure ended; those after it are left out."""
        count = len(self.tenures)
        for entry in entries:
            self._add(entry)
            if len(self.tenures) > count or (self.tenures and self.tenures[-1].until is not None):
                break
        self.tenures = self.tenures[:count]

    def _add(self, entry: Entry) -> None:
        match entry.event:
            case Promoted(rollout_id=rollout_id):
                release = self._opened(rollout_id, entry)
                if self._knows_current and self._current and self._current.digest == release.digest:
                    self._current = release  # a change of policy alone
                    return
                self._previous, self._knows_previous = self._current, self._knows_current
                self._knows_current = True
                self._begin(release, rollout_id, entry)
            case RolledBack() as back if self._knows_current and self._current:
                if back.from_release != self._current.id:
                    return
                if not self._knows_previous:
                    self.tenures, self._knows_current = [], False
                    return
                restored, self._previous = self._previous, None
                self._begin(restored, back.rollout_id, entry)
            case _:
                pass

    def _begin(self, release: Release | None, rollout_id: str, entry: Entry) -> None:
        if self.tenures and self.tenures[-1].until is None:
            ended = {"until": entry.recorded_at, "ended_by": entry.event.type}
            self.tenures[-1] = self.tenures[-1].model_copy(update=ended)
        self._current = release
        if release is not None:
            self.tenures.append(
                Tenure(
                    release=release.id,
                    model=f"{release.model.name} {release.model.version}",
                    runtime=release.runtime.version,
                    rollout_id=rollout_id,
                    since=entry.recorded_at,
                    seq=entry.seq,
                )
            )

    def _opened(self, rollout_id: str, promoted: Entry) -> Release:
        """The release that ``rollout_id`` has promoted."""
        if rollout_id not in self._releases:
            opened = self._platform.ledger.read(
                self._endpoint,
                subject=rollout_id,
                types=("rollout-opened",),
                before_seq=promoted.seq,
                newest_first=True,
                limit=1,
            )
            if not opened or not isinstance(opened[0].event, RolloutOpened):
                raise LedgerTampered(
                    f"ledger of {self._endpoint}, entry {promoted.seq}",
                    value=f"rollout {rollout_id} was promoted",
                    limit="an entry before it that opens the rollout",
                    remedy="verify the chain: mlpipex audit verify",
                )
            self._releases[rollout_id] = opened[0].event.release
        return self._releases[rollout_id]
