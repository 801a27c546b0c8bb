"""A small endpoint whose features live in a store: entity rows, two feature views, a manifest, a platform in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
from sklearn.linear_model import LogisticRegression

from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.release.training import TrainingContext
from airflow_provider_mlpipex.testing.clock import ManualClock
from airflow_provider_mlpipex.testing.features import EVENT, MemoryView
from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform

HERE = __name__
AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
FLIGHTS = 600
#: The hours of thirty days; flight ``F<n>`` leaves at the n-th of 600 even moments of them.
START = AS_OF - timedelta(days=30)
STEP = timedelta(days=30) / FLIGHTS


def source(start: datetime, end: datetime, *, unknown: int = 0, early: int = 0, drop: tuple[str, ...] = ()) -> Any:
    """Entity rows with their label; the last ``unknown`` of a flight nobody knows, the first ``early`` before any
    feature was known."""
    rows = [
        {"flight": f"F{n}", "at": START + n * STEP, "late": n % 3 == 0, "wind": -1.0}
        for n in range(FLIGHTS)
        if start <= START + n * STEP < end
    ]
    for row in rows[len(rows) - unknown :]:
        row["flight"] = "nobody"
    for row in rows[:early]:
        row["at"] = START - timedelta(days=9)
    table = pd.DataFrame(rows, columns=["flight", "at", "late", "wind"]).astype({"at": "datetime64[ns, UTC]"})
    return table.astype({"late": int}).drop(columns=list(drop))


def train(context: TrainingContext) -> LogisticRegression:
    return LogisticRegression(**context.parameters).fit(context.features, context.target)


def weather(**more: Any) -> MemoryView:
    """Known two hours before departure, and corrected an hour before."""
    rows = [
        {"flight": f"F{n}", EVENT: START + n * STEP - hours * timedelta(hours=1), "wind": wind, "gusts": n % 7}
        for n in range(FLIGHTS)
        for hours, wind in ((2, 50.0), (1, float(n % 3 == 0) + n / FLIGHTS))
    ]
    table = pd.DataFrame(rows).astype({EVENT: "datetime64[ns, UTC]"})
    features = {"wind": "Float64", "gusts": "Int64"}
    return MemoryView(**{"name": "weather", "entities": ("flight",), "features": features, "rows": table, **more})


def manifest(features: dict[str, Any] | None = None, **parameters: Any) -> Manifest:
    """:param features: changes of its block. :param parameters: of the data source."""
    block = {"service": "flights-v1", "entities": ["flight"], "columns": ["wind", "gusts"], **(features or {})}
    raw: dict[str, Any] = {
        "apiVersion": "mlpipex/v1",
        "kind": "Deployment",
        "name": "wind-delay",
        "owner": {"team": "weather", "contact": "weather@localhost"},
        "model": {"name": "wind-model"},
        "training": {"callable": f"{HERE}:train", "task": "binary", "target": "late"},
        "runtime": {"version": "1.0.0", "environment": "provider"},
        "data": {
            "source": f"{HERE}:source",
            "time_column": "at",
            "window": {"train": "20d", "evaluate": "10d"},
            "parameters": parameters,
        },
        "features": {name: value for name, value in block.items() if value is not None},
        "environments": {"production": {}},
    }
    return Manifest.model_validate(raw)


def platform() -> MemoryPlatform:
    """With the service ``flights-v1``, brought online, an hour after the last flight of the window."""
    made = memory_platform(clock=ManualClock(AS_OF + timedelta(hours=1)))
    made.features.define(weather(), flights_v1=["weather"])
    made.features.materialise(AS_OF)
    return made
