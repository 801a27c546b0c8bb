"""Features by point in time: the one definition that training and serving share, and what a store answers.

A *feature service* is a named list of features. Training rows are joined with it as of each row's own moment; a model
server looks the same features up by entity key as of now. Both paths must give the same values for the same moment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, JsonValue

from airflow_provider_mlpipex.domain.errors import DataQualityFailed, FeatureMismatch
from airflow_provider_mlpipex.domain.names import Name
from airflow_provider_mlpipex.domain.release.release import Digest, FeatureJoin
from airflow_provider_mlpipex.domain.values import MAX_EXACT_INTEGER, Value

if TYPE_CHECKING:
    import pandas as pd

#: Types of features that are whole numbers.
INTEGERS = ("Int32", "Int64")
#: ``expired``: the store holds a value, but an older one than its feature view's time to live allows.
OnlineState = Literal["found", "unknown", "expired"]


class FeatureServiceRef(Value):
    """A feature service as a store defines it.

    :param digest: of everything that decides a feature's value: views, fields, types, transformations, time to live,
        join keys and time columns. Where the data lies, and what people wrote about it, do not count.
    :param entities: column that a request must carry -> type name: join keys, and request data of on-demand views;
        sorted.
    :param features: feature -> type name; sorted.
    """

    name: Name
    digest: Digest
    entities: dict[str, str] = Field(min_length=1)
    features: dict[str, str] = Field(min_length=1)

    def require(self, *, columns: tuple[str, ...], entities: tuple[str, ...]) -> None:
        """:raises FeatureMismatch: a model on ``columns``, asked by ``entities``, cannot be served by this service."""
        if sorted(entities) != list(self.entities):
            raise FeatureMismatch(
                f"feature service {self.name}, entities",
                value=", ".join(entities) or "none",
                limit=f"those of its feature views: {', '.join(self.entities)}",
                remedy="correct features.entities in the manifest, or the feature service",
            )
        missing = [column for column in columns if column not in self.features and column not in self.entities]
        if missing:
            raise FeatureMismatch(
                f"feature service {self.name}, features {', '.join(missing)}",
                value="not in the service",
                limit=f"every model input is one of {', '.join(self.features)}, or an entity",
                remedy="add the feature to the service, or remove the column from features.columns",
            )


@dataclass(frozen=True, kw_only=True)
class HistoricalFrame:
    """Entity rows joined with a service's features, each as of its own moment. Nothing is left out uncounted.

    :param frame: the rows that the store answered, in the order asked: the columns of the entity row, then every
        feature of the service; a column that both have is the store's. Its index is the row's position among those
        asked. An integer feature without a missing value is ``int64``, with one pandas' ``Int64``.
    :param asked: entity rows given.
    :param dropped: positions of rows for which the store has no value at or before their moment, or only an expired
        one, or whose key or moment is missing.
    :param unknown: positions of rows in ``frame`` whose every feature is missing: the store does not know the entity.
    """

    service: FeatureServiceRef
    frame: pd.DataFrame
    asked: int
    dropped: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()

    @property
    def answered(self) -> pd.DataFrame:
        """:attr:`frame` without the unknown rows, numbered from 0; features as a model gets them.

        :raises DataQualityFailed: an integer feature has missing values, and is too large to be a float instead.
        """
        rows = settle_types(self.frame.drop(index=list(self.unknown)).reset_index(drop=True), self.service.features)
        gaps = [name for name in self.service.features if str(rows[name].dtype) == "Int64"]
        for name in gaps:
            if (rows[name].abs() > MAX_EXACT_INTEGER).any():
                raise DataQualityFailed(
                    f"feature service {self.service.name}, feature {name}",
                    value="integers beyond 2^53, and missing values beside them",
                    limit="integers without a gap, or such as a float can hold exactly",
                    remedy="fill the gaps in its feature view, or make it a String: it names something",
                )
        return rows.astype(dict.fromkeys(gaps, "float64"))

    @property
    def counts(self) -> FeatureJoin:
        """What was asked, dropped and unknown, as a snapshot remembers it."""
        return FeatureJoin(
            service=self.service.name,
            digest=self.service.digest,
            asked=self.asked,
            dropped=len(self.dropped),
            unknown=len(self.unknown),
        )


@dataclass(frozen=True, slots=True)
class OnlineRow:
    """What a store answers for one entity: every feature of the service, ``None`` where it has no value."""

    state: OnlineState
    values: Mapping[str, Any] = field(default_factory=dict)


class ServedRow(Value):
    """Features as a model server looked them up.

    :param keys: the entity, as the client named it. :param as_of: when it was looked up, by the server's clock.
    :param values: feature -> value as the model got it; ``None`` where it was missing.
    :param request_id: of the request that asked; empty where nobody did.
    """

    keys: dict[str, JsonValue]
    as_of: datetime
    values: dict[str, JsonValue]
    request_id: str = ""


def plain(value: Any) -> Any:
    """A feature value as JSON says it: missing as ``None``, moments as ISO 8601 in UTC, NumPy's as Python's own."""
    if isinstance(value, datetime):
        # NaT is a datetime that is not even itself.
        return None if value != value else value.astimezone(UTC).isoformat()
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value)):
        return None
    return value


def exact_integers(frame: pd.DataFrame, features: Mapping[str, str]) -> pd.DataFrame:
    """``frame`` with integer features in a type that holds integers and gaps, so that joining them costs no digit."""
    whole = [name for name, kind in features.items() if kind in INTEGERS and name in frame.columns]
    return frame.astype({name: "Int64" for name in whole if (frame[name].dropna() % 1 == 0).all()})


def settle_types(frame: pd.DataFrame, features: Mapping[str, str]) -> pd.DataFrame:
    """``frame`` with integer features as ``int64`` where none is missing: a join passes them through ``float64``."""
    whole = {
        name: "int64"
        for name, kind in features.items()
        if kind in INTEGERS and name in frame.columns and len(frame) and not frame[name].isna().any()
    }
    return frame.astype(whole)
