"""What Airflow asks a provider about itself. A literal without imports: every Airflow process calls it."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Validated by Airflow against ``provider_info.schema.json``."""
    package = "airflow_provider_mlpipex"
    release = ("snapshot", "quality", "train", "register", "gate", "review", "shadow", "canary", "promote", "rollback")
    verbs = (*release, "score", "drift", "drill", "outcomes", "standing_watch")
    watchers = ("rollout", "drift")
    name = "MLPipeX"
    return {
        "package-name": "airflow-provider-mlpipex",
        "name": name,
        "description": "Ship models the way good teams ship code: versioned, gated by numbers, trivially rolled back.",
        "integrations": [
            {
                "integration-name": name,
                "external-doc-url": "https://github.com/mlpipex/airflow-provider-mlpipex",
                "tags": ["software"],
            }
        ],
        "operators": [{"integration-name": name, "python-modules": [f"{package}.operators.{verb}" for verb in verbs]}],
        "sensors": [
            {"integration-name": name, "python-modules": [f"{package}.sensors.{watcher}" for watcher in watchers]}
        ],
        "triggers": [
            {
                "integration-name": name,
                "python-modules": [f"{package}.triggers.{watcher}" for watcher in (*watchers, "standing_watch")],
            }
        ],
        "hooks": [{"integration-name": name, "python-modules": [f"{package}.hooks.mlpipex"]}],
        "notifications": [f"{package}.notifications.rollout.RolloutNotifier"],
        "extra-links": [
            f"{package}.links.mlpipex.{link}" for link in ("MlflowRunLink", "EndpointLink", "HealthPageLink")
        ],
        "task-decorators": [{"name": "gate", "class-name": f"{package}.decorators.gate.gate_task"}],
        "config": {
            "mlpipex": {
                "description": "The health page in the Airflow UI, and its API.",
                "options": {
                    "conn_id": _option("Connection whose ledger and plane are shown.", "mlpipex_default"),
                    "rollback_dag_id": _option("Who may start runs of this Dag may write on the page.", "rollback"),
                    "runbooks_url": _option(
                        "Below which runbooks are read.",
                        "https://github.com/mlpipex/airflow-provider-mlpipex/blob/main/docs/runbooks",
                    ),
                },
            }
        },
        "connection-types": [
            {
                "connection-type": "mlpipex",
                "hook-class-name": f"{package}.hooks.mlpipex.MlpipexHook",
                "hook-name": name,
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "extra"],
                    "relabeling": {"password": "Plane token", "schema": "Plane scheme", "host": "Plane host"},
                    "placeholders": {"host": "127.0.0.1", "port": "8089", "schema": "http"},
                },
                "conn-fields": {
                    "ledger_url": _field("Ledger (SQLAlchemy url)", "sqlite:////var/lib/mlpipex/ledger.db"),
                    "tracking_uri": _field("MLflow tracking URI", "http://127.0.0.1:5000"),
                    "snapshot_root": _field("Folder of dataset snapshots", "/var/lib/mlpipex/snapshots"),
                    "runtime_root": _field("Folder of environments built from locks", "/var/lib/mlpipex/runtimes"),
                    "quality_root": _field("Folder for Great Expectations' results and Data Docs", ""),
                    "drift_root": _field("Folder for Evidently's pages on drift", ""),
                    "feature_repository": _field("Folder of the Feast repository", ""),
                    "plane_token_file": _field("Token file of the plane, instead of the token", ""),
                    "client_token": _field("Batch token of the plane's ingress, for batch scoring", "", secret=True),
                    "client_token_file": _field("File of the batch token, instead of the token", ""),
                    "ingress_url": _field("Ingress, where the plane's own address is not reached", ""),
                    "alert_channels": _field('Alert channels, JSON: {"on-call": ["<Apprise url>"]}', ""),
                },
            }
        ],
    }


def _field(label: str, example: str, *, secret: bool = False) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": ["string", "null"]}
    return {"label": label, "description": example, "schema": kind | ({"format": "password"} if secret else {})}


def _option(description: str, default: str) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": "string",
        "example": None,
        "default": default,
    }
