"""Buttons on a task: its MLflow run, the endpoint that it moves, and the page of both in Airflow's own UI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf
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


class HealthPageLink(_PushedLink):
    """The rollout of the task on the health page: its stages and gates, and the way back."""

    URL_KEY = "health_page_url"

    @property
    def name(self) -> str:
        return "Health page"

    @classmethod
    def push(cls, run: Any, *, rollout_id: str = "") -> None:
        """Leave the address of the rollout's view for the link to find, or of the endpoint's where none is named.

        Push it before the verb: it is of most use where that fails.

        :param run: the ``StageRun`` of an operator or sensor.
        """
        run.push(cls.URL_KEY, page_address(str(run.endpoint), rollout_id=rollout_id))


def page_address(endpoint: str, *, rollout_id: str = "") -> str:
    """Where the health page shows ``endpoint``: below ``[api] base_url``, or at this Airflow itself where that is not
    set. Ids of rollouts hold ``+``, ``:`` and ``/``."""
    base = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    view = f"/rollout?id={quote(rollout_id, safe='')}" if rollout_id else ""
    return f"{base}/plugin/mlpipex/e/{endpoint}{view}"
