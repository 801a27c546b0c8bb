"""What Airflow's processes load of this provider at start: the extra links. Keep it light; every process imports it."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_mlpipex.links.mlpipex import EndpointLink, MlflowRunLink


class MlpipexPlugin(AirflowPlugin):
    """Entry point group ``airflow.plugins``."""

    name = "mlpipex"
    operator_extra_links = [MlflowRunLink(), EndpointLink()]
