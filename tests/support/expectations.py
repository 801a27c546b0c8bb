"""Expectations as a manifest would write them."""

from __future__ import annotations

from typing import Any

from airflow_provider_mlpipex.domain.quality.expectations import Expectation


def expectation(expect: str, column: str | None = None, **arguments: Any) -> Expectation:
    """``column_values_to_be_between`` on ``column``, with its arguments."""
    return Expectation(expect=expect, column=column, arguments=arguments)
