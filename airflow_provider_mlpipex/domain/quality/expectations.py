"""What must hold for tables: the ``quality:`` block of a manifest.

``snapshot`` judges the rows that are loaded, before they are kept; ``features`` the rows that a model learns from,
before it does; ``predictions`` what a release answered to live requests, before more users get it. ``key`` names the
columns by whose values people find a row again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeGuard, get_args

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_serializer, model_validator

from airflow_provider_mlpipex.domain.fields.refusal import Refusal, did_you_mean
from airflow_provider_mlpipex.domain.fields.types import Column, ExpectationName, FolderName
from airflow_provider_mlpipex.domain.quality.catalogue import CATALOGUE, ExpectationKind
from airflow_provider_mlpipex.domain.values import Value

#: ``critical`` stops the stage; ``warning`` and ``info`` are told and counted, and stop nothing.
Severity = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
#: The tables of a rollout that are judged.
TableKind = Literal["snapshot", "features", "predictions"]


class Expectation(Value):
    """One Great Expectations expectation by its snake-case name without ``expect_``.

    Its arguments are written beside it in the manifest (``min_value: 1``) and kept in ``arguments``.
    """

    expect: ExpectationName
    column: Column | None = None
    arguments: dict[str, JsonValue] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_arguments(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or isinstance(raw.get("arguments"), Mapping):
            return raw
        own = {name: raw[name] for name in ("expect", "column") if name in raw}
        return {**own, "arguments": {name: value for name, value in raw.items() if name not in own}}

    @model_validator(mode="after")
    def _can_be_judged(self) -> Expectation:
        kind = CATALOGUE.get(self.expect)
        if kind is None:
            raise Refusal(
                "an expectation of Great Expectations on one table, in snake case and without 'expect_'",
                value=self.expect,
                remedy=did_you_mean(self.expect, CATALOGUE) or "mlpipex quality expectations lists them",
            )
        _check_names(self, kind)
        _check_values(self, kind)
        return self

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        named = {"expect": self.expect, "column": self.column, **self.arguments}
        return {name: value for name, value in named.items() if name != "column" or value is not None}

    @property
    def kind(self) -> ExpectationKind:
        return CATALOGUE[self.expect]

    @property
    def severity(self) -> Severity:
        return next(level for level in SEVERITIES if level == self.arguments.get("severity", "critical"))

    @property
    def moments(self) -> Mapping[str, datetime]:
        """Its bounds that are moments, by argument. Without a zone they are in UTC, as are the moments of a column."""
        bounds = {name: moment_of(self.arguments.get(name)) for name in ("min_value", "max_value")}
        return {name: moment for name, moment in bounds.items() if moment is not None}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns whose values it reads."""
        return tuple(_columns(self))


def moment_of(bound: Any) -> datetime | None:
    """A date or a time in ISO 8601 as a moment in UTC; ``None`` for any other bound."""
    if not isinstance(bound, str) or not _MOMENT.match(bound):
        return None
    try:
        moment = datetime.fromisoformat(bound)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


#: With dashes: digits alone may be a code.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d")


def _columns(expectation: Expectation) -> Iterator[str]:
    if expectation.column is not None:
        yield expectation.column
    if expectation.kind.subject == "columns":
        for name in ("column_A", "column_B", "column_list"):
            named = expectation.arguments.get(name)
            yield from (column for column in (named if isinstance(named, list) else [named]) if isinstance(column, str))


def _check_names(expectation: Expectation, kind: ExpectationKind) -> None:
    name, given = expectation.expect, expectation.arguments
    if kind.subject == "column" and expectation.column is None:
        raise Refusal(f"{name} speaks of one column", value="no column", remedy="add column")
    if kind.subject != "column" and expectation.column is not None:
        takes = ", ".join(kind.arguments)
        raise Refusal(
            f"{name} speaks of no single column",
            value=f"column: {expectation.column}",
            remedy=f"remove column; it takes {takes}",
        )
    unknown = [argument for argument in given if argument not in kind.arguments]
    if unknown:
        raise Refusal(
            f"arguments of {name}: {', '.join(kind.arguments)}",
            value=unknown[0],
            remedy=did_you_mean(unknown[0], kind.arguments) or "remove it",
        )
    missing = [argument for argument in kind.required if given.get(argument) is None]
    if missing:
        raise Refusal(f"{name} needs {', '.join(kind.required)}", value=f"no {missing[0]}", remedy="add it")
    if kind.needs_bound and given.get("min_value") is None and given.get("max_value") is None:
        raise Refusal(f"{name} needs min_value, max_value or both", value="neither", remedy="state what must hold")


def _check_values(expectation: Expectation, kind: ExpectationKind) -> None:
    given = expectation.arguments
    if (severity := given.get("severity", "critical")) not in SEVERITIES:
        raise Refusal(f"one of {', '.join(SEVERITIES)}", value=f"severity: {severity}", remedy="write critical")
    if not (_is_number(mostly := given.get("mostly", 1.0)) and 0 < mostly <= 1):
        raise Refusal(
            "a share above 0, at most 1: nothing could break a share of 0",
            value=f"mostly: {mostly}",
            remedy="write for example 0.99",
        )
    for name, value in given.items():
        _check_shape(name, value)
    low, high = given.get("min_value"), given.get("max_value")
    if kind.needs_bound and low is not None and high is not None:
        shown = f"min_value: {low}, max_value: {high}"
        if _is_number(low) != _is_number(high):
            raise Refusal("bounds of one type", value=shown, remedy="correct one of them")
        moments = moment_of(low), moment_of(high)
        if moments[0] and moments[1]:
            low, high = moments  # type: ignore[assignment]
        if low > high:  # type: ignore[operator]  # two numbers, moments or texts
            raise Refusal("min_value at most max_value", value=shown, remedy="swap them")


_LISTS = ("value_set", "type_list", "column_list", "column_set", "regex_list", "value_pairs_set")


def _check_shape(name: str, value: Any) -> None:
    """The shape that an argument of this name has wherever it occurs."""
    shown = f"{name}: {value}"
    if name in _LISTS and not (isinstance(value, list) and value):
        raise Refusal("a list that is not empty", value=shown, remedy="write [first, second]")
    is_bound = name in ("min_value", "max_value", "threshold") and value is not None
    if is_bound and not (isinstance(value, str) or _is_number(value)):
        raise Refusal("a finite number, or a time in quotes", value=shown, remedy="write for example 0")
    if name == "quantile_ranges" and not _are_quantile_ranges(value):
        raise Refusal(
            "as many value_ranges [lowest, highest] as quantiles between 0 and 1",
            value=shown,
            remedy="write {quantiles: [0.5], value_ranges: [[1, 9]]}",
        )
    for pattern in [value] if name == "regex" else value if name == "regex_list" else []:
        try:
            re.compile(str(pattern))
        except re.error as error:
            raise Refusal(f"a regular expression ({error})", value=pattern, remedy="correct the pattern") from None


def _are_quantile_ranges(value: Any) -> bool:
    if not isinstance(value, Mapping) or value.keys() != {"quantiles", "value_ranges"}:
        return False
    quantiles, ranges = value["quantiles"], value["value_ranges"]
    return (
        isinstance(quantiles, list)
        and isinstance(ranges, list)
        and len(quantiles) == len(ranges) > 0
        and all(_is_number(quantile) and 0 <= quantile <= 1 for quantile in quantiles)
        and all(isinstance(pair, list) and len(pair) == 2 for pair in ranges)
    )


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _one_or_several(raw: Any) -> Any:
    return [raw] if isinstance(raw, str) else raw


def _each_once(columns: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(columns)) < len(columns):
        raise Refusal("each column once", value=", ".join(columns), remedy="remove the repetition")
    return columns


Key = Annotated[
    tuple[Column, ...],
    BeforeValidator(_one_or_several, json_schema_input_type=str | list[str]),
    AfterValidator(_each_once),
]


class QualitySpec(Value):
    """What must hold for the tables of a rollout.

    :param key: column, or columns, whose values name a row of ``snapshot`` and ``features`` in messages; predictions
        are named by their request id.
    :param results: folder for what Great Expectations writes, below ``quality_root`` of the connection or environment;
        the manifest's name if not given.
    """

    key: Key = ()
    results: FolderName | None = None
    snapshot: tuple[Expectation, ...] = Field(default=(), description="the rows loaded, before they are kept")
    features: tuple[Expectation, ...] = Field(default=(), description="model inputs of the rows to learn from")
    predictions: tuple[Expectation, ...] = Field(default=(), description="what live requests were answered")

    def of(self, judged: TableKind) -> tuple[Expectation, ...]:
        by_name: Mapping[TableKind, Sequence[Expectation]] = {
            "snapshot": self.snapshot,
            "features": self.features,
            "predictions": self.predictions,
        }
        return tuple(by_name[judged])
