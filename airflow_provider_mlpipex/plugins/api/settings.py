"""What the plugin reads of Airflow's configuration."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from urllib.parse import urlsplit

from airflow.configuration import conf

from airflow_provider_mlpipex.domain.errors import RUNBOOKS

SECTION = "mlpipex"
#: Under which Airflow mounts the app.
PREFIX = "/mlpipex"


def connection_id() -> str:
    """``[mlpipex] conn_id``: of the connection whose ledger and plane are shown."""
    return conf.get(SECTION, "conn_id", fallback="mlpipex_default")


def rollback_dag_id() -> str:
    """``[mlpipex] rollback_dag_id``: who may start runs of this Dag may write here."""
    return conf.get(SECTION, "rollback_dag_id", fallback="rollback")


def runbook_address(page: str) -> str:
    """Where ``page`` is read: below ``[mlpipex] runbooks_url``."""
    return f"{conf.get(SECTION, 'runbooks_url', fallback=RUNBOOKS).rstrip('/')}/{page}.md"


def base_url() -> str:
    """``[api] base_url``, as browsers know the api-server; empty where nobody has set it."""
    return conf.get("api", "base_url", fallback="") or ""


def base_path() -> str:
    """What stands before every path where the api-server is served below a sub-path; without a slash at its end."""
    return urlsplit(base_url()).path.rstrip("/")


def version() -> str:
    """Of the provider."""
    return installed_version("airflow-provider-mlpipex")
