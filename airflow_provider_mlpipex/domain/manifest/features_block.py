"""The ``features`` block of a manifest: model inputs, the feature service that gives them, and what it must prove."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from airflow_provider_mlpipex.domain.changes import Change
from airflow_provider_mlpipex.domain.fields.quantities import Ratio, format_ratio
from airflow_provider_mlpipex.domain.fields.types import Column
from airflow_provider_mlpipex.domain.fields.yaml_text import FieldPath, Problem
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.manifest.gates_diff import NONE, Strictness, compare, loosened, tightened
from airflow_provider_mlpipex.domain.names import Name
from airflow_provider_mlpipex.domain.values import Value

#: Fields that are demands, and compared as such when two manifests differ.
DEMANDS = ("max_dropped", "parity")


class ParitySpec(Value):
    """Before a release may be trusted with live requests, features as served must equal features as trained on.

    :param min_equal: share of rows that must be equal in every column.
    :param rows: served rows to recompute; fewer cannot decide.
    :param tolerance: two numbers closer than this, relative to the larger, are equal.
    """

    min_equal: Ratio
    rows: int = Field(default=500, ge=1)
    tolerance: float = Field(default=1e-6, ge=0, lt=1)

    @property
    def gate(self) -> Gate:
        """What the parity check is judged by, among the offline gates."""
        return Gate(name="feature-parity", metric="parity.equality", min=self.min_equal, min_samples=self.rows)


class FeaturesSpec(Value):
    """Model inputs, in order, and where they come from.

    :param columns: needed wherever a model is trained; an adopted one brings its own signature.
    :param service: of the feature store. With it the data source gives entities, time and label alone, and a model
        server takes entities alone; without it both get the columns themselves.
    :param entities: columns that name what is predicted for; exactly those that the service asks for.
    :param max_dropped: share of rows that the store may be unable to answer; above it the snapshot is refused.
    """

    columns: tuple[Column, ...] = ()
    service: Name | None = None
    entities: tuple[Column, ...] = ()
    max_dropped: Ratio = Field(default=0.05, ge=0, le=1)
    parity: ParitySpec | None = None

    @property
    def joined(self) -> bool:
        """Whether a feature store gives the columns."""
        return self.service is not None and bool(self.entities)

    @model_serializer(mode="wrap")
    def _as_ever_without_store(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A manifest of before there was a store keeps its digest."""
        written: dict[str, Any] = write(self)
        unset = {"entities": (), "parity": None, "max_dropped": type(self).model_fields["max_dropped"].default}
        return {
            name: value for name, value in written.items() if name not in unset or getattr(self, name) != unset[name]
        }


def broken_rules(features: FeaturesSpec, *, target: str | None) -> Iterator[Problem]:
    """Every rule that ``features`` breaks. :param target: the column that the model predicts."""
    for field, listed in (("columns", features.columns), ("entities", features.entities)):
        for index, column in enumerate(listed):
            path: FieldPath = ("features", field, index)
            if column == target:
                yield Problem(path, column, "features must not contain training.target", "remove it: it is the answer")
            if column in listed[:index]:
                yield Problem(path, column, "each column once", "remove the repetition")
    if features.service is not None and not features.entities:
        yield Problem(
            ("features", "entities"),
            "missing",
            "a feature service is asked by entity",
            "name the columns that it is asked by, for example [flight_id]",
        )
    if features.service is None:
        for field, given in (("entities", bool(features.entities)), ("parity", features.parity is not None)):
            if given:
                yield Problem(
                    ("features", field), "given", "only with features.service", "name the service, or remove it"
                )
    if features.entities and set(features.columns) <= set(features.entities):
        yield Problem(
            ("features", "columns"),
            ", ".join(features.columns),
            "at least one column that is no entity: otherwise there is nothing to look up",
            "add features of the service",
        )
    if features.parity is not None and not 0 < features.parity.min_equal <= 1:
        yield Problem(
            ("features", "parity", "min_equal"),
            format_ratio(features.parity.min_equal),
            "more than 0%, at most 100%",
            "write for example 99.5%",
        )


def diff_demands(before: FeaturesSpec, after: FeaturesSpec) -> Iterator[Change]:
    """Changes of what the feature path must prove."""
    yield from compare("features.max_dropped", [_dropped(before)], [_dropped(after)])
    if before.parity is None or after.parity is None:
        if before.parity is not after.parity:
            change = tightened if before.parity is None else loosened
            shown = [NONE if parity is None else parity.gate.rule for parity in (before.parity, after.parity)]
            yield change("features.parity", *shown)
        return
    yield from compare("features.parity", _strictness(before.parity), _strictness(after.parity))


def _dropped(features: FeaturesSpec) -> Strictness:
    return Strictness("", -features.max_dropped, format_ratio(features.max_dropped))


def _strictness(parity: ParitySpec) -> tuple[Strictness, ...]:
    return (
        Strictness("min_equal", parity.min_equal, format_ratio(parity.min_equal)),
        Strictness("rows", parity.rows, str(parity.rows)),
        Strictness("tolerance", -parity.tolerance, repr(parity.tolerance)),
    )
