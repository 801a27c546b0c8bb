"""The control arm of a watch grows while only it can tell a bad release from an outage.

A small arm costs little and says little: at 1 % of 30 requests a second it has seen one request when an outage has long
broken the limit. To wait for it would leave users with a bad release; not to wait takes good ones back. So it gets half
of the requests at once, which by itself halves what a bad release does, and a quarter of the time that it took to see
the limit broken. What is undecided then goes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.rollout import decisions
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Rollout
from airflow_provider_mlpipex.domain.rollout.traffic_plan import GROWN_CONTROL
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import traffic

#: While the arm is to tell, the watch looks so often,
LOOK_AGAIN = timedelta(seconds=1)
#: for at most this part of the time that it took to see the limit broken, and no less than this.
_AS_LONG_AGAIN, _LEAST = 0.25, timedelta(seconds=2)


def tells_within(
    platform: Platform, state: EndpointState, rollout: Rollout, broken: Sequence[GateResult]
) -> timedelta | None:
    """When to look again, because the control arm may still tell: it grows now, or has not had its time yet. ``None``
    where there is no arm, or its time is over.

    :param broken: gates whose limit is broken, and nobody can tell whether by an outage.
    """
    if not broken or state.planned is None or state.planned.control is None:
        return None
    if state.planned.control_weight < GROWN_CONTROL:
        gates, since = [result.gate for result in broken], max(result.evidence.since for result in broken)
        traffic.shift(
            platform,
            state.endpoint,
            intend=lambda now: decisions.grow_control(now, rollout_id=rollout.id, gates=gates, broken_since=since),
        )
        return LOOK_AGAIN
    grown_at = state.confirmed_at
    if grown_at is None or rollout.policy.control_weight == GROWN_CONTROL:
        return None
    # What breaks while the arm is grown already has nothing to wait for but a moment's requests.
    since = max(rollout.broken_since.get(result.gate, result.evidence.since) for result in broken)
    began = max(grown_at, since)
    left = began + max(_LEAST, _AS_LONG_AGAIN * (grown_at - since)) - platform.clock.now()
    return min(LOOK_AGAIN, left) if left > timedelta(0) else None


def shrink(platform: Platform, state: EndpointState, rollout: Rollout) -> None:
    """Give a grown arm its own share again; nothing where it has not grown."""
    weight = state.planned.control_weight if state.planned and state.planned.control else 0
    if weight == GROWN_CONTROL != rollout.policy.control_weight:
        traffic.shift(platform, state.endpoint, intend=lambda now: decisions.shrink_control(now, rollout_id=rollout.id))
