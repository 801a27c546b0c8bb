"""The buttons on a task: the MLflow run behind a model, and the endpoint that was moved."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.xcom import XCom

from airflow_provider_mlpipex import (
    CanaryDeployOperator,
    CanarySensor,
    EndpointHealthSensor,
    PromoteModelOperator,
    RegisterModelOperator,
    RollbackOperator,
    ShadowDeployOperator,
    ShadowSensor,
    TrainModelOperator,
)
from airflow_provider_mlpipex.links.mlpipex import EndpointLink, HealthPageLink, MlflowRunLink, page_address
from airflow_provider_mlpipex.plugins.mlpipex_plugin import MlpipexPlugin
from tests.airflow.release_run import PRODUCTION, ReleaseRun, TaskRun

ADDRESS = f"memory://plane/endpoints/{PRODUCTION}"


@pytest.mark.parametrize(
    ("operator", "links"),
    [
        (TrainModelOperator, [MlflowRunLink]),
        (RegisterModelOperator, [MlflowRunLink]),
        (ShadowDeployOperator, [EndpointLink, HealthPageLink]),
        (CanaryDeployOperator, [EndpointLink, HealthPageLink]),
        (PromoteModelOperator, [EndpointLink, HealthPageLink]),
        (RollbackOperator, [EndpointLink, HealthPageLink]),
        (ShadowSensor, [HealthPageLink]),
        (CanarySensor, [HealthPageLink]),
        (EndpointHealthSensor, [HealthPageLink]),
    ],
)
def test_operators_carry_their_links(operator: Any, links: list[Any]) -> None:
    assert [type(each) for each in operator.operator_extra_links] == links


def test_airflow_can_read_every_link_back() -> None:
    """What no plugin or provider registers is dropped when a Dag is read from the database."""
    registered = {type(link) for link in MlpipexPlugin.operator_extra_links}
    assert registered == {MlflowRunLink, EndpointLink, HealthPageLink}
    assert {link.name for link in MlpipexPlugin.operator_extra_links} == {"MLflow run", "Endpoint", "Health page"}


@pytest.mark.parametrize("link", [MlflowRunLink(), EndpointLink(), HealthPageLink()])
@pytest.mark.parametrize("pushed", ["http://127.0.0.1:5000/#/runs/1", None])
def test_a_link_is_what_the_task_pushed_or_nothing(
    link: Any, pushed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def get_value(**key: Any) -> str | None:
        asked.append(key)
        return pushed

    monkeypatch.setattr(XCom, "get_value", get_value)
    key: Any = object()
    assert link.get_link(None, ti_key=key) == (pushed or "")
    assert asked == [{"ti_key": key, "key": link.URL_KEY}]


def test_training_pushes_the_page_of_its_run(first: ReleaseRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first.platform.registry, "page", lambda run_id: f"http://mlflow/{run_id}")
    task = TaskRun("train")
    told = first.train_task(first.snapshot()).execute(task.context)
    assert task.xcoms[MlflowRunLink.URL_KEY] == f"http://mlflow/{told['record']['run_id']}"


def test_whoever_moves_traffic_pushes_the_address_of_the_endpoint(first: ReleaseRun) -> None:
    first.open()
    task = TaskRun("promote", run_id=first.run_id)
    first.promote_task().execute(task.context)
    assert task.xcoms[EndpointLink.URL_KEY] == ADDRESS


def test_a_teardown_with_nothing_to_end_pushes_it_too(first: ReleaseRun) -> None:
    """Airflow asks for the link after every run of a task, and logs an error where nothing was pushed at all."""
    first.first_release()
    task = TaskRun("end_trial", run_id=first.run_id)
    RollbackOperator(task_id="end_trial", only_open=True, **first.common).execute(task.context)
    assert task.xcoms[EndpointLink.URL_KEY] == ADDRESS


@pytest.mark.parametrize("base", ["", "https://airflow.example.com/team-a", "https://airflow.example.com/team-a/"])
def test_the_health_page_is_below_this_airflow(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id of a run holds ``+``, ``:`` and ``/``; a browser reads it back whole."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)
    rollout = "release__fraud/scheduled__2026-11-28T13:40:00+00:00/eu"
    address = urlsplit(page_address(str(PRODUCTION), rollout_id=rollout))
    folder = "/team-a" if base else ""
    assert address.path == f"{folder}/plugin/mlpipex/e/{PRODUCTION}/rollout"
    assert parse_qs(address.query) == {"id": [rollout]}
    assert page_address(str(PRODUCTION)) == f"{base.rstrip('/')}/plugin/mlpipex/e/{PRODUCTION}"


def test_a_stage_leads_to_its_rollout_even_where_it_is_refused(first: ReleaseRun) -> None:
    task = TaskRun("promote", run_id=first.run_id)
    with pytest.raises(AirflowFailException):
        first.promote_task().execute(task.context)
    assert f"/plugin/mlpipex/e/{PRODUCTION}/rollout?id=" in task.xcoms[HealthPageLink.URL_KEY]
