from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.errors import InvalidName
from airflow_provider_mlpipex.domain.names import MAX_NAME_LENGTH, EndpointRef, check_name

BAD_NAMES = [
    "../etc",
    "..",
    "a/b",
    "fraud.scorer",
    "fraud scorer",
    " fraud",
    "fraud\n",
    "Fraud",
    "fraud--scorer",
    "-fraud",
    "fraud-",
    "1fraud",
    "fräud",
    "fraud_scorer",
    "",
    "x" * 64,
    "x" * 300,
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_refused_in_every_place(name: str) -> None:
    with pytest.raises(InvalidName) as refused:
        check_name(name)
    assert len(str(refused.value)) < 500
    with pytest.raises(InvalidName):
        EndpointRef.parse(f"production/{name}")
    with pytest.raises(InvalidName):
        EndpointRef.parse(f"{name}/fraud-scorer")


def test_an_endpoint_needs_both_parts() -> None:
    with pytest.raises(InvalidName):
        EndpointRef.parse("fraud-scorer")


def test_a_non_text_name_is_refused() -> None:
    with pytest.raises(InvalidName):
        check_name(7)  # type: ignore[arg-type]


@given(st.text(alphabet=string.printable, max_size=80))
def test_what_passes_is_safe_in_paths_and_urls(text: str) -> None:
    try:
        name = check_name(text)
    except InvalidName:
        return
    assert set(name) <= set(string.ascii_lowercase + string.digits + "-")
    assert 0 < len(name) <= MAX_NAME_LENGTH
    assert str(EndpointRef.parse(f"{name}/{name}")) == f"{name}/{name}"
