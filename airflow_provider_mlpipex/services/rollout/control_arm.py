"""The control arm of a watch grows while only it can tell a bad release from an outage.

A small arm costs little and says little: at 1 % of 30 requests a second it has seen one request when an outage has long
broken the limit. To wait for it would leave users with a bad release; not to wait takes good ones back. So it gets half
of the requests at once, which by itself halves what a bad release does, and a quarter of the time that it took to see
the limit broken. What is undecided then goes back.

The same is done in a canary whose candidate is slow with more than half of the requests: the current release gets half,
and the step begins anew, between equals.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.rollout.control_arm import even_canary, grow_control, settling, shrink_control
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, Rollout
from airflow_provider_mlpipex.domain.rollout.traffic_plan import EVEN_ARMS
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import traffic

#: While the arm is to tell, the watch looks so often,
LOOK_AGAIN = timedelta(seconds=1)
#: for at most this part of the time that it took to see the limit broken, and no less than this.
_AS_LONG_AGAIN, _MIN_WAIT = 0.25, timedelta(seconds=2)
#: That part for a latency, which ten times as many requests tell as tell an outage, and which harms less.
_AS_LONG_FOR_LATENCY = 1.0


def tells_within(
    platform: Platform,
    state: EndpointState,
    rollout: Rollout,
    broken: Sequence[GateResult],
    *,
    of_latency: bool,
) -> timedelta | None:
    """When to look again, because the control arm may still tell: it grows now, or has not had its time yet. ``None``
    where there is no arm, or its time is over.

    :param broken: gates whose limit is broken, and nobody can tell whether by an outage or by the load.
    :param of_latency: whether all of them are of a latency.
    """
    if not broken or state.planned is None or state.planned.control is None:
        return None
    if state.planned.control_weight < EVEN_ARMS:
        gates, since = [result.gate for result in broken], max(result.evidence.since for result in broken)
        traffic.shift(
            platform,
            state.endpoint,
            intend=lambda now: grow_control(now, rollout_id=rollout.id, gates=gates, broken_since=since),
        )
        return LOOK_AGAIN
    grown_at = state.confirmed_at
    if grown_at is None or rollout.policy.control_weight == EVEN_ARMS:
        return None
    # What breaks while the arm is grown already has nothing to wait for but a moment's requests.
    since = max(rollout.broken_since.get(result.gate, result.evidence.since) for result in broken)
    began = max(grown_at + (settling(state) if of_latency else timedelta(0)), since)
    part = _AS_LONG_FOR_LATENCY if of_latency else _AS_LONG_AGAIN
    left = began + max(_MIN_WAIT, part * (grown_at - since)) - platform.clock.now()
    return min(LOOK_AGAIN, left) if left > timedelta(0) else None


def made_even(
    platform: Platform, state: EndpointState, rollout: Rollout, broken: Sequence[GateResult]
) -> timedelta | None:
    """Give both releases of a canary half of the requests and let the step begin anew; when to look again. ``None``
    where the candidate has no more than that.

    :param broken: gates whose limit is broken, and nobody can tell whether by the load.
    """
    gates = [result.gate for result in broken]
    if not gates or not even_canary(state, rollout_id=rollout.id, gates=gates):
        return None
    traffic.shift(
        platform,
        state.endpoint,
        intend=lambda now: even_canary(now, rollout_id=rollout.id, gates=gates),
        rollout_id=rollout.id,
    )
    return LOOK_AGAIN


def shrink(platform: Platform, state: EndpointState, rollout: Rollout) -> None:
    """Give a grown arm its own share again; nothing where it has not grown."""
    weight = state.planned.control_weight if state.planned and state.planned.control else 0
    if weight == EVEN_ARMS != rollout.policy.control_weight:
        traffic.shift(platform, state.endpoint, intend=lambda now: shrink_control(now, rollout_id=rollout.id))
