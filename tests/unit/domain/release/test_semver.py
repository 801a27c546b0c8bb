from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.errors import InvalidQuantity
from airflow_provider_mlpipex.domain.release.release import ModelVersion
from airflow_provider_mlpipex.domain.release.semver import Version, bump
from airflow_provider_mlpipex.domain.release.training import TrainingRecord
from airflow_provider_mlpipex.domain.values import digest_of
from tests.support.factories import make_model, make_snapshot

versions = st.builds(Version, *[st.integers(min_value=0, max_value=999)] * 3)


def record_like(model: ModelVersion, **changes: object) -> TrainingRecord:
    """The record of training ``model`` once more, changed only where said."""
    same = {
        "model_name": model.name,
        "endpoint_name": model.name,
        "dataset": model.dataset,
        "architecture": model.architecture,
        "configuration_digest": model.configuration_digest,
        "code_version": model.code_version,
        "task": "binary",
        "signature": model.signature,
    }
    return TrainingRecord.model_validate({**same, **changes})


SIGNATURE = {"inputs": '[{"name": "amount"}]'}


@pytest.mark.parametrize(
    ("changes", "kind", "version", "reason"),
    [
        ({"architecture": "Ridge"}, "major", "3.0.0", "architecture"),
        ({"signature": SIGNATURE}, "major", "3.0.0", "signature"),
        ({"dataset": make_snapshot("april")}, "minor", "2.4.0", "data"),
        ({"configuration_digest": digest_of("other")}, "patch", "2.3.5", "configuration"),
        ({"code_version": "9876fed"}, "patch", "2.3.5", "code"),
        ({}, "none", "2.3.4", "nothing"),
        (
            {"architecture": "Ridge", "dataset": make_snapshot("april"), "code_version": "9876fed"},
            "major",
            "3.0.0",
            "arch",
        ),
    ],
)
def test_the_weightiest_change_decides(changes: dict[str, object], kind: str, version: str, reason: str) -> None:
    model = make_model("2.3.4")
    assert bump(model, record_like(model, **changes))[:2] == (version, kind)
    assert bump(model, record_like(model, **changes)).reasons[0].startswith(reason)


def test_every_change_is_a_reason() -> None:
    model = make_model("1.0.0")
    changed = record_like(model, architecture="Ridge", dataset=make_snapshot("april"), code_version="9876fed")
    assert [reason.partition(":")[0] for reason in bump(model, changed).reasons] == ["architecture", "data", "code"]


def test_the_same_rows_split_elsewhere_are_other_data() -> None:
    model = make_model("1.0.0")
    dataset = model.dataset.model_copy(update={"split_at": model.dataset.split_at + timedelta(days=1)})
    assert bump(model, record_like(model, dataset=dataset)).kind == "minor"


def test_the_first_version() -> None:
    assert bump(None, record_like(make_model("1.0.0")))[:2] == ("1.0.0", "initial")


@given(versions, st.sampled_from(["major", "minor", "patch"]))
def test_a_bump_is_always_newer_and_never_skips(version: Version, kind: str) -> None:
    bumped = version.bumped(kind)  # type: ignore[arg-type]
    assert bumped > version
    assert sum(new - old for old, new in zip(version, bumped, strict=True) if new > old) == 1


@given(versions, versions, versions)
def test_versions_are_totally_ordered(a: Version, b: Version, c: Version) -> None:
    assert (a < b) + (b < a) + (a == b) == 1
    assert not (a <= b <= c) or a <= c


@given(versions)
def test_a_version_survives_being_written(version: Version) -> None:
    assert Version.parse(str(version)) == version


def test_numbers_are_compared_as_numbers() -> None:
    assert Version.parse("1.10.0") > Version.parse("1.9.9")


@pytest.mark.parametrize(
    "text", ["1.0", "01.0.0", "1.0.0-rc1", "v1.0.0", "1.0.0\n", "\u0661.0.0", "", "9" * 400 + ".0.0"]
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(InvalidQuantity):
        Version.parse(text)
