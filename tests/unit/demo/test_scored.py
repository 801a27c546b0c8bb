"""Step 13 of the demo: what must have been seen, and what it would not let pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_mlpipex.demo.scene import Run, Scene
from airflow_provider_mlpipex.demo.scored import COLUMN, ENDPOINT, DriftFacts
from airflow_provider_mlpipex.domain.rollout.events import DriftJudged
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support.factories import ORIGIN

HONEST, FAULTY = (Run(run_id=name, state="success", tasks={}) for name in ("run-1", "run-2"))
SPOILED, SOUND = ({"inputs": {COLUMN: departs, "hour": 18}} for departs in (1830, 1110))


def batch(**changes: Any) -> dict[str, Any]:
    named = {"shares": {COLUMN: 0.98}, "sent": {"run_id": "run-2", "digest": "b"}, "sample": [SPOILED, SPOILED]}
    return {**named, **changes}


SEEN = DriftFacts(
    honest=HONEST,
    faulty=FAULTY,
    digests={"run-1": "a", "run-2": "b"},
    alarms=[[], [COLUMN]],
    batches=[{"shares": {"temp": 1.0}, "sent": None, "sample": []}, batch()],
    alerts=[f"drift of {COLUMN}"],
)


def test_the_batch_is_found_by_the_run_that_sent_it() -> None:
    assert SEEN.ok and SEEN.carried == 0.98


@pytest.mark.parametrize(
    "changes",
    [
        {"faulty": replace(FAULTY, state="failed")},
        {"alarms": [[COLUMN], [COLUMN]]},
        {"alarms": [[], []]},
        {"alarms": [[], [COLUMN, "temp"]]},
        {"alarms": [[COLUMN]]},
        {"alarms": []},
        {"batches": []},
        {"batches": [batch(sent=None)]},
        {"batches": [batch(sent={"run_id": "run-1", "digest": "a"})]},
        {"batches": [batch(sent={"run_id": "run-2", "digest": "of other rows"})]},
        {"batches": [batch(shares={COLUMN: 0.5})]},
        {"batches": [batch(sample=[])]},
        {"batches": [batch(sample=[SPOILED, SOUND])]},
        {"alerts": []},
    ],
    ids=str,
)
def test_anything_else_is_a_failed_step(changes: dict[str, Any]) -> None:
    assert not replace(SEEN, **changes).ok


def test_a_look_at_drift_without_news_is_seen_as_well() -> None:
    """It decides nothing, and stands beside the chain."""
    platform = memory_platform()
    scene = object.__new__(Scene)
    scene.platform = platform
    now = platform.clock.now()
    looks = [
        DriftJudged(release="1.0.0", since=now, until=now, verdict=verdict, reason="", facts={"raising": raising})
        for verdict, raising in (("pass", []), ("fail", [COLUMN]))
    ]
    platform.ledger.record(ENDPOINT, looks[0], origin=ORIGIN)
    platform.clock.advance(1.0)
    platform.ledger.append(ENDPOINT, expected_seq=0, events=[looks[1]], origin=ORIGIN)
    assert [fact.event for fact in scene.facts(ENDPOINT, since=now.timestamp())] == looks
