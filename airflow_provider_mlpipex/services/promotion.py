"""Promotion: the candidate becomes current, what was current stays warm, what is older is retired."""

from __future__ import annotations

from airflow_provider_mlpipex.domain import rollout as machine
from airflow_provider_mlpipex.domain.endpoint_state import EndpointState
from airflow_provider_mlpipex.domain.errors import RegistryUnavailable
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.services import alerts, journal, traffic, trial
from airflow_provider_mlpipex.services.platform import Platform


def promote(platform: Platform, *, endpoint: EndpointRef, rollout_id: str, timeout_s: float) -> EndpointState:
    """Give the candidate all traffic and make it *current*.

    :raises GateUndecided: a stage that the policy demands has no passing verdict.
    """
    state = traffic.converge(platform, endpoint)
    if trial.already_there(state, rollout_id):
        return state
    ending = state.outcomes.get(rollout_id)
    if ending and ending.ending == "promoted":
        return state
    trial.make_ready(platform, state, rollout_id=rollout_id, timeout_s=timeout_s)
    before = state
    state = traffic.shift(
        platform,
        endpoint,
        intend=lambda now: machine.plan_promotion(now, rollout_id=rollout_id),
        conclude=lambda now: machine.confirm_promotion(now, rollout_id=rollout_id, now=platform.clock.now()),
    )
    alerts.tell_endings(platform, before, state)
    return state


def retire_superseded(platform: Platform, endpoint: EndpointRef) -> list[str]:
    """Stop every release of ``endpoint`` that is neither current, previous nor on trial; return their ids."""
    state = journal.load(platform, endpoint)
    kept = {r.id for r in (state.current, state.previous, state.rollout and state.rollout.candidate) if r}
    superseded = [release for release in platform.plane.observe(endpoint).releases if release not in kept]
    for release in superseded:
        platform.plane.retire(endpoint, release)
    return superseded


def mirror_alias(platform: Platform, endpoint: EndpointRef) -> bool:
    """Point the registry's alias ``<environment>`` at the current model; false if the registry is away.

    The alias is a courtesy to people who browse the registry. The ledger is the truth, so a dead registry is no
    reason to fail a promotion.
    """
    current = journal.load(platform, endpoint).current
    if current is None:
        return False
    try:
        platform.registry.mirror_alias(current.model, endpoint.environment)
    except RegistryUnavailable:
        return False
    return True
