"""Offline gates on the quality of the candidate's rows, by real Great Expectations."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_provider_mlpipex.adapters.great_expectations.validator import GxValidator
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, ModelVersion
from airflow_provider_mlpipex.services.evidence import offline as offline_evidence
from airflow_provider_mlpipex.services.rollout import opening
from airflow_provider_mlpipex.services.rollout.opening import GateCheck
from airflow_provider_mlpipex.testing.snapshots import MemorySnapshots
from tests.support.factories import NOON, make_model
from tests.support.manifests import make_manifest
from tests.support.rollouts import ENDPOINT, World

OFFLINE = "      - accuracy within 0.5% of the baseline\n"
SNAPSHOT = "  snapshot:\n    - expect: column_values_to_not_be_null\n      column: amount\n      mostly: 0.99\n"
ROWS = pd.DataFrame(
    {
        "at": pd.date_range(NOON - timedelta(days=10), NOON, freq="h", inclusive="left"),
        "amount": np.arange(240.0),
        "country": ["NL", "BE"] * 120,
    }
)


def manifest(gate: str, block: str = SNAPSHOT) -> Manifest:
    return make_manifest((OFFLINE, f"      - {gate}\n"), (SNAPSHOT, block))


def keep(store: MemorySnapshots, rows: pd.DataFrame = ROWS) -> DatasetSnapshot:
    times: dict[str, Any] = {
        "window_start": NOON - timedelta(days=10),
        "split_at": NOON - timedelta(days=2),
        "window_end": NOON,
    }
    return store.write(rows, name="fraud-scorer", time_column="at", **times)


@pytest.fixture
def world() -> World:
    return World(validator=GxValidator())


def model_on(world: World, rows: pd.DataFrame = ROWS) -> ModelVersion:
    return make_model("1.0.0", name="fraud-scorer").model_copy(update={"dataset": keep(world.memory.snapshots, rows)})


def evidence(world: World, of: Manifest, rows: pd.DataFrame = ROWS) -> dict[str, Evidence]:
    gates = of.environments["production"].gates
    found = offline_evidence.measure(world.platform, of, model_on(world, rows), None, gates=gates)
    return {key: one for key, one in found.items() if one.source == "quality"}


def check(world: World, of: Manifest, model: ModelVersion | None = None) -> GateCheck:
    release = opening.make_release(world.platform, of, model or model_on(world), manifest_dir=Path())
    return opening.check_offline_gates(
        world.platform, endpoint=ENDPOINT, rollout_id="run-1", release=release, manifest=of
    )


def test_rows_are_judged_by_what_the_manifest_expects_today(world: World) -> None:
    block = (
        "  snapshot:\n"
        "    - {expect: column_values_to_be_between, column: amount, max_value: 100}\n"
        "    - {expect: column_values_to_be_in_set, column: country, value_set: [NL], severity: warning}\n"
        "  features:\n"
        "    - {expect: column_values_to_not_be_null, column: amount}\n"
        "    - {expect: table_row_count_to_equal, value: 192}\n"
    )
    found = evidence(world, manifest("quality success_share at least 95%", block))
    assert {key: one.value for key, one in found.items()} == {
        "quality.success_share": 0.5,
        "quality.broken": 1.0,
        "quality.warnings": 1.0,
    }
    one = found["quality.broken"]
    # The features of the 8 days that the model learned from, and all ten days of the snapshot.
    assert (one.samples, one.since, one.until) == (240 + 192, NOON - timedelta(days=10), NOON)


def test_nothing_is_judged_unless_a_gate_asks(world: World) -> None:
    assert evidence(world, make_manifest()) == {}


@pytest.mark.parametrize(
    ("gate", "verdict"),
    [
        ("quality success_share at least 50%", "pass"),
        ("quality success_share at least 51%", "fail"),
        ("zero quality broken", "pass"),
        ("zero quality warnings", "fail"),
        ("{name: clean, metric: quality.broken, max: 0, min_samples: 1000}", "inconclusive"),
    ],
)
def test_an_environment_may_be_stricter_than_the_manifest(world: World, gate: str, verdict: str) -> None:
    block = (
        "  snapshot:\n"
        "    - {expect: column_values_to_be_in_set, column: country, value_set: [NL], severity: warning}\n"
        "    - {expect: column_values_to_not_be_null, column: amount}\n"
    )
    found = check(world, manifest(gate, block))
    assert (found.verdict, len(found.results)) == (verdict, 1)


def test_rows_that_are_gone_are_an_error_and_never_a_pass(world: World) -> None:
    of = manifest("zero quality broken")
    model = model_on(world)
    world.memory.snapshots.tables.clear()
    found = check(world, of, model)
    assert found.verdict == "error"
    assert "could not be measured: snapshot" in found.results[0].reason


def test_a_column_that_the_old_rows_lack_is_broken(world: World) -> None:
    block = "  key: payment_id\n  snapshot:\n    - {expect: column_values_to_not_be_null, column: currency}\n"
    assert check(world, manifest("zero quality broken", block)).verdict == "fail"
