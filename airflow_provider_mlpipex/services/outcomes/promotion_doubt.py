"""Promotions in doubt: who is told, who decides, and what must wait until then."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import ModelVersion
from airflow_provider_mlpipex.domain.rollout import promotion_doubt as doubt_decisions
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, PromotionDoubt
from airflow_provider_mlpipex.services import alerts, journal
from airflow_provider_mlpipex.services.platform import Platform


def require_no_doubt(platform: Platform, endpoint: EndpointRef, model: ModelVersion) -> None:
    """No environment of ``endpoint`` has a promotion of ``model`` in doubt.

    :raises PromotionInDoubt: naming the environment, what its labels say, and how a person ends it.
    """
    for known in platform.ledger.endpoints():
        if known.name == endpoint.name:
            doubt_decisions.require_no_doubt(journal.load(platform, known), model)


def tell(platform: Platform, state: EndpointState) -> None:
    """Tell on-call of a promotion in doubt, once; who died before is made up for by whoever looks next."""
    doubt, current = state.doubt, state.current
    if doubt is None or doubt.notified:
        return
    alerts.raise_alert(
        platform,
        state.endpoint,
        channel=alerts.channel_of(state.current_manifest, state.endpoint),
        title=PromotionDoubt.title(state.endpoint),
        body=f"{doubt.cause}. A person decides: mlpipex rollback {state.endpoint}, or mlpipex labels confirm",
        severity="critical",
        facts={
            "endpoint": str(state.endpoint),
            "release": doubt.release,
            "model": f"{current.model.name} {current.model.version}" if current else "",
            "can return to": state.previous.id if state.previous else "nothing",
        },
    )


def confirm(
    platform: Platform, endpoint: EndpointRef, *, reviewer: str, note: str = "", release: str | None = None
) -> bool:
    """A person keeps the release whose promotion is in doubt; false where there is no doubt.

    :param release: the one whose numbers the person has seen.
    :raises IllegalTransition: another release is in doubt.
    """
    before = journal.load(platform, endpoint)
    after = journal.decide(
        platform,
        endpoint,
        lambda now: doubt_decisions.confirm(now, release=release, reviewer=reviewer, note=note),
    )
    return before.doubt is not None and after.doubt is None
