"""Promotion: the candidate becomes current, what was current stays warm, what is older is retired."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import decisions
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.outcomes import promotion_doubt
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import ledger_heads, traffic, trial


def promote(platform: Platform, *, endpoint: EndpointRef, rollout_id: str, timeout_s: float) -> EndpointState:
    """Give the candidate all traffic and make it *current*.

    :raises GateUndecided: a stage that the policy demands has no passing verdict.
    :raises PromotionInDoubt: late labels have reopened a promotion of this model elsewhere since it was opened.
    """
    state = traffic.converge(platform, endpoint, rollout_id=rollout_id)
    if trial.already_there(state, rollout_id):
        return state
    ending = state.result_of(rollout_id)
    if ending and ending.ending == "promoted":
        return state
    if state.rollout is not None and state.rollout.phase != "watching":
        promotion_doubt.require_no_doubt(platform, endpoint, state.rollout.candidate.model)
    decisions.plan_promotion(state, rollout_id=rollout_id)  # refused before anything is built or started for it
    trial.make_ready(platform, state, rollout_id=rollout_id, timeout_s=timeout_s)
    return traffic.shift(
        platform,
        endpoint,
        intend=lambda now: decisions.plan_promotion(now, rollout_id=rollout_id),
        conclude=lambda now: decisions.confirm_promotion(now, rollout_id=rollout_id, now=platform.clock.now()),
        rollout_id=rollout_id,
    )


def retire_superseded(platform: Platform, endpoint: EndpointRef) -> list[str]:
    """Stop every release of ``endpoint`` that is neither current, previous nor on trial; return their ids."""
    # In this order: a release that runs by now belongs to a rollout that the ledger knows by now.
    running = platform.plane.observe(endpoint).releases
    state = journal.load(platform, endpoint)
    kept = {r.id for r in (state.current, state.previous, state.rollout and state.rollout.candidate) if r}
    superseded = [release for release in running if release not in kept]
    for release in superseded:
        platform.plane.retire(endpoint, release)
    return superseded


def mirror_alias(platform: Platform, endpoint: EndpointRef) -> bool:
    """Point the registry's alias ``<environment>`` at the current model; false if the registry would not.

    The alias is a courtesy to people who browse the registry. The ledger is the truth, so a registry that is dead, or
    has lost the model, is no reason to fail a promotion. The chain's head is noted beside it: ``mlpipex audit verify``
    compares.
    """
    current = journal.load(platform, endpoint).current
    if current is None:
        return False
    try:
        ledger_heads.anchor(platform, endpoint, model=current.model.name)
        platform.registry.mirror_alias(current.model, endpoint.environment)
    except MlpipexError:
        return False
    return True
