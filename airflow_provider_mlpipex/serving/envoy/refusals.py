"""Rows that a candidate refused, until it is known whether they or the candidate were odd.

Envoy asks current what a candidate refuses (``REFUSED_ROWS``). Both attempts are in its log under one request id, which
it makes itself. Where another release answered, the refusal was the candidate's error; where none did, it stays the
client's, so that no client can blame a release.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from airflow_provider_mlpipex.serving.envoy.attempt_counts import Bucket

_V = TypeVar("_V")
#: Requests that are remembered; the two attempts of one are milliseconds apart in the log.
_MAX_REMEMBERED = 10_000


class Refusals:
    """Which of the two attempts is logged first does not matter."""

    def __init__(self) -> None:
        self._refused: OrderedDict[str, tuple[Bucket, ...]] = OrderedDict()
        self._answered: OrderedDict[str, None] = OrderedDict()

    def refused(self, request_id: str, buckets: tuple[Bucket, ...]) -> None:
        """A candidate refused it, and that is counted in ``buckets`` as the client's error."""
        if request_id in self._answered:
            _blame(buckets)
        else:
            _remember(self._refused, request_id, buckets)

    def answered(self, request_id: str) -> None:
        """Another release than the one that was asked first has answered it."""
        buckets = self._refused.pop(request_id, None)
        if buckets is not None:
            _blame(buckets)
        else:
            _remember(self._answered, request_id, None)


def _blame(buckets: tuple[Bucket, ...]) -> None:
    for bucket in buckets:
        bucket.blame()


def _remember(known: OrderedDict[str, _V], request_id: str, value: _V) -> None:
    known[request_id] = value
    if len(known) > _MAX_REMEMBERED:
        known.popitem(last=False)
