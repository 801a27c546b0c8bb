"""What a stored plan says stays what it said."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from tests.support.factories import make_release

OLD, NEW, OLDER = (make_release(version).id for version in ("1.9.0", "1.10.0", "1.8.2"))
#: As version 0 of the provider wrote it into ledgers and state files.
STORED = {
    "endpoint": "production/fraud-scorer",
    "current": "1.9.0-rt1.0.0-00000001",
    "candidate": "1.10.0-rt1.0.0-00000002",
    "candidate_weight": 500,
    "control": None,
    "control_weight": 0,
    "mirror": None,
    "sticky_header": "x-user-id",
    "lease_s": 60.0,
}


def test_a_plan_from_before_timeouts_and_fallbacks_reads_back_to_its_own_text_and_id() -> None:
    plan = TrafficPlan.model_validate(STORED)
    assert plan.to_json() == STORED
    # Taken of the version that wrote such plans: entries name plans by it.
    assert plan.id == "22287fe6805d105e"


def test_a_timeout_or_a_fallback_makes_another_plan() -> None:
    plans = [
        TrafficPlan.model_validate({**STORED, **changes})
        for changes in ({}, {"timeout_s": 2.0}, {"timeout_s": 3.0}, {"fallback": OLDER})
    ]
    assert len({plan.id for plan in plans}) == 4


def test_only_current_keeps_who_stands_behind_it() -> None:
    plan = TrafficPlan.model_validate({**STORED, "timeout_s": 3.0, "fallback": OLDER}).only_current()
    assert (plan.candidate, plan.lease_s, plan.timeout_s, plan.fallback) == (None, None, 3.0, OLDER)


@pytest.mark.parametrize("fallback", [STORED["current"], STORED["candidate"]])
def test_nobody_stands_behind_itself(fallback: str) -> None:
    with pytest.raises(ValidationError, match="cannot answer for itself"):
        TrafficPlan.model_validate({**STORED, "fallback": fallback})
