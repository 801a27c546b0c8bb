"""What Airflow's processes load of this provider at start: the extra links, and in the api-server the health page.

Keep it light; every process imports it. What the page needs is imported when the api-server asks for it.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_mlpipex.links.mlpipex import EndpointLink, HealthPageLink, MlflowRunLink

#: The page's bundle, below the folder of its files.
BUNDLE = "main.js"
_DIST = Path(__file__).parent / "www" / "dist"


class MlpipexPlugin(AirflowPlugin):
    """Entry point group ``airflow.plugins``."""

    name = "mlpipex"
    operator_extra_links = [MlflowRunLink(), EndpointLink(), HealthPageLink()]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The API and the page's files. Only the api-server asks."""
        from airflow_provider_mlpipex.plugins.api.app import create_app
        from airflow_provider_mlpipex.plugins.api.settings import PREFIX

        return [{"app": create_app(), "url_prefix": PREFIX, "name": "MLPipeX"}]

    @cached_property
    def react_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The page in the navigation, and as a tab of a Dag run. One bundle; Airflow keeps it under its name, which no
        global of a browser may have."""
        from airflow_provider_mlpipex.plugins.api.settings import PREFIX, base_path

        bundle = f"{base_path()}{PREFIX}/static/{BUNDLE}?v={_version()}"
        return [
            {
                "name": "Models",
                "bundle_url": bundle,
                "url_route": "mlpipex",
                "destination": "nav",
                "nav_top_level": True,
            },
            {"name": "Models", "bundle_url": bundle, "url_route": "mlpipex-run", "destination": "dag_run"},
        ]


def _version() -> str:
    """Changes with the bundle, so that no browser keeps an old one."""
    bundle = _DIST / BUNDLE
    return hashlib.sha256(bundle.read_bytes()).hexdigest()[:12] if bundle.is_file() else "none"
