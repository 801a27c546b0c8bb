"""The buttons on a task: the MLflow run behind a model, and the endpoint that was moved."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.execution_time.xcom import XCom

from airflow_provider_mlpipex import (
    CanaryDeployOperator,
    PromoteModelOperator,
    RegisterModelOperator,
    RollbackOperator,
    ShadowDeployOperator,
    TrainModelOperator,
)
from airflow_provider_mlpipex.links.mlpipex import EndpointLink, MlflowRunLink
from airflow_provider_mlpipex.plugins.mlpipex_plugin import MlpipexPlugin
from tests.airflow.release_run import PRODUCTION, ReleaseRun, TaskRun

ADDRESS = f"memory://plane/endpoints/{PRODUCTION}"


@pytest.mark.parametrize(
    ("operator", "link"),
    [
        (TrainModelOperator, MlflowRunLink),
        (RegisterModelOperator, MlflowRunLink),
        (ShadowDeployOperator, EndpointLink),
        (CanaryDeployOperator, EndpointLink),
        (PromoteModelOperator, EndpointLink),
        (RollbackOperator, EndpointLink),
    ],
)
def test_operators_carry_their_link(operator: Any, link: Any) -> None:
    assert [type(each) for each in operator.operator_extra_links] == [link]


def test_airflow_can_read_every_link_back() -> None:
    """What no plugin or provider registers is dropped when a Dag is read from the database."""
    registered = {type(link) for link in MlpipexPlugin.operator_extra_links}
    assert registered == {MlflowRunLink, EndpointLink}
    assert {link.name for link in MlpipexPlugin.operator_extra_links} == {"MLflow run", "Endpoint"}


@pytest.mark.parametrize("link", [MlflowRunLink(), EndpointLink()])
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
