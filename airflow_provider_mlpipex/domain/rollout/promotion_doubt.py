"""Promotions that late labels reopen. Like :mod:`rollout`: verbs that look at the state and answer with events.

Nothing here touches traffic: whether a release goes, a person decides.
"""

from __future__ import annotations

from airflow_provider_mlpipex.domain.errors import IllegalTransition, PromotionInDoubt
from airflow_provider_mlpipex.domain.release.release import ModelVersion
from airflow_provider_mlpipex.domain.rollout.events import Event, OutcomesJudged, PromotionConfirmed, PromotionReopened
from airflow_provider_mlpipex.domain.rollout.state import EndpointState


def record_outcomes(state: EndpointState, *, judged: OutcomesJudged) -> list[Event]:
    """Write down what outcome gates said of the current release, and reopen its promotion where one fails.

    Nothing, if the same was said before, or the release is no longer current or is being rolled back. A gate that
    failed already, and was told or accepted, does not reopen anything once more.
    """
    if state.current is None or state.current.id != judged.release or state.rollback is not None:
        return []
    if state.outcomes_judged == judged:
        return []
    failed = [result for result in judged.results if result.verdict == "fail" and not result.advisory]
    known = {*state.confirmed_gates, *(state.doubt.gates if state.doubt else ())}
    if {result.gate for result in failed} <= known:
        return [judged]
    reopened = PromotionReopened(
        release=judged.release,
        cause="; ".join(f"{result.gate}: {result.reason}" for result in failed),
        gates=tuple(result.gate for result in failed),
    )
    return [judged, reopened]


def confirm(state: EndpointState, *, release: str | None, reviewer: str, note: str) -> list[Event]:
    """A person keeps the release in spite of its labels; nothing, where no promotion is in doubt.

    :param release: the one that was looked at; ``None``: whichever is in doubt.
    :raises IllegalTransition: another one is in doubt, or it is being rolled back.
    """
    doubt = state.doubt
    if doubt is None:
        return []
    if release is not None and release != doubt.release:
        raise IllegalTransition(
            f"promotion of {release} on {state.endpoint}",
            value="accept",
            limit=f"{doubt.release} is in doubt",
            remedy=f"look at its numbers first: mlpipex labels performance {state.endpoint}",
        )
    if state.rollback is not None and state.rollback.from_release == doubt.release:
        raise IllegalTransition(
            f"promotion of {doubt.release} on {state.endpoint}",
            value="accept",
            limit="it is being rolled back",
            remedy="release it again, if it was better than what is served now",
        )
    return [PromotionConfirmed(release=doubt.release, reviewer=reviewer, note=note)]


def require_no_doubt(state: EndpointState, model: ModelVersion) -> None:
    """:raises PromotionInDoubt: labels have reopened a promotion of ``model``, and nobody has decided."""
    doubt, current = state.doubt, state.current
    if doubt is None or current is None or (current.model.name, current.model.version) != (model.name, model.version):
        return
    raise PromotionInDoubt(
        f"model {model.name} {model.version}",
        value=doubt.cause,
        limit=f"late labels have reopened its promotion on {state.endpoint}, and a person decides",
        remedy=f"mlpipex rollback {state.endpoint} ends it, or mlpipex labels confirm {state.endpoint} keeps it",
    )
