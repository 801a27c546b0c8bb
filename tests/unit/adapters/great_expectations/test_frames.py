"""Great Expectations on tables where they live, through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from airflow_provider_mlpipex.adapters.great_expectations.validator import GxValidator
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, DataQualityFailed, TableUnavailable
from airflow_provider_mlpipex.domain.quality.expectations import Expectation
from airflow_provider_mlpipex.domain.quality.report import BrokenExpectation, QualityReport, SqlTable
from tests.support.expectations import expectation

ORDERS = pd.DataFrame(
    {
        "order_id": ["o0", "o1", "o2", "o3"],
        "amount": [10.0, -5.0, 30.0, None],
        "country": ["NL", "BE", "BE", None],
        "note": [None, None, None, None],
    }
)
AMOUNT = expectation("column_values_to_be_between", "amount", min_value=0)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    engine = sa.create_engine(url)
    ORDERS.to_sql("orders", engine, index=False)
    ORDERS.head(0).to_sql("no_orders", engine, index=False)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE VIEW good_orders AS SELECT * FROM orders WHERE amount > 0"))
        connection.execute(sa.text('CREATE TABLE "order" AS SELECT * FROM orders'))
        connection.execute(sa.text('CREATE TABLE "order; DROP TABLE orders" (amount REAL)'))
        connection.execute(sa.text('INSERT INTO "order; DROP TABLE orders" VALUES (1.0)'))
    yield url
    engine.dispose()


def judge(url: str, *expectations: Expectation, table: str = "orders", key: tuple[str, ...] = ()) -> QualityReport:
    at = SqlTable.model_validate({"url": url, "table": table})
    return GxValidator().validate_table(at, expectations, subject=f"table {table}", key=key)


def broken(url: str, *expectations: Expectation, table: str = "orders", key: tuple[str, ...] = ()) -> BrokenExpectation:
    (found,) = judge(url, *expectations, table=table, key=key).broken
    return found


def test_a_good_table_passes(url: str) -> None:
    rows = expectation("table_row_count_to_equal", value=4)
    countries = expectation("column_values_to_be_in_set", "country", value_set=["NL", "BE"])
    assert judge(url, rows, countries) == QualityReport(subject="table orders", rows=4, judged=2)


def test_offending_rows_are_named_by_their_key(url: str) -> None:
    assert broken(url, AMOUNT, key=("order_id", "country")) == BrokenExpectation(
        expectation="column_values_to_be_between",
        column="amount",
        expected="min_value=0",
        observed="1 of 4 values break it, 1 missing",
        sample=("-5.0",),
        keys=("order_id=o1, country=BE",),
    )


def test_without_a_key_there_is_nothing_to_name_a_row_by(url: str) -> None:
    assert broken(url, AMOUNT).keys == ()


def test_statistics_are_computed_by_the_database(url: str) -> None:
    assert broken(url, expectation("column_max_to_be_between", "amount", max_value=20)).observed == "30.0"


def test_a_view_is_a_table(url: str) -> None:
    assert judge(url, AMOUNT, table="good_orders").rows == 2


def test_a_name_that_sql_has_taken_is_quoted(url: str) -> None:
    assert judge(url, AMOUNT, table="order").rows == 4


def test_no_name_of_a_table_is_executed(url: str) -> None:
    assert judge(url, expectation("table_row_count_to_equal", value=1), table="order; DROP TABLE orders").passed
    assert judge(url, expectation("table_row_count_to_equal", value=4)).passed


@pytest.mark.parametrize(
    "where", [{"table": 'orders"; --'}, {"table": "[orders]"}, {"table": ""}, {"table": "t", "schema_name": "a; --"}]
)
def test_a_name_with_quotes_is_refused(url: str, where: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        SqlTable.model_validate({"url": url, **where})


def test_a_schema_is_obeyed(url: str) -> None:
    at = SqlTable.model_validate({"url": url, "table": "orders", "schema_name": "main"})
    assert GxValidator().validate_table(at, [AMOUNT], subject="orders", key=("order_id",)).broken[0].keys == (
        "order_id=o1",
    )


def test_an_empty_table_is_broken(url: str) -> None:
    not_null = expectation("column_values_to_not_be_null", "amount")
    found = broken(url, not_null, AMOUNT, table="no_orders")
    assert (found.expectation, found.observed) == ("table_to_have_rows", "no rows")


@pytest.mark.parametrize(
    "one",
    [
        expectation("column_values_to_be_unique", "note"),
        expectation("column_distinct_values_to_be_in_set", "note", value_set=["x"]),
        expectation("column_sum_to_be_between", "note", min_value=0),
    ],
    ids=lambda one: one.expect,
)
def test_a_column_without_any_value_is_broken(url: str, one: Expectation) -> None:
    assert broken(url, one).column == "note"


def test_a_condition_that_no_row_meets_is_no_success(url: str) -> None:
    of_nobody = {"row_condition": 'col("country")=="DE"', "condition_parser": "great_expectations"}
    nobody = expectation("column_values_to_be_between", "amount", min_value=0, **of_nobody)
    assert broken(url, nobody).observed == "no row meets the row_condition"


def test_a_missing_column_or_key_is_broken(url: str) -> None:
    assert '"total"' in broken(url, expectation("column_values_to_not_be_null", "total")).observed
    assert "could not be judged" in broken(url, AMOUNT, key=("order_number",)).observed


def test_a_missing_table_is_named(url: str) -> None:
    with pytest.raises(DataQualityFailed, match="no such table: invoices"):
        judge(url, AMOUNT, table="invoices")


@pytest.mark.parametrize(
    "wrong", ["orders", "postgresql+nosuchdriver://u:hunter2@127.0.0.1/shop", "nosuchdatabase://u:hunter2@127.0.0.1"]
)
def test_an_url_that_cannot_work_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="driver") as refused:
        judge(wrong, AMOUNT)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "away", ["sqlite:////no/such/folder/shop.db", "postgresql+psycopg://u:hunter2@127.0.0.1:1/shop"]
)
def test_a_database_that_is_away_may_come_back(away: str) -> None:
    with pytest.raises(TableUnavailable) as refused:
        judge(away, AMOUNT)
    assert refused.value.transient
    assert "hunter2" not in str(refused.value)


def test_an_url_is_shown_to_nobody() -> None:
    table = SqlTable.model_validate(
        {"url": "postgresql://u:hunter2@db/shop", "table": "orders", "schema_name": "sales"}
    )
    assert "hunter2" not in repr(table) + str(table) + str(table.to_json())
    assert str(table) == "sales.orders"
