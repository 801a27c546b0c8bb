"""Promotions that labels reopen, as pure decisions and as a fold."""

from __future__ import annotations

import pytest

from airflow_provider_mlpipex.domain.errors import PromotionInDoubt
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.verdict import GateResult, VerdictName
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import EVENT, OutcomesJudged, PromotionConfirmed, PromotionReopened
from airflow_provider_mlpipex.domain.rollout.fold import fold
from airflow_provider_mlpipex.domain.rollout.promotion_doubt import confirm, record_outcomes, require_no_doubt
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, PromotionDoubt
from airflow_provider_mlpipex.domain.values import canonical_json
from tests.support.factories import NOON, ORIGIN, make_model, make_release

ENDPOINT = EndpointRef.parse("production/fraud-scorer")
CURRENT = make_release("1.1.0")
DOUBT = PromotionDoubt(release=CURRENT.id, cause="auc: too low", gates=("auc",), since=NOON)


def state(**changes: object) -> EndpointState:
    return EndpointState(endpoint=ENDPOINT, current=CURRENT, seq=7).model_copy(update=changes)


def judged(*, release: str = CURRENT.id, advisory: bool = False, **verdicts: VerdictName) -> OutcomesJudged:
    results = [
        GateResult(
            gate=gate,
            verdict=verdict,
            advisory=advisory,
            rule=f"outcomes.{gate}",
            evidence=Evidence(source="outcomes", metric=gate, value=0.6, samples=500, since=NOON, until=NOON),
            reason="too low",
        )
        for gate, verdict in verdicts.items()
    ]
    return OutcomesJudged(release=release, since=NOON, until=NOON, rows=500, verdict="fail", results=tuple(results))


def test_a_failure_reopens_and_says_why() -> None:
    seen = judged(auc="fail", recall="pass", brier="fail")
    assert record_outcomes(state(), judged=seen) == [
        seen,
        PromotionReopened(release=CURRENT.id, cause="auc: too low; brier: too low", gates=("auc", "brier")),
    ]


@pytest.mark.parametrize("verdict", ["pass", "inconclusive", "error"])
def test_nothing_else_reopens(verdict: VerdictName) -> None:
    seen = judged(auc=verdict)
    assert record_outcomes(state(), judged=seen) == [seen]
    advisory = judged(auc="fail", advisory=True)
    assert record_outcomes(state(), judged=advisory) == [advisory]


def test_what_was_said_before_is_not_said_again() -> None:
    seen = judged(auc="fail")
    assert record_outcomes(state(outcomes_judged=seen, doubt=DOUBT), judged=seen) == []


@pytest.mark.parametrize("known", [{"doubt": DOUBT}, {"confirmed_gates": ("auc",)}])
def test_a_gate_that_was_told_or_confirmed_does_not_reopen(known: dict[str, object]) -> None:
    seen = judged(auc="fail")
    assert record_outcomes(state(**known), judged=seen) == [seen]
    more = judged(auc="fail", recall="fail")
    assert record_outcomes(state(**known), judged=more)[1:] == [
        PromotionReopened(release=CURRENT.id, cause="auc: too low; recall: too low", gates=("auc", "recall"))
    ]


def test_what_failed_first_stays_in_doubt_beside_what_fails_later() -> None:
    recall = record_outcomes(state(doubt=DOUBT), judged=judged(recall="fail", auc="pass"))
    again = fold(ENDPOINT, hash_chain.extend(ENDPOINT, None, recall, now=NOON, origin=ORIGIN), state(doubt=DOUBT))
    assert again.doubt is not None and (again.doubt.gates, again.doubt.notified) == (("auc", "recall"), False)
    kept = confirm(again, release=None, reviewer="ada", note="")
    after = fold(ENDPOINT, hash_chain.extend(ENDPOINT, None, kept, now=NOON, origin=ORIGIN), again)
    assert (after.doubt, after.confirmed_gates) == (None, ("auc", "recall"))


def test_who_is_not_current_is_not_judged() -> None:
    assert record_outcomes(state(), judged=judged(release=make_release("1.0.0").id, auc="fail")) == []
    assert record_outcomes(EndpointState(endpoint=ENDPOINT), judged=judged(auc="fail")) == []


def test_only_a_doubt_is_confirmed() -> None:
    assert confirm(state(), release=None, reviewer="ada", note="") == []
    assert confirm(state(doubt=DOUBT), release=CURRENT.id, reviewer="ada", note="seen") == [
        PromotionConfirmed(release=CURRENT.id, reviewer="ada", note="seen")
    ]


def test_only_the_model_in_doubt_waits() -> None:
    require_no_doubt(state(), CURRENT.model)
    require_no_doubt(state(doubt=DOUBT), make_model("1.2.0"))
    require_no_doubt(state(doubt=DOUBT), make_model("1.1.0", name="another"))
    with pytest.raises(PromotionInDoubt, match="auc: too low"):
        require_no_doubt(state(doubt=DOUBT), make_release("1.1.0", runtime="2.0.0").model)


def test_the_events_come_back_as_they_were_written() -> None:
    for event in (
        judged(auc="fail"),
        PromotionReopened(release=CURRENT.id, cause="auc", gates=("auc",)),
        PromotionConfirmed(release=CURRENT.id, reviewer="ada"),
    ):
        read = EVENT.validate_json(canonical_json(event.to_json()))
        assert read == event and canonical_json(read.to_json()) == canonical_json(event.to_json())
