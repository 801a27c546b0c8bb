"""Buttons on a task: its MLflow run, and the endpoint that it moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class _PushedLink(BaseOperatorLink):
    """A link whose address the task left in XCom under :attr:`URL_KEY`."""

    URL_KEY: ClassVar[str]

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        return XCom.get_value(ti_key=ti_key, key=self.URL_KEY) or ""


class MlflowRunLink(_PushedLink):
    """The training run behind the task's model."""

    URL_KEY = "mlflow_run_url"

    @property
    def name(self) -> str:
        return "MLflow run"


class EndpointLink(_PushedLink):
    """Where the endpoint answers."""

    URL_KEY = "endpoint_url"

    @property
    def name(self) -> str:
        return "Endpoint"

    @classmethod
    def push(cls, run: Any) -> None:
        """Leave the endpoint's address for the link to find; empty where the plane has none for it.

        Airflow looks for it after every run of the task, and logs an error where it finds nothing at all.

        :param run: the ``StageRun`` of an operator.
        """
        run.push(cls.URL_KEY, run.platform.plane.observe(run.endpoint).address)
