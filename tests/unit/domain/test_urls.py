"""Addresses without their secrets. SQLAlchemy's own reading of an url is the oracle of what its password is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import URL, make_url

from airflow_provider_mlpipex.domain.errors import ManifestInvalid, RegistryUnavailable
from airflow_provider_mlpipex.domain.urls import hide_credentials, secrets_of, without_credentials

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=6, max_size=20)


@given(user=WORDS, password=WORDS)
def test_no_password_is_shown_and_every_one_is_named(user: str, password: str) -> None:
    url = URL.create("postgresql+psycopg", user, password, "db.example", 5432, "ledger")
    written = url.render_as_string(hide_password=False)
    shown = make_url(without_credentials(written))
    assert (shown.username, shown.password) == (None, None)
    assert (shown.host, shown.port, shown.database) == ("db.example", 5432, "ledger")
    assert password in secrets_of(written)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///.mlpipex/ledger.db",
        "sqlite:////var/lib/ledger.db",
        "http://127.0.0.1:5000",
        "postgresql+psycopg:///ledger?host=/run/postgresql",
        "",
        "no url at all",
        "http://[bad",
    ],
)
def test_what_holds_no_secret_is_as_it_was(url: str) -> None:
    assert (without_credentials(url), secrets_of(url)) == (url.replace("=/run/", "=%2Frun%2F"), ())


def test_a_secret_in_the_query_is_hidden_too() -> None:
    url = "https://mlflow.example/?access_token=abc123&tab=runs"
    assert without_credentials(url) == "https://mlflow.example/?access_token=***&tab=runs"
    assert secrets_of(url) == ("abc123",)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("GET http://ada:horse@mlflow:5000/api?x=1 failed", "GET http://***@mlflow:5000/api?x=1 failed"),
        ("postgresql+psycopg://ada:ho%2Frse@db/ledger", "postgresql+psycopg://***@db/ledger"),
        ("no login at http://mlflow/team@example.com", "no login at http://mlflow/team@example.com"),
        ("ask ada@example.com", "ask ada@example.com"),
    ],
)
def test_a_password_in_what_a_library_says_is_hidden_and_in_every_error(said: str, shown: str) -> None:
    assert hide_credentials(said) == shown
    error = RegistryUnavailable(said, value=said, limit=said, remedy=said)
    assert "horse" not in str(error) and "horse" not in str(error.as_dict())
    assert error.value == shown
    assert ManifestInvalid("manifest", problems=(said,)).problems == (shown,)
