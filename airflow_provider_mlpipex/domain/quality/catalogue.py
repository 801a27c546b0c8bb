"""The expectations that a manifest may name, and the arguments that each takes.

Written down here so that a slip is refused where it stands, with its line, already when a Dag file is parsed: Great
Expectations itself takes seconds to import. A test holds this table against the installed version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

#: What an expectation speaks of: ``column`` names one, ``columns`` names several in its arguments, ``table`` none.
Subject = Literal["table", "column", "columns"]

#: Arguments that every expectation takes beside its own; ``severity`` decides whether breaking it stops a stage.
COMMON = ("severity", "notes", "description")
#: For expectations on values: part of the values that must hold, and which rows are judged at all.
_FILTER = ("row_condition", "condition_parser")
_VALUES = ("mostly", *_FILTER)
_BOUNDS = ("min_value", "max_value", "strict_min", "strict_max")


class ExpectationKind(NamedTuple):
    """``required`` arguments must be given; of ``bounds`` at least one, or the expectation could not break."""

    subject: Subject
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        return (*self.required, *self.optional, *COMMON)

    @property
    def needs_bound(self) -> bool:
        """Whether it says nothing without ``min_value`` or ``max_value``."""
        return "min_value" in self.optional

    @property
    def judges_values(self) -> bool:
        """Whether it judges value by value, so that single rows can break it."""
        return "mostly" in self.optional


def _values(*required: str, optional: tuple[str, ...] = ()) -> ExpectationKind:
    return ExpectationKind("column", required, (*optional, *_VALUES))


def _statistic(*required: str, optional: tuple[str, ...] = ()) -> ExpectationKind:
    return ExpectationKind("column", required, (*optional, *_FILTER))


def _several(*required: str, optional: tuple[str, ...] = ()) -> ExpectationKind:
    return ExpectationKind("columns", required, (*optional, *_VALUES, "ignore_row_if"))


_BETWEEN = _statistic(optional=_BOUNDS)

#: Name without ``expect_`` -> what it takes. Left out: expectations that need a second data source.
CATALOGUE: Mapping[str, ExpectationKind] = {
    # A whole table.
    "table_row_count_to_be_between": ExpectationKind("table", (), (*_BOUNDS, *_FILTER)),
    "table_row_count_to_equal": ExpectationKind("table", ("value",), _FILTER),
    "table_column_count_to_be_between": ExpectationKind("table", (), ("min_value", "max_value")),
    "table_column_count_to_equal": ExpectationKind("table", ("value",)),
    "table_columns_to_match_ordered_list": ExpectationKind("table", ("column_list",)),
    "table_columns_to_match_set": ExpectationKind("table", ("column_set",), ("exact_match",)),
    # A column's presence and type.
    "column_to_exist": ExpectationKind("column", (), ("column_index",)),
    "column_type_to_be": ExpectationKind("column", ("type_",)),
    "column_values_to_be_of_type": _values("type_"),
    "column_values_to_be_in_type_list": _values("type_list"),
    # Every value of a column.
    "column_values_to_be_null": _values(),
    "column_values_to_not_be_null": _values(),
    "column_values_to_be_unique": _values(),
    "column_values_to_be_between": _values(optional=_BOUNDS),
    "column_values_to_be_in_set": _values("value_set"),
    "column_values_to_not_be_in_set": _values("value_set"),
    "column_values_to_be_increasing": _values(optional=("strictly",)),
    "column_values_to_be_decreasing": _values(optional=("strictly",)),
    "column_values_to_not_be_outliers": _values(optional=("method", "multiplier")),
    "column_value_z_scores_to_be_less_than": _values("threshold", "double_sided"),
    "column_value_lengths_to_be_between": _values(optional=_BOUNDS),
    "column_value_lengths_to_equal": _values("value"),
    "column_values_to_match_regex": _values("regex"),
    "column_values_to_not_match_regex": _values("regex"),
    "column_values_to_match_regex_list": _values("regex_list", optional=("match_on",)),
    "column_values_to_not_match_regex_list": _values("regex_list"),
    "column_values_to_match_like_pattern": _values("like_pattern", optional=("escape",)),
    "column_values_to_not_match_like_pattern": _values("like_pattern", optional=("escape",)),
    "column_values_to_match_like_pattern_list": _values("like_pattern_list", optional=("match_on", "escape")),
    "column_values_to_not_match_like_pattern_list": _values("like_pattern_list", optional=("escape",)),
    "column_values_to_match_strftime_format": _values("strftime_format"),
    "column_values_to_be_dateutil_parseable": _values(),
    "column_values_to_be_json_parseable": _values(),
    "column_values_to_match_json_schema": _values("json_schema"),
    # One number for a column.
    "column_min_to_be_between": _BETWEEN,
    "column_max_to_be_between": _BETWEEN,
    "column_mean_to_be_between": _BETWEEN,
    "column_median_to_be_between": _BETWEEN,
    "column_stdev_to_be_between": _BETWEEN,
    "column_sum_to_be_between": _BETWEEN,
    "column_unique_value_count_to_be_between": _BETWEEN,
    "column_proportion_of_unique_values_to_be_between": _BETWEEN,
    "column_proportion_of_non_null_values_to_be_between": _BETWEEN,
    "column_quantile_values_to_be_between": _statistic("quantile_ranges", optional=("allow_relative_error",)),
    # A column's values as a set or a distribution.
    "column_distinct_values_to_be_in_set": _statistic("value_set"),
    "column_distinct_values_to_contain_set": _statistic("value_set"),
    "column_distinct_values_to_equal_set": _statistic("value_set"),
    "column_most_common_value_to_be_in_set": _statistic("value_set", optional=("ties_okay",)),
    "column_kl_divergence_to_be_less_than": _statistic(
        "partition_object",
        "threshold",
        optional=("internal_weight_holdout", "tail_weight_holdout", "bucketize_data"),
    ),
    # Several columns of the same row.
    "column_pair_values_to_be_equal": _several("column_A", "column_B"),
    "column_pair_values_a_to_be_greater_than_b": _several("column_A", "column_B", optional=("or_equal",)),
    "column_pair_values_to_be_in_set": _several("column_A", "column_B", "value_pairs_set"),
    "compound_columns_to_be_unique": _several("column_list"),
    "select_column_values_to_be_unique_within_record": _several("column_list"),
    "multicolumn_values_to_be_equal": _several("column_list"),
    "multicolumn_sum_to_equal": _several("column_list", "sum_total"),
}

#: They hold for missing values too, or are about nothing else.
ABOUT_MISSING = frozenset(
    {
        "column_to_exist",
        "column_type_to_be",
        "column_values_to_be_of_type",
        "column_values_to_be_in_type_list",
        "column_values_to_be_null",
        "column_values_to_not_be_null",
        "column_proportion_of_non_null_values_to_be_between",
    }
)
