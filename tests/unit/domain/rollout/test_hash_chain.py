"""Whatever is done to a chain, verification finds it."""

from __future__ import annotations

import json
import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.errors import LedgerTampered
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised, Entry, GatesJudged, Origin
from tests.support.factories import NOON, ORIGIN

ENDPOINT = EndpointRef.parse("production/flight-delay")


def make_chain(titles: list[str]) -> list[Entry]:
    return hash_chain.extend(ENDPOINT, None, [AlertRaised(title=title) for title in titles], now=NOON, origin=ORIGIN)


CHAINS = st.lists(st.text(max_size=20), min_size=2, max_size=8).map(make_chain)
MUTATIONS = st.sampled_from(
    [
        {"event": AlertRaised(title="never happened", failures=("x",))},
        {"origin": Origin(kind="cli", user="mallory")},
        {"recorded_at": NOON + timedelta(seconds=1)},
        {"previous_hash": "f" * 64},
        {"hash": "f" * 64},
        {"seq": 77},
        {"endpoint": EndpointRef.parse("staging/flight-delay")},
    ]
)


@given(CHAINS)
def test_an_honest_chain_verifies(entries: list[Entry]) -> None:
    hash_chain.verify(entries)
    hash_chain.verify(entries, expected_head=entries[-1].hash)


@given(CHAINS, st.data(), MUTATIONS)
def test_any_changed_field_is_found(entries: list[Entry], data: st.DataObject, mutation: dict[str, object]) -> None:
    position = data.draw(st.integers(0, len(entries) - 1))
    forged = [*entries]
    forged[position] = entries[position].model_copy(update=mutation)
    with pytest.raises(LedgerTampered):
        hash_chain.verify(forged)


@given(CHAINS, st.data())
def test_a_missing_entry_is_found(entries: list[Entry], data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(entries) - 2))
    with pytest.raises(LedgerTampered, match="missing or was moved"):
        hash_chain.verify(entries[:position] + entries[position + 1 :])


@given(CHAINS, st.data())
def test_a_swap_is_found(entries: list[Entry], data: st.DataObject) -> None:
    one = data.draw(st.integers(0, len(entries) - 2))
    swapped = [*entries]
    swapped[one], swapped[one + 1] = swapped[one + 1], swapped[one]
    with pytest.raises(LedgerTampered):
        hash_chain.verify(swapped)


@given(CHAINS)
def test_a_cut_tail_is_found_by_whoever_noted_the_head(entries: list[Entry]) -> None:
    with pytest.raises(LedgerTampered, match="cut off"):
        hash_chain.verify(entries[:-1], expected_head=entries[-1].hash)


#: As version 0 wrote it: evidence without the counts behind its value, results without an alpha.
OLD = """
{"endpoint": "production/flight-delay", "seq": 1, "recorded_at": "2026-03-01T12:00:00Z", "origin": {"kind": "test",
"user": "pytest", "dag_id": "", "run_id": "", "task_id": "", "try_number": 0, "trace_id": ""}, "event": {"type":
"gates-judged", "rollout_id": "run-1", "stage": "canary", "verdict": "pass", "results": [{"gate": "errors", "verdict":
"pass", "advisory": false, "rule": "canary.error_rate at most 1%", "evidence": {"source": "canary", "metric":
"error_rate", "value": 0.002, "baseline": null, "samples": 500, "baseline_samples": 0, "since": "2026-03-01T11:50:00Z",
"until": "2026-03-01T12:00:00Z", "broken": null}, "threshold": 0.01, "margin": 0.008, "reason":
"observed 0.2% from 500 samples, threshold at most 1%, 0.8% to spare"}]}, "previous_hash":
"0000000000000000000000000000000000000000000000000000000000000000", "hash":
"ae1d0bd66f57988a03769301b406aa861633a5537ec2be3b467bea91d3dd054e"}
"""


def test_an_entry_that_was_written_before_values_grew_still_verifies() -> None:
    entry = Entry.model_validate_json(OLD)
    hash_chain.verify([entry])
    assert isinstance(entry.event, GatesJudged)
    assert entry.event.results[0].evidence.summary is None


def test_an_interval_without_an_end_can_be_written_and_read_back() -> None:
    judged = GateResult(
        gate="p95",
        verdict="inconclusive",
        rule="canary.latency_p95 at most 120ms",
        evidence=Evidence(source="canary", metric="latency_p95", value=9.0, samples=3, since=NOON, until=NOON),
        alpha=0.01,
        interval=(-math.inf, 119.0),
    )
    event = GatesJudged(rollout_id="run-1", stage="canary", verdict="inconclusive", results=(judged,))
    (entry,) = hash_chain.extend(ENDPOINT, None, [event], now=NOON, origin=ORIGIN)
    text = json.dumps(entry.to_json(), allow_nan=False)
    read = Entry.model_validate_json(text)
    assert read == entry
    hash_chain.verify([read])


@pytest.mark.parametrize(("back", "verifies"), [(timedelta(seconds=1), False), (timedelta(hours=2), True)])
def test_time_steps_back_only_from_an_entry_of_the_future(back: timedelta, verifies: bool) -> None:
    (first,) = make_chain(["a"])
    at = first.recorded_at - back
    second = hash_chain.link(
        endpoint=ENDPOINT,
        seq=2,
        recorded_at=at,
        origin=ORIGIN,
        event=AlertRaised(title="b"),
        previous_hash=first.hash,
    )
    if verifies:
        hash_chain.verify([first, second])
        assert hash_chain.extend(ENDPOINT, first, [AlertRaised(title="b")], now=at, origin=ORIGIN) == [second]
    else:
        with pytest.raises(LedgerTampered, match="not before"):
            hash_chain.verify([first, second])
