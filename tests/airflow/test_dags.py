"""The reference Dags: they load, cheaply; a manifest that is broken says so; and every step of a release is a task."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_mlpipex.manifest_files import FOLDER_VARIABLE, load_manifest_file
from tests.support.airflow_home import DAGS
from tests.support.manifests import edited

HEAVY = ("mlflow", "great_expectations", "evidently", "pandas", "kubernetes", "fastapi", "sklearn", "duckdb")
#: What runs in tasks. A release Dag that reads it while it is parsed takes a third longer than plain Bash operators.
VERBS = tuple(
    f"airflow_provider_mlpipex.{part}" for part in ("services", "adapters", "serving", "composition", "triggers")
)
RELEASE = "release__flight_delay"
REFERENCE = [
    "drift__production__flight_delay",
    "drill",
    "quality__flight_delay",
    "release__flight_delay",
    "retrain__flight_delay",
    "rollback",
    "watch",
]


def load(folder: Path = DAGS) -> DagBag:
    return DagBag(dag_folder=str(folder))


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return load()


@pytest.fixture(scope="module")
def release(bag: DagBag) -> DAG:
    return bag.dags[RELEASE]


@pytest.fixture
def manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of our own that the reference Dags are made from; it holds one manifest that works."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "fraud.yaml").write_text(edited(), encoding="utf-8")
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    return folder


def test_the_reference_dags_load_and_are_these(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert sorted(bag.dags) == REFERENCE


@pytest.mark.parametrize("dag_id", REFERENCE)
def test_each_survives_serialisation(bag: DagBag, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    written = DagSerialization.to_dict(dag)
    read = DagSerialization.from_dict(written)
    assert sorted(read.task_ids) == sorted(dag.task_ids)
    for task_id in dag.task_ids:
        before, after = dag.get_task(task_id), read.get_task(task_id)
        assert after.downstream_task_ids == before.downstream_task_ids
        assert (after.retries, after.retry_delay, after.is_teardown) == (
            before.retries,
            before.retry_delay,
            before.is_teardown,
        )
    # Read and written once more it is the same, so Airflow does not see a new version at every parse.
    assert written == DagSerialization.to_dict(load().dags[dag_id])


@pytest.mark.parametrize("file", sorted(path.name for path in DAGS.glob("*.py")))
def test_parsing_a_dag_file_imports_nothing_heavy(file: str) -> None:
    code = (
        f"import runpy, sys; runpy.run_path({str(DAGS / file)!r}); "
        f"heavy = set({HEAVY}) & set(sys.modules); assert not heavy, heavy; "
        f"verbs = [name for name in sys.modules if name.startswith({VERBS})]; assert not verbs, verbs"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("dag_id", [dag_id for dag_id in REFERENCE if dag_id.startswith(("watch", "retrain", "drift"))])
def test_what_has_a_schedule_will_run(bag: DagBag, dag_id: str) -> None:
    scheduled = DagSerialization.from_dict(DagSerialization.to_dict(bag.dags[dag_id]))
    assert scheduled.next_dagrun_info(last_automated_run_info=None) is not None
    assert scheduled.max_active_runs == 1
    assert not scheduled.catchup


# What a release consists of.


def test_every_environment_and_every_canary_step_is_a_visible_task(release: DAG) -> None:
    production = [task_id.split(".")[1] for task_id in release.task_ids if task_id.startswith("production.")]
    assert set(release.task_dict) - {f"production.{task_id}" for task_id in production} == {
        "model.snapshot",
        "model.train",
        "model.register",
        "development.gates",
        "development.review",
        "development.promote",
        "development.end_trial",
        "staging.gates",
        "staging.review",
        "staging.promote",
        "staging.watch",
        "staging.end_trial",
    }
    in_order = [
        "gates",
        "review",
        "shadow",
        "shadow_watch",
        "canary_5",
        "canary_5_watch",
        "canary_25",
        "canary_25_watch",
        "canary_50",
        "canary_50_watch",
        "canary_100",
        "canary_100_watch",
        "promote",
        "watch",
    ]
    assert set(production) == {*in_order, "end_trial"}
    for before, after in zip(in_order, in_order[1:], strict=False):
        assert f"production.{after}" in release.get_task(f"production.{before}").downstream_task_ids


def test_a_manifest_that_drops_its_review_keeps_the_task_that_answers_that_of_the_one_in_force(manifests: Path) -> None:
    written = edited()
    block = written[written.index("    review:") : written.index("    shadow:")]
    (manifests / "fraud.yaml").write_text(edited((block, "")), encoding="utf-8")
    tasks = load().dags["release__fraud_scorer"].task_dict
    for environment in ("staging", "production"):
        assert tasks[f"{environment}.review"].upstream_task_ids == {f"{environment}.gates"}
    assert tasks["production.shadow"].upstream_task_ids == {"production.review"}


def test_canary_steps_follow_the_manifest(manifests: Path) -> None:
    (manifests / "fraud.yaml").write_text(
        edited(("steps: [5%, 50%, 100%]", "steps: [2.5%, 100%]"), ("step_duration: 15m", "step_duration: 30m")),
        encoding="utf-8",
    )
    tasks = load().dags["release__fraud_scorer"].task_dict
    steps = {task_id: task.step for task_id, task in tasks.items() if "canary" in task_id}
    assert steps == {
        "production.canary_2_5": 0,
        "production.canary_2_5_watch": 0,
        "production.canary_100": 1,
        "production.canary_100_watch": 1,
    }


def test_a_heavier_step_of_an_exposure_budget_is_looked_at_more_often(manifests: Path) -> None:
    (manifests / "fraud.yaml").write_text(
        edited(
            ("step_duration: 15m", "exposure: {max_bad: 60, effect: 5%}"),
            ("zero critical errors in a 30-minute canary window", "at most 900 critical errors"),
        ),
        encoding="utf-8",
    )
    tasks = load().dags["release__fraud_scorer"].task_dict
    pokes = [tasks[f"production.canary_{share}_watch"].poke_interval for share in (5, 50, 100)]
    assert pokes == sorted(pokes, reverse=True) and pokes[0] > pokes[-1]


def test_environments_follow_one_another_and_each_ends_with_a_teardown(release: DAG) -> None:
    assert "staging.gates" in release.get_task("development.promote").downstream_task_ids
    assert "production.gates" in release.get_task("staging.watch").downstream_task_ids
    for environment in ("development", "staging", "production"):
        teardown = release.get_task(f"{environment}.end_trial")
        assert teardown.is_teardown
        assert teardown.only_open
        assert teardown.trigger_rule == "all_done_setup_success"
        # Whatever becomes of the teardown, it does not make a failed run a success.
        assert not teardown.downstream_task_ids
        assert not teardown.on_failure_fail_dagrun


def test_every_task_of_a_release_is_retried_within_the_lease_of_a_trial(release: DAG) -> None:
    lease = load_manifest_file(DAGS / "manifests" / "flight-delay.yaml").traffic.lease
    for task in release.tasks:
        assert task.retries >= 2, task.task_id
        waits = [task.retry_delay * task.retry_exponential_backoff**number for number in range(task.retries)]
        assert sum((min(wait, task.max_retry_delay) for wait in waits), timedelta(0)) < lease


def test_waiting_tasks_look_ten_times_a_step_but_neither_madly_nor_rarely(release: DAG) -> None:
    intervals = {task.task_id: task.poke_interval for task in release.tasks if task.task_id.endswith("watch")}
    assert len(intervals) == 7
    assert all(1.0 <= interval <= 15.0 for interval in intervals.values())


def test_the_review_waits_as_long_as_the_manifest_says(release: DAG) -> None:
    manifest = load_manifest_file(DAGS / "manifests" / "flight-delay.yaml")
    review = manifest.environments["production"].review
    assert review is not None
    task: Any = release.get_task("production.review")
    assert task.response_timeout == review.timeout == timedelta(hours=24)
    # A deadline of the run itself would cut the waiting short.
    assert task.execution_timeout is None


@pytest.mark.parametrize(("window", "every"), [("10m", timedelta(minutes=10)), ("7d", timedelta(hours=1))])
def test_drift_is_looked_at_every_hour_or_as_often_as_its_window_is_long(
    manifests: Path, window: str, every: timedelta
) -> None:
    assert not any(dag_id.startswith("drift") for dag_id in load().dags)
    block = f"    drift: {{window: {window}}}\n    alerts: {{on"
    (manifests / "fraud.yaml").write_text(edited(("    alerts: {on", block)), encoding="utf-8")
    dag = load().dags["drift__production__fraud_scorer"]
    assert dag.schedule == every
    assert dag.get_task("check").endpoint == "production/fraud-scorer"


def test_a_pinned_model_is_looked_up_and_not_retrained(manifests: Path) -> None:
    text = edited(("version: auto", "version: 1.2.3"))
    (manifests / "fraud.yaml").write_text(text, encoding="utf-8")
    dags = load().dags
    assert "retrain__fraud_scorer" not in dags
    assert [task_id for task_id in dags["release__fraud_scorer"].task_ids if task_id.startswith("model.")] == [
        "model.register"
    ]


def test_retraining_triggers_a_release_that_exists(bag: DagBag) -> None:
    assert bag.dags["retrain__flight_delay"].get_task("release").trigger_dag_id in bag.dags


# What happens to manifests that cannot work.


def write_broken(folder: Path) -> None:
    (folder / "broken.yaml").write_text(edited(("canary", "canari")), encoding="utf-8")


def test_a_broken_manifest_becomes_a_dag_that_says_what_is_wrong(manifests: Path) -> None:
    write_broken(manifests)
    bag = load()
    assert bag.import_errors == {}
    broken = bag.dags["release__broken"]
    assert "manifest-invalid" in broken.tags
    assert f"{manifests / 'broken.yaml'}:" in broken.doc_md
    assert "did you mean canary?" in broken.doc_md
    task: Any = broken.get_task("read_manifest")
    with pytest.raises(Exception, match="did you mean canary"):
        task.python_callable()
    DagSerialization.from_dict(DagSerialization.to_dict(broken))


def test_a_broken_manifest_takes_nothing_from_the_others(manifests: Path) -> None:
    before = load().dags
    write_broken(manifests)
    after = load().dags
    assert set(after) == {*before, "release__broken"}
    assert after["release__fraud_scorer"].task_ids == before["release__fraud_scorer"].task_ids


def file_names() -> Iterator[Any]:
    yield pytest.param("fraud-scorer.yaml", "release__fraud_scorer__invalid", id="the name of another")
    yield pytest.param("my manifest (copy).yaml", "release__my_manifest__copy_", id="not a Dag id")
    yield pytest.param("other.yml", "release__other", id="another ending")


@pytest.mark.parametrize(("file", "dag_id"), list(file_names()))
def test_whatever_a_broken_file_is_called(manifests: Path, file: str, dag_id: str) -> None:
    (manifests / file).write_text("name: [", encoding="utf-8")
    bag = load()
    assert bag.import_errors == {}
    assert "manifest-invalid" in bag.dags[dag_id].tags
    assert "manifest-invalid" not in bag.dags["release__fraud_scorer"].tags


def test_two_manifests_of_one_name_are_not_both_released(manifests: Path) -> None:
    (manifests / "second.yaml").write_text(edited(("team: risk", "team: other")), encoding="utf-8")
    dags = load().dags
    assert "fraud.yaml has it" in dags["release__second"].doc_md
    assert "model.train" in dags["release__fraud_scorer"].task_ids


def test_without_a_folder_of_manifests_the_others_say_so_and_rollback_and_watch_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "nowhere"))
    bag = load()
    assert sorted(bag.dags) == ["rollback", "watch"]
    others = {"drift.py", "drill.py", "quality.py", "release.py", "retrain.py"}
    assert {Path(file).name for file in bag.import_errors} == others
    assert all(f"folder of manifests {tmp_path / 'nowhere'}" in error for error in bag.import_errors.values())


def test_the_rollback_form_opens_empty_and_suggests_what_serves_production_first(bag: DagBag) -> None:
    params = bag.dags["rollback"].params
    endpoint = params.get_param("endpoint")
    assert not endpoint.has_value and not params.get_param("cause").has_value
    assert params.get_param("release").value is None
    # Development serves nobody.
    assert endpoint.schema["examples"] == ["production/flight-delay", "staging/flight-delay"]
    assert not bag.dags["rollback"].is_paused_upon_creation
