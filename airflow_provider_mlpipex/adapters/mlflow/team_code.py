"""MLflow's process-wide state while code of a team's own runs.

``mlflow.set_experiment`` and ``mlflow.set_tracking_uri`` write environment variables, so that child processes inherit
them. An experiment's id means something else on another server, so what a training callable set must not outlast it:
the next one in this process, and every child, would ask their server for an experiment that it does not have.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from airflow_provider_mlpipex.adapters.mlflow.model import settle_environment

_PREFIX = "MLFLOW_"
_TRACKING = "MLFLOW_TRACKING_URI"
#: Ids that a tracking server gave, and that mean nothing, or something else, to another one.
SERVER_IDS = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID", "MLFLOW_ACTIVE_MODEL_ID")


@contextmanager
def fluent_mlflow_at(tracking_uri: str) -> Iterator[None]:
    """Send MLflow's fluent calls of this process to ``tracking_uri`` until the end, then forget what they set.

    A run that the code began and left open is ended.

    :param tracking_uri: empty to leave the address as it is.
    """
    settle_environment()
    before = _variables()
    uri, registry_uri, experiment, run = _globals()
    if tracking_uri:
        if before.get(_TRACKING, tracking_uri) != tracking_uri:
            for name in SERVER_IDS:
                os.environ.pop(name, None)
        _set_globals(tracking_uri, registry_uri, None)
        os.environ[_TRACKING] = tracking_uri
    try:
        yield
    finally:
        _end_runs(run)
        _set_globals(uri, registry_uri, experiment)
        for name in _variables().keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_PREFIX)}


def _globals() -> tuple[str | None, str | None, str | None, str | None]:
    """Tracking and registry address, experiment and run that code has set in this process; MLflow is not imported."""
    if "mlflow" not in sys.modules:
        return None, None, None, None
    import mlflow
    from mlflow.tracking import _model_registry, _tracking_service, fluent

    run = mlflow.active_run()
    return (
        _tracking_service.utils._tracking_uri,
        _model_registry.utils._registry_uri,
        fluent._active_experiment_id,
        run.info.run_id if run else None,
    )


def _set_globals(uri: str | None, registry_uri: str | None, experiment: str | None) -> None:
    # Code that has not imported MLflow has set nothing in it, and its first import reads the environment.
    if "mlflow" not in sys.modules:
        return
    # MLflow has no call that takes a choice back: it annotates neither these nor a tracking URI as optional.
    mlflow: Any = import_module("mlflow")
    tracking: Any = import_module("mlflow.tracking")
    mlflow.set_tracking_uri(uri)  # resets what traces go to as well
    tracking._model_registry.utils._registry_uri = registry_uri
    tracking.fluent._active_experiment_id = experiment


def _end_runs(outer: str | None) -> None:
    if "mlflow" not in sys.modules:
        return
    import mlflow

    while (run := mlflow.active_run()) is not None and run.info.run_id != outer:
        mlflow.end_run()
