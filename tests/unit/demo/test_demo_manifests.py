"""The manifests that the demo plays can work, and the report shows what the story needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_mlpipex.demo import flight_features, flights, keyed, story
from airflow_provider_mlpipex.demo.report import Report
from airflow_provider_mlpipex.demo.traffic import Answer, LiveTraffic
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.manifest_files import load_manifest_file
from tests.support.terminal import run

FOLDER = Path(story.__file__).parent
MANIFESTS = sorted(FOLDER.glob("*.yaml"))


def manifest_of(dag_id: str) -> Manifest:
    found = {f"release__{m.name}".replace("-", "_"): m for m in map(load_manifest_file, MANIFESTS)}
    return found[dag_id]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_is_valid_and_each_of_its_gates_can_block(path: Path) -> None:
    assert run("manifest", "validate", path).exit_code == 0
    assert run("plan", path).exit_code == 0
    proven = run("gates", "prove", path)
    assert proven.exit_code == 0, proven.stdout


def test_the_control_arm_can_tell_an_outage_within_the_watch() -> None:
    production = manifest_of(story.DAG_ID).environments["production"]
    assert production.rollback is not None and production.rollback.control
    planned = run("plan", FOLDER / "flight-delay.yaml", "--environment", "production").stdout
    assert "an outage of both releases shows in the control arm after 1 s" in planned


def test_critical_errors_are_judged_over_more_than_one_step_of_the_canary() -> None:
    canary = manifest_of(story.DAG_ID).environments["production"].canary
    assert canary is not None and canary.step_duration is not None
    spanning = [gate for gate in canary.gates if gate.window is not None]
    assert [gate.window for gate in spanning] == [3 * canary.step_duration]


def test_the_keyed_manifest_asks_for_what_the_repository_has() -> None:
    manifest = manifest_of(keyed.DAG_ID)
    assert set(manifest.features.columns) <= set(flight_features.FEATURES)
    assert manifest.features.parity is not None
    learned = manifest.data.window.train + manifest.data.window.evaluate
    assert keyed.KNOWN[0] + flight_features._OBSERVED[0] <= keyed.AS_OF - learned
    # The newest rows of the snapshot are those that parity asks for.
    assert len(flights.load(*keyed.ONLINE)) >= 4 * manifest.features.parity.rows


def test_the_flight_that_a_client_asks_for_is_online_and_its_weather_is_known() -> None:
    flight, temperature = keyed._flight()
    row = flights.load(*keyed.ONLINE).set_index("flight_id").loc[flight]
    hour_before = flights.weather().set_index(["origin", "time_hour"])["temp"]
    assert temperature == hour_before[(row.origin, row.time_hour - flight_features._OBSERVED[1])]


def test_answers_are_counted_by_who_gave_them_and_when() -> None:
    traffic = LiveTraffic.__new__(LiveTraffic)
    traffic._answers = [
        Answer(sent, sent + 0.1, status, release)
        for sent, status, release in [
            (0, 500, "old"),
            (1, 200, "old"),
            (2, 500, "new"),
            (2, 500, "old"),
            (9, 200, "old"),
        ]
    ]
    assert traffic.answered_by("old", since=1, until=5) == {"sent": 2, "failed": 1}


def test_a_release_that_is_current_still_is_shown_as_such() -> None:
    tenures = {"production/x": [{"since": "2026-01-01T10:00:00+00:00", "until": None, "release": "1.0.0"}]}
    assert "10:00:00 – now       1.0.0" in Report(tenures=tenures).summary()
