"""A Feast repository as a model server reads it: the definition of a feature service, and features by entity key.

Feast itself is imported when the repository is first asked, so that a release without features needs none of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import (
    ConfigurationInvalid,
    FeatureMismatch,
    FeatureStoreUnavailable,
    MlpipexError,
)
from airflow_provider_mlpipex.domain.features.service import FeatureServiceRef, OnlineRow, OnlineState, plain
from airflow_provider_mlpipex.domain.values import digest_of

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore
    from feast.base_feature_view import BaseFeatureView
    from feast.feature_view_projection import FeatureViewProjection

CONFIG_FILE = "feature_store.yaml"
#: The key that Feast makes up for views without an entity.
_NO_ENTITY = "__dummy_id"
_NOT_FOUND = 3
#: SQLite takes no more than some ten thousand values in one question.
_KEYS_AT_ONCE = 5_000


@dataclass(frozen=True)
class Definition:
    """A feature service as it was described.

    :param times_to_live: feature -> that of its view, where it has one.
    :param joined_by: entity columns of each view that is joined with entity rows.
    """

    service: FeatureService
    times_to_live: dict[str, timedelta]
    joined_by: tuple[tuple[str, ...], ...]


class FeastRepository:
    """:param folder: of a Feast repository, with its ``feature_store.yaml``. Nothing is read before it is asked.

    The definitions are those of the moment when a service is described: a registry that changes under a running model
    server must not change its answers.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._definitions: dict[str, Definition] = {}
        # Feast shares one SQLite connection among threads.
        self._lock = threading.Lock()

    def describe(self, service: str) -> FeatureServiceRef:
        with self.answering(), self._lock:
            self.store.refresh_registry()  # type: ignore[no-untyped-call]  # Feast has no types here
            feature_service = self._find(service)
            views = [
                (projection, self.view(projection.name)) for projection in feature_service.feature_view_projections
            ]
            self._definitions[service] = Definition(
                feature_service, _times_to_live(views), tuple(self._joined_by(views))
            )
            entities = {name: kind for view in views for name, kind in _entity_types(*view).items()}
            if not entities:
                raise FeatureMismatch(
                    f"feature service {service}",
                    value="no entity",
                    limit="features of something that a request can name",
                    remedy="give its feature views an entity",
                )
            features = {field.name: str(field.dtype) for projection, _ in views for field in projection.features}
            meaning = sorted((self._meaning(projection, view) for projection, view in views), key=digest_of)
            return FeatureServiceRef(
                name=service,
                digest=digest_of(meaning),
                entities=dict(sorted(entities.items())),
                features=dict(sorted(features.items())),
            )

    def online(self, service: str, keys: Sequence[Mapping[str, Any]], *, as_of: datetime) -> list[OnlineRow]:
        definition = self.definition(service)
        parts = [keys[start : start + _KEYS_AT_ONCE] for start in range(0, len(keys), _KEYS_AT_ONCE)]
        return [row for part in parts for row in self._look_up(definition, part, as_of.timestamp())]

    def _look_up(self, definition: Definition, keys: Sequence[Mapping[str, Any]], now: float) -> Iterator[OnlineRow]:
        service = definition.service
        with self.answering(), self._lock:
            answer = self.store.get_online_features(features=service, entity_rows=[dict(key) for key in keys])
        values = answer.to_dict()
        wanted = {field.name for projection in service.feature_view_projections for field in projection.features}
        columns = [
            _Column(
                name,
                [plain(value) for value in values[name]],
                list(vector.statuses),
                [stamp.seconds + stamp.nanos / 1e9 for stamp in vector.event_timestamps],
                definition.times_to_live.get(name),
            )
            for name, vector in zip(answer.proto.metadata.feature_names.val, answer.proto.results, strict=True)
            if name in wanted
        ]
        return (_row(columns, at, now) for at in range(len(keys)))

    @cached_property
    def store(self) -> FeatureStore:
        """The Feast store itself, opened once; its registry is not read again by itself.

        :raises ConfigurationInvalid: Feast is not installed, or there is no repository.
        """
        # Feast before 0.40 reported its usage.
        os.environ.setdefault("FEAST_USAGE", "False")
        try:
            from feast import FeatureStore
            from feast.repo_config import load_repo_config
        except ImportError as error:
            raise ConfigurationInvalid(
                "feature store",
                value=f"{type(error).__name__}: {error}",
                limit="the package feast",
                remedy="install airflow-provider-mlpipex[feast]; in a runtime of its own, pin feast in its lock",
            ) from error
        config_file = self.folder / CONFIG_FILE
        if not config_file.is_file():
            raise ConfigurationInvalid(
                "feature store",
                value=str(self.folder),
                limit=f"a Feast repository with {CONFIG_FILE}",
                remedy="set MLPIPEX_FEATURE_REPOSITORY to the folder, on the plane's machine too",
            )
        config = load_repo_config(self.folder.resolve(), config_file)
        config.registry.cache_ttl_seconds = 0
        config.registry.cache_mode = "thread"
        return FeatureStore(repo_path=str(self.folder.resolve()), config=config)

    def view(self, name: str) -> BaseFeatureView:
        """A feature view of the registry as it was read last."""
        return self.store.registry.get_any_feature_view(name, self.store.project, allow_cache=True)

    def definition(self, service: str) -> Definition:
        """The service as it was described last."""
        if service not in self._definitions:
            self.describe(service)
        return self._definitions[service]

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Whatever Feast says is wrong becomes :class:`FeatureStoreUnavailable`."""
        try:
            yield
        except MlpipexError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever Feast and its stores raise
            # Nothing of it is chained: a driver's text quotes statements, their parameters, and passwords.
            raise FeatureStoreUnavailable(
                f"feature store {self.folder}",
                value=f"{type(error).__name__}: {said}" if (said := _said(error)) else type(error).__name__,
                limit="an answer",
                remedy="is the repository applied, and are its stores reachable? feast itself shows its whole error",
            ) from None

    def _find(self, service: str) -> FeatureService:
        from feast.errors import FeatureServiceNotFoundException

        try:
            return self.store.get_feature_service(service)
        except FeatureServiceNotFoundException:
            known = ", ".join(sorted(feature_service.name for feature_service in self.store.list_feature_services()))
            raise FeatureMismatch(
                f"feature service {service}",
                value="not in the registry",
                limit=f"one of {known or 'none'}",
                remedy="apply the repository, or correct features.service",
            ) from None

    def _joined_by(self, views: Sequence[tuple[FeatureViewProjection, BaseFeatureView]]) -> Iterator[tuple[str, ...]]:
        for projection, view in views:
            sources = getattr(view, "source_feature_view_projections", None)
            if sources is not None:
                yield from self._joined_by([(source, self.view(source.name)) for source in sources.values()])
            elif entities := tuple(_entity_types(projection, view)):
                yield entities

    def _meaning(self, projection: FeatureViewProjection, view: BaseFeatureView) -> dict[str, Any]:
        """What decides the values of one view's features. Names of files, owners and descriptions do not."""
        source = getattr(view, "batch_source", None)
        ttl = getattr(view, "ttl", None)
        sources = getattr(view, "source_feature_view_projections", {}).values()
        return {
            "view": projection.name_to_use(),  # type: ignore[no-untyped-call]
            "features": {field.name: str(field.dtype) for field in projection.features},
            "entities": _entity_types(projection, view),
            "ttl": ttl.total_seconds() if ttl else None,
            "time": [getattr(source, name, None) for name in ("timestamp_field", "created_timestamp_column")],
            "mapping": dict(getattr(source, "field_mapping", None) or {}),
            "query": getattr(source, "query", None) or None,
            "transformation": _transformation(view),
            "aggregations": [str(aggregation) for aggregation in getattr(view, "aggregations", None) or ()],
            "sources": sorted((self._meaning(source, self.view(source.name)) for source in sources), key=digest_of),
        }


def _said(error: Exception) -> str:
    """What may be told of ``error``: the words of the system, and of Feast itself, which name objects and no values."""
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return str(error)[:300]  # Arrow's own, which names the file
    if isinstance(error, OSError) and isinstance(error.errno, int):
        return ": ".join(filter(None, (os.strerror(error.errno), error.filename and str(error.filename))))
    return str(error)[:300] if type(error).__module__ == "feast.errors" else ""


class _Column:
    """One feature of an online answer, row by row. ``stamps``: event times, seconds since the epoch."""

    __slots__ = ("name", "stamps", "statuses", "ttl_s", "values")

    def __init__(
        self, name: str, values: list[Any], statuses: list[int], stamps: list[float], ttl: timedelta | None
    ) -> None:
        self.name, self.values, self.statuses, self.stamps = name, values, statuses, stamps
        self.ttl_s = ttl.total_seconds() if ttl else None

    def expired(self, at: int, now: float) -> bool:
        """Feast's online path hands out values past their time to live, which its offline path does not."""
        return self.ttl_s is not None and self.statuses[at] != _NOT_FOUND and now - self.stamps[at] > self.ttl_s


def _row(columns: list[_Column], at: int, now: float) -> OnlineRow:
    expired = {column.name for column in columns if column.expired(at, now)}
    values = {column.name: None if column.name in expired else column.values[at] for column in columns}
    state: OnlineState = "found"
    if expired:
        state = "expired"
    elif all(value is None for value in values.values()):
        state = "unknown"
    return OnlineRow(state=state, values=values)


def _times_to_live(views: Sequence[tuple[FeatureViewProjection, BaseFeatureView]]) -> dict[str, timedelta]:
    """Feature -> its view's time to live, where that has one."""
    return {
        field.name: ttl
        for projection, view in views
        if (ttl := getattr(view, "ttl", None))
        for field in projection.features
    }


def _entity_types(projection: FeatureViewProjection, view: BaseFeatureView) -> dict[str, str]:
    """What must be known to look a view up: its join keys, or the request data of an on-demand view."""
    from feast.types import from_value_type

    joined = {
        projection.join_key_map.get(column.name, column.name): str(column.dtype)
        for column in getattr(view, "entity_columns", ())
        if column.name != _NO_ENTITY
    }
    asked = view.get_request_data_schema() if hasattr(view, "get_request_data_schema") else {}
    return {**joined, **{name: str(from_value_type(kind)) for name, kind in asked.items()}}


def _transformation(view: BaseFeatureView) -> str | None:
    """The text of what computes an on-demand, stream or batch view."""
    made = getattr(view, "feature_transformation", None)
    if made is None:
        return getattr(view, "udf_string", None) or None
    for spoken in ("udf_string", "sql", "substrait_plan"):
        if text := getattr(made, spoken, None):
            return f"{type(made).__name__}: {text!r}"
    return type(made).__name__
