"""Requests that name entities alone: their features are looked up, and scored as if the client had sent them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, FeatureMismatch, MlpipexError
from airflow_provider_mlpipex.domain.features.service import FeatureServiceRef, OnlineRow
from airflow_provider_mlpipex.serving.model_server.feast_repository import FeastRepository
from airflow_provider_mlpipex.serving.model_server.loading import AnyScorer
from airflow_provider_mlpipex.serving.model_server.scoring import Scored
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec

_JSON = "application/json"
#: Keys named in a refusal.
_SHOWN = 3


class Lookup(Protocol):
    """The part of a feature store that a model server needs."""

    def online(self, service: str, keys: Sequence[dict[str, Any]], *, as_of: datetime) -> list[OnlineRow]: ...


class UnfitKeys(ValueError):
    """A request that means to name entities, and does not; the message is for its sender."""


class FeatureScorer:
    """Scores requests whose columns are exactly the service's entities; any other goes to ``scorer`` as it is.

    An entity that the store does not know is answered 404, one whose features have expired 503: the model was not
    trained on such rows either. Errors have MLflow's shape.

    :param now: the clock by which features expire, and which the prediction log records.
    """

    def __init__(
        self,
        scorer: AnyScorer,
        store: Lookup,
        service: FeatureServiceRef,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._scorer = scorer
        self._store = store
        self._service = service
        self._columns = scorer.input_names
        self._now = now

    @property
    def scorer(self) -> AnyScorer:
        """What scores requests that bring their features."""
        return self._scorer

    @property
    def entities(self) -> Mapping[str, str]:
        """Column of a request that brings none -> type name."""
        return self._service.entities

    def score(self, body: bytes, content_type: str | None) -> Scored:
        """Answer one ``/invocations`` request. Never raises."""
        if not (content_type or "").startswith(_JSON):
            return self._scorer.score(body, content_type)
        try:
            keys = read_keys(body, self._service.entities)
        except UnfitKeys as error:
            return _refused(400, "BAD_REQUEST", str(error))
        return self._scorer.score(body, content_type) if keys is None else self._look_up_and_score(keys)

    def _look_up_and_score(self, keys: list[dict[str, Any]]) -> Scored:
        asked_at = self._now()
        try:
            values = self._store.online(self._service.name, keys, as_of=asked_at)
        except MlpipexError as error:
            return _refused(503, "TEMPORARILY_UNAVAILABLE", str(error))
        for state, status, code, why in (
            ("unknown", 404, "RESOURCE_DOES_NOT_EXIST", "the feature store does not know"),
            ("expired", 503, "TEMPORARILY_UNAVAILABLE", "features are older than their time to live, of"),
        ):
            named = [key for key, row in zip(keys, values, strict=True) if row.state == state]
            if named:
                return _refused(status, code, f"{why} {_named(named)}")
        rows = [
            [key[name] if name in key else row.values[name] for name in self._columns]
            for key, row in zip(keys, values, strict=True)
        ]
        answer = self._scorer.score(
            orjson.dumps({"dataframe_split": {"columns": self._columns, "data": rows}}, default=str), _JSON
        )
        answer.lookups = [{"keys": key, "looked_up_at": asked_at.timestamp()} for key in keys]
        return answer


def with_features(scorer: AnyScorer, spec: ModelServerSpec) -> AnyScorer | FeatureScorer:
    """``scorer``, which also takes entities where the release has a feature service. Only then Feast is imported.

    :raises ConfigurationInvalid: the plane knows no feature repository, or Feast is not in the release's runtime.
    :raises FeatureMismatch: the service is not the one of the release, or cannot give the model its inputs.
    :raises FeatureStoreUnavailable: the store does not answer.
    """
    release = spec.release
    if release.feature_service is None or release.feature_digest is None:
        return scorer
    if spec.feature_repository is None:
        raise ConfigurationInvalid(
            f"release {release.id}, feature service {release.feature_service}",
            limit="a plane with a feature repository",
            remedy="start the plane with MLPIPEX_FEATURE_REPOSITORY",
        )
    repository = FeastRepository(spec.feature_repository)
    service = repository.describe(release.feature_service)
    if service.digest != release.feature_digest:
        raise FeatureMismatch(
            f"release {release.id}, feature service {service.name}",
            value=service.digest[:12],
            limit=f"the definition that it was trained on: {release.feature_digest[:12]}",
            remedy="put the definition back, or train and release a new version on the present one",
        )
    service.require(columns=tuple(scorer.input_names), entities=tuple(service.entities))
    return FeatureScorer(scorer, repository, service)


def read_keys(body: bytes, entities: Mapping[str, str]) -> list[dict[str, Any]] | None:
    """The entities that a request names, one a row; ``None`` for a request that brings its features itself.

    :param entities: column -> type name. A value of another type is refused here, as the caller's fault: the store
        would stumble over it, and that would count against the release.
    :raises UnfitKeys: it has only entity columns, but not all of them, or a row without a value.
    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(payload, dict) or len(payload) != 1:
        return None
    split, records = payload.get("dataframe_split"), payload.get("dataframe_records")
    if isinstance(split, dict) and isinstance(split.get("columns"), list) and isinstance(split.get("data"), list):
        columns, data = split["columns"], split["data"]
        if not columns or not all(isinstance(column, str) and column in entities for column in columns):
            return None
        if len(set(columns)) != len(columns) or any(not isinstance(r, list) or len(r) != len(columns) for r in data):
            raise UnfitKeys(f"rows of {', '.join(columns)}: each column once, and one value for each")
        rows = [dict(zip(columns, row, strict=True)) for row in data]
    elif isinstance(records, list) and records and all(isinstance(row, dict) and row for row in records):
        if not all(name in entities for row in records for name in row):
            return None
        rows = records
    else:
        return None
    _require_whole(rows, entities)
    return rows


def _require_whole(rows: list[dict[str, Any]], entities: Mapping[str, str]) -> None:
    if not rows:
        raise UnfitKeys(f"no rows; name at least one entity by {', '.join(entities)}")
    for at, row in enumerate(rows):
        unfit = [f"{name} ({kind})" for name, kind in entities.items() if not _is_a(row.get(name), kind)]
        if unfit:
            raise UnfitKeys(f"row {at} has no {', '.join(unfit)}; an entity is named by {', '.join(entities)}")


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool) or kind == "Bool":
        return isinstance(value, bool) and kind == "Bool"
    match kind:
        case "String":
            return isinstance(value, str)
        case "Int32" | "Int64":
            bits = 31 if kind == "Int32" else 63
            return isinstance(value, int) and -(2**bits) <= value < 2**bits
        case "Float32" | "Float64":
            return isinstance(value, (int, float))
        case _:
            return isinstance(value, (str, int, float))


def _named(keys: list[dict[str, Any]]) -> str:
    shown = "; ".join(", ".join(f"{name}={str(value)[:80]}" for name, value in key.items()) for key in keys[:_SHOWN])
    return shown if len(keys) <= _SHOWN else f"{shown} and {len(keys) - _SHOWN} more"


def _refused(status: int, code: str, message: str) -> Scored:
    return Scored(status, json.dumps({"error_code": code, "message": message}).encode(), _JSON)
