"""The ``traffic`` block: what live traffic looks like, and how it is answered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Literal

from airflow_provider_mlpipex.domain.fields.quantities import Duration, Rate, format_duration, parse_duration
from airflow_provider_mlpipex.domain.fields.types import (
    HeaderName,
)
from airflow_provider_mlpipex.domain.fields.yaml_text import Problem
from airflow_provider_mlpipex.domain.rollout.traffic_plan import StickyHeader
from airflow_provider_mlpipex.domain.values import Recorded

MIN_LEASE = timedelta(seconds=30)


class TrafficSpec(Recorded):
    """What live traffic looks like.

    :param expected_rate: requests a second that the endpoint sees on a quiet day; sample sizes are checked against it.
    :param sticky_header: requests with the same value stay on the same release.
    :param timeout: what a candidate may take over one request before the current release is asked as well, and the
        first of the two to answer does. Raised by the plane to twice what current itself takes. Above 10 s it is also
        how long a request may take at all.
    :param fallback: who answers what the current release cannot, because it is down, raises or hangs: the ``previous``
        one, which stays warm (also where nothing is said), or ``none``, so that the client gets the error.
    :param lease: how long a shadow or canary goes on when nobody watches it; then the plane itself takes it back. Must
        outlast the pause between two tasks of a busy Airflow.
    """

    expected_rate: Rate | None = None
    sticky_header: HeaderName = StickyHeader().name
    timeout: Duration = parse_duration("2s")
    lease: Duration = parse_duration("60s")
    fallback: Literal["previous", "none"] | None = None

    added_later = frozenset({"fallback"})


def broken_rules(traffic: TrafficSpec) -> Iterator[Problem]:
    """What cannot be meant."""
    if timedelta(0) < traffic.lease < MIN_LEASE:
        yield Problem(
            ("traffic", "lease"),
            format_duration(traffic.lease),
            f"at least {format_duration(MIN_LEASE)}: a watcher looks every few seconds, and a task may be late",
            "write for example 60s",
        )
