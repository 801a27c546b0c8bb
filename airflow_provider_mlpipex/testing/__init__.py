"""For tests of your own Dags, gates and tools: every port in memory, and a Dag run whole without a server.

>>> from airflow_provider_mlpipex.testing import memory_platform
>>> platform = memory_platform()
>>> platform.ledger.endpoints()
[]

The fakes pass the same contract tests as the adapters that they stand for. Names are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_mlpipex.testing.clock import ManualClock
    from airflow_provider_mlpipex.testing.dags import DagRunResult, run_dag, use_platform
    from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform

_HOME = {
    "DagRunResult": "dags",
    "ManualClock": "clock",
    "MemoryPlatform": "platform",
    "memory_platform": "platform",
    "run_dag": "dags",
    "use_platform": "dags",
}

__all__ = ["DagRunResult", "ManualClock", "MemoryPlatform", "memory_platform", "run_dag", "use_platform"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
