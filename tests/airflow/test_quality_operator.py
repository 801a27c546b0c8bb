"""QualityCheckOperator on real Great Expectations: a callable's table, a file, a table in a database."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from airflow.sdk import DAG, Connection
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_mlpipex import MlpipexHook, QualityCheckOperator, release_tasks, training_tasks
from airflow_provider_mlpipex.adapters.great_expectations.validator import GxValidator
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, ManifestInvalid, TableUnavailable
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import StageEnded, TaskGateJudged
from airflow_provider_mlpipex.hooks import mlpipex as hooks
from airflow_provider_mlpipex.operators import quality as module
from airflow_provider_mlpipex.testing.platform import MemoryPlatform
from tests.airflow.release_run import PRODUCTION, ReleaseRun, TaskRun
from tests.support.acme import manifest_text
from tests.support.stages import stage_ends

ORDERS = EndpointRef.parse("production/orders")
AMOUNT = {"expect": "column_values_to_be_between", "column": "amount", "min_value": 0}
GOOD = pd.DataFrame({"order_id": ["o0", "o1", "o2"], "amount": [1.0, 2.0, 3.0]})
BAD = GOOD.assign(amount=[1.0, -2.0, -3.0])
BROKEN = "amount: column_values_to_be_between (min_value=0), observed 2 of 3 values break it, for example -2.0, -3.0"


def load_orders(*, bad: bool = False) -> pd.DataFrame:
    return BAD if bad else GOOD


def load_a_list() -> list[int]:
    return [1]


@pytest.fixture
def platform(fakes: MemoryPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryPlatform:
    """Great Expectations itself, and fakes for the rest."""
    real = replace(fakes, validator=GxValidator(tmp_path / "quality"))  # type: ignore[arg-type]
    monkeypatch.setattr(MlpipexHook, "platform", lambda self, origin: real.acting_as(origin))
    return fakes


@pytest.fixture
def database(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    engine = sa.create_engine(url)
    GOOD.to_sql("orders", engine, index=False)
    BAD.to_sql("returns", engine, index=False)
    engine.dispose()
    return url


def check(task: TaskRun | None = None, **parameters: Any) -> dict[str, Any]:
    parameters = {"expectations": [AMOUNT], "endpoint": str(ORDERS), **parameters}
    task = task or TaskRun("check_orders")
    result = QualityCheckOperator(task_id=task.task_id, **parameters).execute(task.context)
    return dict(json.loads(json.dumps(result)))


def refusal(task: TaskRun | None = None, **parameters: Any) -> str:
    with pytest.raises(AirflowFailException) as failed:
        check(task, **parameters)
    return str(failed.value)


def last_stage(platform: MemoryPlatform, endpoint: EndpointRef = ORDERS) -> StageEnded:
    return stage_ends(platform.ledger, endpoint)[-1]


@pytest.mark.parametrize("load", [load_orders, f"{__name__}:load_orders", lambda: GOOD])
def test_what_a_callable_returns_is_judged(platform: MemoryPlatform, load: Any) -> None:
    result = check(load=load)
    assert {name: result[name] for name in ("rows", "judged", "warnings")} == {"rows": 3, "judged": 1, "warnings": 0}
    assert result["subject"].startswith("table of ")
    assert Path(result["results"]).is_file()


def test_a_broken_table_fails_the_task_with_the_whole_sentence(platform: MemoryPlatform) -> None:
    task = TaskRun("orders.check_all")
    told = refusal(task, load=load_orders, load_kwargs={"bad": True}, key="order_id")
    assert f"{BROKEN} in order_id=o1, order_id=o2" in told
    assert "the whole result: " in told and "runbook: data-quality-failed" in told
    report = task.xcoms["quality"]
    assert (report["rows"], report["judged"], report["broken"][0]["keys"]) == (3, 1, ["order_id=o1", "order_id=o2"])
    ended = last_stage(platform)
    assert (ended.stage, ended.outcome) == ("quality", "failed")
    assert ended.error is not None and ended.error["error"] == "DataQualityFailed"
    assert (ended.facts["quality_broken"], ended.facts["quality_page"]) == (1, report["results"])
    assert "/orders/validations/orders-check-all/" in report["results"]


def test_the_report_is_in_xcom_when_all_is_well_too(platform: MemoryPlatform) -> None:
    task = TaskRun("check_orders")
    check(task, load=load_orders)
    assert (task.xcoms["quality"]["judged"], task.xcoms["quality"]["broken"]) == (1, [])
    assert last_stage(platform).facts["quality_judged"] == 1


def test_a_warning_is_told_and_fails_nothing(platform: MemoryPlatform) -> None:
    task = TaskRun("check_orders")
    result = check(task, load=lambda: BAD, expectations=[{**AMOUNT, "severity": "warning"}])
    assert (result["warnings"], len(task.xcoms["quality"]["broken"])) == (1, 1)


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_a_file_is_judged(platform: MemoryPlatform, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"orders{ending}"
    BAD.to_parquet(path) if ending == ".parquet" else BAD.to_csv(path, index=False)
    assert BROKEN in refusal(path=str(path))


def test_a_file_that_is_not_there_yet_is_left_to_a_retry(platform: MemoryPlatform, tmp_path: Path) -> None:
    with pytest.raises(TableUnavailable, match="No such file"):
        check(path=str(tmp_path / "later.parquet"))


def test_a_table_is_judged_where_it_lives(platform: MemoryPlatform, database: str) -> None:
    assert check(table="orders", sql_url=database)["rows"] == 3
    told = refusal(table="returns", sql_url=database, key=["order_id"])
    assert f"{BROKEN} in order_id=o1, order_id=o2" in told
    assert "table returns, 3 rows" in told


def test_an_airflow_connection_leads_to_the_table(
    platform: MemoryPlatform, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = json.dumps({"conn_type": "sqlite", "host": database.removeprefix("sqlite:///")})
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", where)
    assert check(table="orders", sql_conn_id="shop", schema="main")["subject"] == "table main.orders"


def test_a_database_that_is_away_is_left_to_a_retry(platform: MemoryPlatform) -> None:
    with pytest.raises(TableUnavailable):
        check(table="orders", sql_url="sqlite:////no/such/folder/shop.db")


def test_a_missing_table_and_odd_names_are_refused(platform: MemoryPlatform, database: str) -> None:
    assert "no such table: invoices" in refusal(table="invoices", sql_url=database)
    assert "a name without quotes" in refusal(table='orders"; --', sql_url=database)


def test_the_expectations_of_a_manifest_are_used(platform: MemoryPlatform, tmp_path: Path) -> None:
    manifest = tmp_path / "fraud.yaml"
    block = "quality:\n  key: order_id\n  features: [{expect: column_values_to_not_be_null, column: amount}]\n"
    manifest.write_text(manifest_text(("quality:\n", block)), encoding="utf-8")
    given = {"manifest": str(manifest), "expectations": None, "endpoint": None, "load": load_orders}
    assert check(**given)["judged"] == 1
    assert last_stage(platform, EndpointRef.parse("staging/fraud-scorer")).stage == "quality"
    missing = GOOD.assign(amount=[1.0, None, 3.0])
    told = refusal(**{**given, "load": lambda: missing, "block": "features"})
    assert "1 of 3 values break it, for example nan in order_id=o1" in told
    assert "no expectations" in refusal(**given, block="predictions")


def test_with_a_manifest_alone_the_rows_are_those_that_a_snapshot_would_take(
    platform: MemoryPlatform, tmp_path: Path
) -> None:
    manifest = tmp_path / "fraud.yaml"
    manifest.write_text(manifest_text(), encoding="utf-8")
    given = {"manifest": str(manifest), "expectations": None, "endpoint": None}
    result = check(**given, as_of="2026-03-01")
    assert (result["subject"], result["rows"]) == ("dataset fraud-scorer as of 2026-03-01 00:00", 90 * 24)
    assert platform.snapshots.tables == {}
    manifest.write_text(manifest_text(("column: amount", "column: currency")), encoding="utf-8")
    assert "does not exist" in refusal(**given, as_of="2026-03-01")
    manifest.write_text(manifest_text(("window:", "parameters: {broken: true}\n  window:")), encoding="utf-8")
    told = refusal(**given, as_of="2026-03-01")
    assert "ConnectionError" in told and "acme.py" in told and "the payments table is away" not in told
    assert "ISO 8601" in refusal(**given, as_of="yesterday")


def test_a_table_without_its_key_is_refused(platform: MemoryPlatform) -> None:
    assert "columns order_number" in refusal(load=load_orders, key="order_number")


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (load_a_list, "a pandas DataFrame"),
        (f"{__name__}:no_such_function", "module:function that can be imported"),
        (lambda: GOOD.head(0), "no rows"),
        (lambda: GOOD.drop(columns="amount"), "does not exist"),
        (lambda: GOOD.assign(amount="1"), "could not be judged"),
        (lambda: GOOD.assign(amount=float("nan")), "every value is missing"),
    ],
)
def test_bad_input_is_a_clear_refusal(platform: MemoryPlatform, load: Any, says: str) -> None:
    assert says in refusal(load=load)
    assert last_stage(platform).outcome == "failed"


# What the Dag file says.


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"load": None}, "the table | value: 'none of them'"),
        ({"load": load_orders, "path": "orders.parquet", "manifest": "m.yaml", "expectations": None}, "load, path"),
        ({"load": load_orders, "path": "orders.parquet"}, "the table | value: 'load, path'"),
        ({"load": None, "table": "orders"}, "exactly one of sql_conn_id, sql_url"),
        ({"load": None, "table": "orders", "sql_url": "sqlite://", "sql_conn_id": "shop"}, "the database"),
        ({"load": load_orders, "manifest": "m.yaml"}, "the expectations | value: 'expectations, manifest'"),
        ({"load": load_orders, "expectations": None}, "the expectations | value: 'none of them'"),
        ({"load": load_orders, "endpoint": None}, "neither endpoint nor manifest"),
    ],
)
def test_a_dag_file_that_could_never_work_does_not_parse(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationInvalid) as refused:
        check(**parameters)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("expectations", "says"),
    [
        ([], "at least one"),
        ([{**AMOUNT, "expect": "column_values_to_be_betwen"}], "did you mean column_values_to_be_between?"),
        ([{**AMOUNT, "minimum": 0}], "minimum"),
        ([AMOUNT, {"column": "amount"}], "1.expect: Field required"),
    ],
)
def test_a_wrong_expectation_does_not_parse(expectations: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        check(load=load_orders, expectations=expectations)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("task_id", "folder"),
    [
        ("check", "check"),
        ("orders.check_all", "orders-check-all"),
        ("1st__check", "check-1st-check"),
        ("__", "check"),
        ("x" * 200, "x" * 50),
    ],
)
def test_a_task_id_is_a_folder_name(task_id: str, folder: str) -> None:
    assert module._file_name(task_id) == folder


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        (
            {"conn_type": "postgres", "host": "db", "port": 5432, "login": "u", "password": "p@ss", "schema": "shop"},
            "postgresql+psycopg://u:p%40ss@db:5432/shop",
        ),
        ({"conn_type": "sqlite", "host": "/var/shop.db"}, "sqlite:////var/shop.db"),
        ({"conn_type": "sqlite"}, "sqlite://"),
        ({"conn_type": "trino", "host": "t", "login": "u"}, "trino://u@t"),
        (
            {
                "conn_type": "postgres",
                "host": "db",
                "extra": json.dumps(
                    {"sqlalchemy_driver": "postgresql+psycopg2", "sqlalchemy_query": {"sslmode": "require"}}
                ),
            },
            "postgresql+psycopg2://db?sslmode=require",
        ),
    ],
)
def test_a_connection_is_an_url(fields: dict[str, Any], url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[str] = []
    monkeypatch.setattr(hooks, "mask_secret", masked.append)
    assert hooks.url_of(Connection(conn_id="shop", **fields)) == url
    assert masked == ([fields["password"]] if "password" in fields else [])


def releasing_dag(path: Path, **parameters: Any) -> tuple[DAG, QualityCheckOperator]:
    """A Dag that releases the manifest at ``path`` and checks a table, the two not chained."""
    with DAG("release", schedule=None) as dag:
        release_tasks(str(path), registered=training_tasks(str(path)))
        made = QualityCheckOperator(task_id="orders", **{"load": load_orders, "expectations": [AMOUNT], **parameters})
    return dag, made


def in_run(run: ReleaseRun, operator: Any) -> Any:
    operator.rollout_id = run.run_id  # as rendered
    return run.execute(operator)


def open_in(run: ReleaseRun, dag: DAG) -> Any:
    """Open the rollout as the Dag's own task does."""
    gates: Any = dag.get_task("production.gates")
    gates.registered = run.register()
    return in_run(run, gates)


def test_in_a_dag_that_releases_its_endpoint_it_runs_before(manifest: Path) -> None:
    dag, _ = releasing_dag(manifest, endpoint=str(PRODUCTION))
    assert "orders" in dag.get_task("production.gates").upstream_task_ids
    dag, _ = releasing_dag(manifest, endpoint=None, expectations=None, load=None, manifest=str(manifest))
    assert "orders" in dag.get_task("staging.gates").upstream_task_ids
    dag, _ = releasing_dag(manifest, endpoint=str(PRODUCTION), gate=False)
    assert "orders" not in dag.get_task("production.gates").upstream_task_ids


def test_a_release_of_its_dag_waits_for_its_verdict(first: ReleaseRun, platform: MemoryPlatform) -> None:
    dag, made = releasing_dag(first.manifest, endpoint=str(PRODUCTION))
    with pytest.raises(AirflowFailException, match="orders never judged"):
        open_in(first, dag)
    in_run(first, made)
    assert open_in(first, dag)["verdict"] == "pass"
    judged = [e.event for e in first.entries if isinstance(e.event, TaskGateJudged)]
    assert [(event.gate, event.verdict, event.rollout_id) for event in judged] == [("orders", "pass", first.run_id)]


def test_a_failed_check_stops_the_release_of_its_dag_run(first: ReleaseRun, platform: MemoryPlatform) -> None:
    dag, made = releasing_dag(first.manifest, endpoint=str(PRODUCTION), load_kwargs={"bad": True})
    with pytest.raises(AirflowFailException, match="data-quality-failed"):
        in_run(first, made)
    assert last_stage(platform, PRODUCTION).facts["verdict"] == "fail"
    with pytest.raises(AirflowFailException, match="orders failed"):
        open_in(first, dag)
    assert first.state.rollout is None


def test_a_check_that_fails_when_it_is_run_again_ends_the_rollout(first: ReleaseRun, platform: MemoryPlatform) -> None:
    dag, made = releasing_dag(first.manifest, endpoint=str(PRODUCTION))
    in_run(first, made)
    open_in(first, dag)
    assert first.state.rollout is not None
    made.load_kwargs = {"bad": True}
    with pytest.raises(AirflowFailException, match="data-quality-failed"):
        in_run(first, made)
    assert first.state.rollout is None
    assert first.state.results[first.run_id].ending == "rejected"


def test_a_check_that_no_release_waits_for_writes_no_verdict_of_one(
    first: ReleaseRun, platform: MemoryPlatform
) -> None:
    _, ungated = releasing_dag(first.manifest, endpoint=str(PRODUCTION), gate=False)
    in_run(first, ungated)
    check(endpoint=str(PRODUCTION), load=load_orders)  # in no Dag that releases anything
    assert [e for e in first.entries if isinstance(e.event, TaskGateJudged)] == []


def test_a_check_of_an_endpoint_that_its_dag_does_not_release_is_refused(
    first: ReleaseRun, platform: MemoryPlatform
) -> None:
    dag, _ = releasing_dag(first.manifest, endpoint="production/fraud-scoer")
    with pytest.raises(AirflowFailException, match="gate orders, endpoint .* did you mean production/fraud-scorer"):
        open_in(first, dag)


def test_a_mapped_check_is_no_gate(manifest: Path) -> None:
    def mapped(**parameters: Any) -> None:
        with DAG("release", schedule=None):
            QualityCheckOperator.partial(
                task_id="orders", endpoint=str(PRODUCTION), expectations=[AMOUNT], **parameters
            ).expand(path=["a.csv", "b.csv"])
            release_tasks(str(manifest), registered=training_tasks(str(manifest)))

    with pytest.raises(ConfigurationInvalid, match="gate=False"):
        mapped()
    mapped(gate=False)
