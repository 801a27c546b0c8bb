"""Feature stores for tests: the same feature views, in memory and as a Feast repository in a folder."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from airflow_provider_mlpipex.adapters.feast.features import FeastFeatures
from airflow_provider_mlpipex.ports import FeatureStore
from airflow_provider_mlpipex.testing.features import EVENT, MemoryFeatures, MemoryView

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
CONFIG = """\
project: tests
provider: local
registry: registry.db
online_store: {type: sqlite, path: online.db}
offline_store: {type: file}
entity_key_serialization_version: 3
"""


class Harness(Protocol):
    """What a test does to a store behind the port's back."""

    @property
    def store(self) -> FeatureStore: ...
    def define(self, *views: MemoryView, **services: Sequence[str]) -> None: ...
    def materialise(self, until: datetime) -> None: ...


class MemoryHarness:
    def __init__(self, folder: Path) -> None:
        self.store = MemoryFeatures()
        self.define = self.store.define
        self.materialise = self.store.materialise


class FeastHarness:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "feature_store.yaml").write_text(CONFIG)
        self.store = FeastFeatures(folder)
        self._views: dict[str, Any] = {}

    def define(self, *views: MemoryView, **services: Sequence[str]) -> None:
        from feast import FeatureService

        made = [self._made(view) for view in views]
        self._views |= {view.name: view for view in made}
        named = [
            FeatureService(name=name.replace("_", "-"), features=[self._views[view] for view in of])
            for name, of in services.items()
        ]
        self.apply(*made, *named)

    def apply(self, *objects: Any) -> None:
        """Anything that Feast can apply, entities and sources included."""
        with quiet():
            own = self.feast()
            sources = [found for view in objects for found in (getattr(view, "batch_source", None),) if found]
            own.apply([*sources, *self._entities().values(), *objects])

    def materialise(self, until: datetime) -> None:
        with quiet():
            self.feast().materialize(LONG_AGO, until)

    def feast(self) -> Any:
        from feast import FeatureStore as Feast

        return Feast(repo_path=str(self.folder))

    def _entities(self) -> dict[str, Any]:
        from feast import Entity, ValueType

        kinds = {"flight": ValueType.STRING, "route": ValueType.INT64}
        return {name: Entity(name=f"{name}-entity", join_keys=[name], value_type=kind) for name, kind in kinds.items()}

    def _made(self, view: MemoryView) -> Any:
        from feast import FeatureView, Field, FileSource, types

        path = self.folder / f"{view.name}.parquet"
        view.rows.to_parquet(path)
        return FeatureView(
            name=view.name,
            entities=[self._entities()[column] for column in view.entities],
            ttl=view.ttl,
            schema=[Field(name=name, dtype=getattr(types, kind)) for name, kind in view.features.items()],
            source=FileSource(name=f"{view.name}-source", path=str(path), timestamp_field=EVENT),
            description=view.note,
        )


@contextlib.contextmanager
def quiet() -> Any:
    """Feast talks while it works."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def view(name: str, entity: str, features: dict[str, str], *rows: tuple[Any, ...], **more: Any) -> MemoryView:
    """A view from rows of (entity, moment, feature, …)."""
    table = pd.DataFrame(rows, columns=[entity, EVENT, *features])
    whole = {feature: "float64" for feature, kind in features.items() if kind == "Float64"}
    table = table.astype({**whole, EVENT: "datetime64[ns, UTC]"})
    return MemoryView(name=name, entities=(entity,), features=features, rows=table, **more)
