"""A feature store in memory: the port's fake, with Feast's rules for what is dropped, unknown and expired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.adapters.feast.entity_rows import MOMENT, attach, numbered, questions
from airflow_provider_mlpipex.domain.errors import FeatureMismatch
from airflow_provider_mlpipex.domain.features.service import (
    FeatureServiceRef,
    HistoricalFrame,
    OnlineRow,
    OnlineState,
    exact_integers,
    plain,
)
from airflow_provider_mlpipex.domain.values import digest_of

if TYPE_CHECKING:
    import pandas as pd

#: The time column of every view's rows.
EVENT = "event_timestamp"


@dataclass(frozen=True, kw_only=True)
class MemoryView:
    """One feature view.

    :param rows: entity, :data:`EVENT` (UTC) and features, one row a moment from which its values hold.
    :param ttl: how long they hold; ``None`` for ever. :param note: what people wrote about it.
    """

    name: str
    entities: tuple[str, ...]
    features: Mapping[str, str]
    rows: pd.DataFrame
    ttl: timedelta | None = None
    note: str = ""


class MemoryFeatures:
    """Views and services are defined by calls; ``materialise`` copies the newest values to the online side."""

    def __init__(self) -> None:
        self.views: dict[str, MemoryView] = {}
        self.services: dict[str, tuple[str, ...]] = {}
        self._online: dict[tuple[str, tuple[Any, ...]], dict[str, Any]] = {}

    def define(self, *views: MemoryView, **services: Sequence[str]) -> None:
        """Add or replace ``views``, and ``services`` (name with ``_`` for ``-``) of views."""
        self.views |= {view.name: view for view in views}
        self.services |= {name.replace("_", "-"): tuple(named) for name, named in services.items()}

    def materialise(self, until: datetime) -> None:
        """Bring every entity's newest values of up to ``until`` online."""
        for view in self.views.values():
            known = view.rows[view.rows[EVENT] <= until].sort_values(EVENT)
            for record in known.to_dict("records"):
                self._online[view.name, tuple(record[column] for column in view.entities)] = record

    def put_online(self, view: str, record: Mapping[str, Any]) -> None:
        """Write one entity's online values by hand, as a streaming job would."""
        entity = tuple(record[column] for column in self.views[view].entities)
        self._online[view, entity] = dict(record)

    def describe(self, service: str) -> FeatureServiceRef:
        views = self._views_of(service)
        meaning = [
            [view.name, sorted(view.entities), dict(view.features), view.ttl and view.ttl.total_seconds()]
            for view in sorted(views, key=lambda view: view.name)
        ]
        features = {name: kind for view in views for name, kind in view.features.items()}
        return FeatureServiceRef(
            name=service,
            digest=digest_of(meaning),
            entities={
                column: "Int64" if view.rows[column].dtype.kind == "i" else "String"
                for view in sorted(views, key=lambda view: view.entities)
                for column in view.entities
            },
            features=dict(sorted(features.items())),
        )

    def historical(self, service: str, entity_rows: pd.DataFrame, *, time_column: str) -> HistoricalFrame:
        ref = self.describe(service)
        rows = numbered(entity_rows, entities=ref.entities, time_column=time_column, service=service)
        answers = questions(rows, ref.entities)
        for view in self._views_of(service):
            answers = _join(answers, view)
        return attach(rows, [answers], ref, time_column=time_column)

    def online(self, service: str, keys: Sequence[Mapping[str, Any]], *, as_of: datetime) -> list[OnlineRow]:
        views = self._views_of(service)
        return [self._look_up(views, key, as_of) for key in keys]

    def _look_up(self, views: Sequence[MemoryView], key: Mapping[str, Any], as_of: datetime) -> OnlineRow:
        values: dict[str, Any] = {}
        state: OnlineState = "unknown"
        for view in views:
            held = self._online.get((view.name, tuple(key[column] for column in view.entities)))
            if held is not None and view.ttl is not None and as_of - held[EVENT] > view.ttl:
                held, state = None, "expired"
            values |= {name: plain(held[name]) if held else None for name in view.features}
        if state == "unknown" and any(value is not None for value in values.values()):
            state = "found"
        return OnlineRow(state=state, values=values)

    def _views_of(self, service: str) -> list[MemoryView]:
        if service not in self.services:
            raise FeatureMismatch(
                f"feature service {service}",
                value="not in the registry",
                limit=f"one of {', '.join(sorted(self.services)) or 'none'}",
                remedy="apply the repository, or correct features.service",
            )
        return [self.views[name] for name in self.services[service]]


def _join(asked: pd.DataFrame, view: MemoryView) -> pd.DataFrame:
    """``asked`` with the view's features as of each moment.

    An entity that the view has never heard of keeps its row; one that it knows, but not for that moment, loses it.
    """
    import pandas as pd

    by = list(view.entities)
    rows = exact_integers(view.rows.sort_values(EVENT), view.features)
    asked = asked.sort_values(MOMENT)
    joined = pd.merge_asof(
        asked,
        rows[[*by, EVENT, *view.features]].astype({EVENT: "datetime64[ns, UTC]"}),
        left_on=MOMENT,
        right_on=EVENT,
        by=by,
        tolerance=view.ttl,
    )
    known = pd.MultiIndex.from_frame(asked[by]).isin(pd.MultiIndex.from_frame(rows[by]))
    return joined[joined[EVENT].notna().to_numpy() | ~known].drop(columns=EVENT)
