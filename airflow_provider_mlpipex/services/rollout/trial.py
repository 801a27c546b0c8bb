"""The live trial: shadow and canary steps put in force, each behind a release that is ready and warm."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import decisions
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services import alerts
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import traffic


def make_ready(platform: Platform, state: EndpointState, *, rollout_id: str, timeout_s: float) -> None:
    """Have the candidate running before anything is planned for it; one that will not run ends the rollout.

    :raises ReleaseNotReady: and its siblings of ``ServingPlane.ensure``; the rollout is rejected in the ledger.
    """
    rollout = state.rollout
    if rollout is None or rollout.id != rollout_id or not rollout.policy.serve:
        return
    try:
        platform.plane.ensure(state.endpoint, rollout.candidate, timeout_s=timeout_s)
    except MlpipexError as error:
        if not error.transient and rollout.phase in ("opened", "review"):
            cause = str(error)
            alerts.decide_and_tell(
                platform,
                state.endpoint,
                lambda now: decisions.reject(now, rollout_id=rollout_id, cause=cause),
                rollout_id=rollout_id,
            )
        raise


def start_shadow(platform: Platform, *, endpoint: EndpointRef, rollout_id: str, timeout_s: float) -> EndpointState:
    """Mirror live requests to the candidate; returns when the mirror is in force.

    A first release, a change of policy and a manifest without shadow change nothing.

    :raises GateUndecided: a stage before this one has no passing verdict.
    :raises ReleaseNotReady: and its siblings of ``ServingPlane.ensure``.
    """
    return _advance(
        platform, endpoint, rollout_id, lambda now: decisions.start_shadow(now, rollout_id=rollout_id), timeout_s
    )


def step_canary(
    platform: Platform, *, endpoint: EndpointRef, rollout_id: str, step: int, timeout_s: float
) -> EndpointState:
    """Give the candidate the weight of ``step`` (from 0); returns when the split is in force.

    :raises GateUndecided: shadow, or the step before, has no passing verdict.
    :raises ReleaseNotReady: and its siblings of ``ServingPlane.ensure``.
    """
    return _advance(
        platform,
        endpoint,
        rollout_id,
        lambda now: decisions.step_canary(now, rollout_id=rollout_id, step=step),
        timeout_s,
    )


def _advance(
    platform: Platform, endpoint: EndpointRef, rollout_id: str, intend: traffic.Decision, timeout_s: float
) -> EndpointState:
    state = traffic.converge(platform, endpoint, rollout_id=rollout_id)
    if already_there(state, rollout_id):
        return state
    intend(state)  # what may not happen is refused before anything is built or started for it
    make_ready(platform, state, rollout_id=rollout_id, timeout_s=timeout_s)
    return traffic.shift(platform, endpoint, intend=intend, rollout_id=rollout_id)


def already_there(state: EndpointState, rollout_id: str) -> bool:
    """Whether this rollout was never opened because its release is current: every verb then has nothing to do."""
    return state.rollout is None and state.result_of(rollout_id) is None and state.current is not None
