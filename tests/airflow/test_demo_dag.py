"""The Dag that the demo has beside the reference Dags: it loads, and its form reaches the rows that are sent."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_mlpipex.demo import scored
from airflow_provider_mlpipex.services.training.user_code import import_callable

FOLDER = Path(scored.__file__).parent / "dags"


@pytest.fixture(scope="module")
def dag() -> DAG:
    bag = DagBag(dag_folder=str(FOLDER))
    assert bag.import_errors == {}
    assert list(bag.dags) == [scored.DAG_ID]
    return bag.dags[scored.DAG_ID]


def test_rows_are_scored_and_then_looked_at(dag: DAG) -> None:
    assert [sorted(dag.get_task(task).downstream_task_ids) for task in ("score", "drift")] == [["drift"], []]
    assert DagSerialization.from_dict(DagSerialization.to_dict(dag)).task_ids == dag.task_ids


def test_what_the_story_asks_for_is_in_the_form(dag: DAG) -> None:
    assert set(dag.params) == {"start", "fault", "since"}
    asked: dict[str, Any] = {"start": scored.FAULTY, "fault": "clock-times", "since": "2013-07-20T10:00:00+00:00"}
    form = copy(dag.params)
    form.update(asked)
    assert form.dump() == asked
    with pytest.raises(ParamValidationError):
        form["fault"] = "kilometres"


def test_the_rows_come_from_a_callable_that_takes_the_form(dag: DAG) -> None:
    task = dag.get_task("score")
    named = dict(zip(("start", "fault"), (scored.FAULTY, "clock-times"), strict=True))
    assert task.load_kwargs == {name: f"{{{{ params.{name} }}}}" for name in named}
    rows = import_callable(task.load, field="load")(**named)
    assert (rows[scored.COLUMN] // 100 == rows["hour"]).all()
