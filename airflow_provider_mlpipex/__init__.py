"""MLPipeX: ship models from Apache Airflow the way good teams ship code.

The names in ``__all__`` are the public API. They are imported when first used, so that a Dag file pays only for what it
names.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
    from airflow_provider_mlpipex.manifest_files import load_manifest_file, read_manifests
    from airflow_provider_mlpipex.notifications.rollout import RolloutNotifier
    from airflow_provider_mlpipex.operators.canary import CanaryDeployOperator
    from airflow_provider_mlpipex.operators.drift import DriftCheckOperator, drift_asset
    from airflow_provider_mlpipex.operators.drill import RollbackDrillOperator
    from airflow_provider_mlpipex.operators.gate import GateCheckOperator
    from airflow_provider_mlpipex.operators.outcomes import IngestOutcomesOperator
    from airflow_provider_mlpipex.operators.promote import PromoteModelOperator
    from airflow_provider_mlpipex.operators.quality import QualityCheckOperator
    from airflow_provider_mlpipex.operators.register import RegisterModelOperator
    from airflow_provider_mlpipex.operators.review import DeploymentReviewOperator
    from airflow_provider_mlpipex.operators.rollback import RollbackConfirmationOperator, RollbackOperator
    from airflow_provider_mlpipex.operators.score import ScoreBatchOperator
    from airflow_provider_mlpipex.operators.shadow import ShadowDeployOperator
    from airflow_provider_mlpipex.operators.snapshot import SnapshotDatasetOperator
    from airflow_provider_mlpipex.operators.standing_watch import StandingWatchOperator
    from airflow_provider_mlpipex.operators.train import TrainModelOperator
    from airflow_provider_mlpipex.sensors.drift import DriftSensor
    from airflow_provider_mlpipex.sensors.rollout import CanarySensor, EndpointHealthSensor, ShadowSensor
    from airflow_provider_mlpipex.task_groups import release_tasks, training_tasks
    from airflow_provider_mlpipex.triggers.drift import DriftTrigger
    from airflow_provider_mlpipex.triggers.rollout import RolloutTrigger
    from airflow_provider_mlpipex.triggers.standing_watch import StandingWatchTrigger

__version__ = "0.1.0"

_HOME = {
    "CanaryDeployOperator": "operators.canary",
    "CanarySensor": "sensors.rollout",
    "DeploymentReviewOperator": "operators.review",
    "DriftCheckOperator": "operators.drift",
    "DriftSensor": "sensors.drift",
    "DriftTrigger": "triggers.drift",
    "EndpointHealthSensor": "sensors.rollout",
    "GateCheckOperator": "operators.gate",
    "IngestOutcomesOperator": "operators.outcomes",
    "MlpipexHook": "hooks.mlpipex",
    "PromoteModelOperator": "operators.promote",
    "QualityCheckOperator": "operators.quality",
    "RegisterModelOperator": "operators.register",
    "RollbackConfirmationOperator": "operators.rollback",
    "RollbackDrillOperator": "operators.drill",
    "RollbackOperator": "operators.rollback",
    "RolloutNotifier": "notifications.rollout",
    "RolloutTrigger": "triggers.rollout",
    "ScoreBatchOperator": "operators.score",
    "ShadowDeployOperator": "operators.shadow",
    "ShadowSensor": "sensors.rollout",
    "SnapshotDatasetOperator": "operators.snapshot",
    "StandingWatchOperator": "operators.standing_watch",
    "StandingWatchTrigger": "triggers.standing_watch",
    "TrainModelOperator": "operators.train",
    "drift_asset": "operators.drift",
    "load_manifest_file": "manifest_files",
    "read_manifests": "manifest_files",
    "release_tasks": "task_groups",
    "training_tasks": "task_groups",
}

__all__ = [
    "CanaryDeployOperator",
    "CanarySensor",
    "DeploymentReviewOperator",
    "DriftCheckOperator",
    "DriftSensor",
    "DriftTrigger",
    "EndpointHealthSensor",
    "GateCheckOperator",
    "IngestOutcomesOperator",
    "MlpipexHook",
    "PromoteModelOperator",
    "QualityCheckOperator",
    "RegisterModelOperator",
    "RollbackConfirmationOperator",
    "RollbackDrillOperator",
    "RollbackOperator",
    "RolloutNotifier",
    "RolloutTrigger",
    "ScoreBatchOperator",
    "ShadowDeployOperator",
    "ShadowSensor",
    "SnapshotDatasetOperator",
    "StandingWatchOperator",
    "StandingWatchTrigger",
    "TrainModelOperator",
    "drift_asset",
    "load_manifest_file",
    "read_manifests",
    "release_tasks",
    "training_tasks",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
