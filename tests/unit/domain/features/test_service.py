"""The features block of a manifest, its rules and differences; the feature digest in a release; parity row by row."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.errors import DataQualityFailed, FeatureMismatch, ManifestInvalid
from airflow_provider_mlpipex.domain.features.parity import compare, same
from airflow_provider_mlpipex.domain.features.service import (
    FeatureServiceRef,
    HistoricalFrame,
    ServedRow,
    plain,
    settle_types,
)
from airflow_provider_mlpipex.domain.manifest.diff import diff, release_changes
from airflow_provider_mlpipex.domain.manifest.review_block import review_needed
from airflow_provider_mlpipex.domain.planning.plan import plan
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, FeatureJoin, Release
from airflow_provider_mlpipex.domain.validation.loading import load_manifest
from airflow_provider_mlpipex.domain.values import canonical_json, digest_of
from tests.support.factories import NOON, make_release, make_snapshot
from tests.support.manifests import FILE, edited, make_manifest

COLUMNS = "  columns: [amount, country]\n"
#: The block with a store, as people write it.
STORE = f"{COLUMNS}  service: fraud-v1\n  entities: [card]\n  parity: {{min_equal: 99.5%, rows: 200}}\n"
WITH_STORE = (COLUMNS, STORE)


def test_a_feature_block_is_read() -> None:
    features = make_manifest(WITH_STORE).features
    assert features.joined and features.parity is not None
    assert (features.service, features.entities, features.max_dropped) == ("fraud-v1", ("card",), 0.05)
    assert features.parity.gate.rule == "parity.equality at least 99.5% from at least 200 samples"
    assert load_manifest(edited(WITH_STORE), file=FILE) == make_manifest(WITH_STORE)


@pytest.mark.parametrize(
    ("block", "field", "told"),
    [
        (f"{COLUMNS}  service: fraud-v1\n", "features.entities", "asked by entity"),
        (f"{COLUMNS}  entities: [card]\n", "features.entities", "only with features.service"),
        (f"{COLUMNS}  parity: {{min_equal: 99%}}\n", "features.parity", "only with features.service"),
        (STORE.replace("[card]", "[card, card]"), "features.entities[1]", "each column once"),
        (STORE.replace("[card]", "[fraud]"), "features.entities[0]", "must not contain training.target"),
        (STORE.replace("[card]", "[country, amount]"), "features.columns", "nothing to look up"),
        (STORE.replace("99.5%", "0%"), "features.parity.min_equal", "more than 0%"),
        (STORE.replace("99.5%", "-1%"), "features.parity.min_equal", "more than 0%"),
        (STORE.replace("rows: 200", "rows: 0"), "features.parity.rows", "≥ 1"),
        (STORE.replace("rows: 200", "tolerance: 1"), "features.parity.tolerance", "< 1"),
        (f"{STORE}  max_dropped: -1%\n", "features.max_dropped", "≥ 0"),
        (STORE.replace("fraud-v1", "../fraud"), "features.service", "lower-case"),
    ],
)
def test_blocks_that_could_not_work_are_refused(block: str, field: str, told: str) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        load_manifest(edited((COLUMNS, block)), file=FILE)
    assert [problem for problem in refused.value.problems if field in problem and told in problem]


def test_a_parity_gate_belongs_into_the_features_block() -> None:
    offline = ("accuracy within 0.5% of the baseline", "parity equality at least 99%")
    with pytest.raises(ManifestInvalid) as refused:
        load_manifest(edited(offline), file=FILE)
    assert "parity.equality" in refused.value.problems[0]


def test_a_manifest_without_a_store_keeps_its_digest() -> None:
    """What older versions have written, byte for byte."""
    assert make_manifest().to_json()["features"] == {"columns": ["amount", "country"], "service": None}


@pytest.mark.parametrize(
    ("before", "after", "kind", "what"),
    [
        ("99.5%", "99%", "gate-loosened", "features.parity min_equal"),
        ("rows: 200", "rows: 100", "gate-loosened", "features.parity rows"),
        ("rows: 200", "rows: 200, tolerance: 0.01", "gate-loosened", "features.parity tolerance"),
        ("  parity: {min_equal: 99.5%, rows: 200}\n", "", "gate-loosened", "features.parity"),
        ("entities: [card]\n", "entities: [card]\n  max_dropped: 50%\n", "gate-loosened", "features.max_dropped"),
        ("fraud-v1", "fraud-v2", "features", "features.service"),
        ("[card]", "[card, shop]", "features", "features.entities"),
    ],
)
def test_what_differs_between_two_blocks(before: str, after: str, kind: str, what: str) -> None:
    one, other = make_manifest(WITH_STORE), make_manifest((COLUMNS, STORE.replace(before, after)))
    assert [(change.kind, change.what) for change in diff(one, other)] == [(kind, what)]
    back = [(change.kind, change.what) for change in diff(other, one)]
    assert back == [(kind.replace("loosened", "tightened"), what)]


# Releases.


def joined(digest: str = "one") -> Release:
    return make_release().model_copy(update={"feature_service": "fraud-v1", "feature_digest": digest_of(digest)})


def test_old_releases_keep_id_and_text() -> None:
    """Ids are in Envoy's configuration, and texts in a hash chain: neither may change with this version."""
    release = make_release()
    old = {
        "model": release.model.name,
        "version": release.model.version,
        "artifact": release.model.artifact_digest,
        "runtime": [release.runtime.version, release.runtime.kind, release.runtime.digest],
        "features": None,
    }
    assert release.digest == digest_of(old)
    assert "feature_digest" not in release.to_json()
    assert "features" not in release.to_json()["model"]["dataset"]


def test_a_release_with_features_survives_its_text() -> None:
    snapshot = make_snapshot().model_copy(
        update={"features": FeatureJoin(service="fraud-v1", digest=digest_of(1), asked=10, dropped=2, unknown=1)}
    )
    release = joined().model_copy(update={"model": make_release().model.model_copy(update={"dataset": snapshot})})
    again = Release.model_validate_json(canonical_json(release.to_json()))
    assert (again, again.id) == (release, release.id)
    assert DatasetSnapshot.model_validate(snapshot.to_json()).features.lost_share == 0.3  # type: ignore[union-attr]


def test_another_definition_is_another_release_and_opens_a_review() -> None:
    one, other = joined("one"), joined("other")
    assert one.id != other.id != make_release().id
    changes = release_changes(one, other)
    assert [change.kind for change in changes] == ["features"]
    assert changes[0].before.startswith("fraud-v1 (") and changes[0].before != changes[0].after
    review = make_manifest().environments["production"].review
    assert review is not None and review_needed(changes, review).needs_person
    assert [change.kind for change in release_changes(make_release(), one)] == ["features"]
    assert release_changes(one, one) == ()


# Services.

SERVICE = FeatureServiceRef(
    name="fraud-v1", digest=digest_of(1), entities={"card": "String", "shop": "Int64"}, features={"amount": "Float64"}
)


def test_a_service_must_give_what_the_manifest_asks() -> None:
    SERVICE.require(columns=("amount", "shop"), entities=("shop", "card"))
    with pytest.raises(FeatureMismatch, match=r"features country, city .*not in the service"):
        SERVICE.require(columns=("amount", "country", "city"), entities=("card", "shop"))
    with pytest.raises(FeatureMismatch, match=r"entities .*'card'.*card, shop"):
        SERVICE.require(columns=("amount",), entities=("card",))


# Values.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (float("nan"), None),
        (pd.NaT, None),
        (pd.NA, None),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([1.0, np.nan]), [1.0, None]),
        (math.inf, math.inf),
        ("", ""),
        (datetime(2026, 3, 1, 12, tzinfo=UTC), "2026-03-01T12:00:00+00:00"),
        (pd.Timestamp("2026-03-01 07:00", tz="America/New_York"), "2026-03-01T12:00:00+00:00"),
    ],
    ids=repr,
)
def test_values_as_json_says_them(value: Any, expected: Any) -> None:
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


def test_whole_numbers_stay_whole_where_none_is_missing() -> None:
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, np.nan], "c": [1.0, 2.0]})
    settled = settle_types(table, {"a": "Int64", "b": "Int64", "c": "Float64"})
    assert list(settled.dtypes.astype(str)) == ["int64", "float64", "float64"]


@pytest.mark.parametrize(("largest", "refused"), [(2**53, False), (2**53 + 1, True)])
def test_integers_with_gaps_are_floats_for_a_model_or_refused_by_name(largest: int, refused: bool) -> None:
    service = FeatureServiceRef(
        name="fraud-v1", digest=digest_of(1), entities={"card": "String"}, features={"account": "Int64"}
    )
    frame = pd.DataFrame({"card": ["a", "b"], "account": pd.array([largest, None], dtype="Int64")})
    joined = HistoricalFrame(service=service, frame=frame, asked=2)
    if refused:
        with pytest.raises(DataQualityFailed, match=r"feature account.*2\^53"):
            _ = joined.answered
    else:
        assert joined.answered["account"].dtype == "float64"
        assert joined.answered["account"][0] == largest


# Parity.


@pytest.mark.parametrize(
    ("served", "offline", "equal"),
    [
        (1.0, 1.0, True),
        (1, 1.0, True),
        (2**53 + 1, 2**53 + 1, True),
        (2**53 + 1, 2**53 + 3, False),
        (1_000_000, 1_000_001, False),
        (1.0, 1.0 + 1e-9, True),
        (1.0, 1.0 + 1e-3, False),
        (0.0, 1e-300, False),
        (math.inf, math.inf, True),
        (math.inf, -math.inf, False),
        (None, None, True),
        (None, 0.0, False),
        (0.0, None, False),
        ("", None, False),
        ("A", "A", True),
        ("A", "B", False),
        ("1", 1, False),
        ([1.0, 2.0], [1.0, 2.0 + 1e-9], True),
        ([1.0], [1.0, 2.0], False),
        ([None], [0.0], False),
    ],
)
def test_when_two_values_are_the_same(served: Any, offline: Any, equal: bool) -> None:
    assert same(served, offline, 1e-6) is equal
    assert same(offline, served, 1e-6) is equal


def served(**values: Any) -> ServedRow:
    return ServedRow(keys={"card": "c1"}, as_of=NOON, values=values, request_id="r1")


def test_a_report_names_features_and_rows_worst_first() -> None:
    rows = [served(a=1.0, b=1.0, c="x") for _ in range(10)]
    offline = [{"a": 1.0 if at else 2.0, "b": float(at % 2), "c": "x"} for at in range(9)]
    report = compare("fraud-v1", rows, [*offline, None], features=["a", "b", "c"], tolerance=1e-6)
    assert (report.rows, report.equal, report.dropped, report.equality) == (10, 4, 1, 0.4)
    assert [(found.feature, found.unequal) for found in report.features] == [("b", 5), ("a", 1)]
    assert len(report.features[0].examples) == 3
    told = report.explain()
    assert "a differs in 1 of 10 rows (card=c1 as of 2026-03-01T12:00:00+0000, request r1: served 1.0" in told
    assert told.index("b differs") < told.index("a differs") < told.index("1 rows have no value offline")


def test_nothing_unequal_is_nothing_to_tell() -> None:
    report = compare("fraud-v1", [served(a=1.0)], [{"a": 1.0}], features=["a"], tolerance=0.0)
    assert (report.equality, report.explain()) == (1.0, "")
    empty = compare("fraud-v1", [], [], features=["a"], tolerance=0.0)
    assert (empty.equality, empty.explain()) == (None, "")


def test_a_feature_that_was_not_served_is_unequal() -> None:
    report = compare("fraud-v1", [served()], [{"a": 1.0}], features=["a"], tolerance=0.0)
    assert report.equal == 0


VALUES = st.one_of(st.none(), st.floats(allow_nan=False), st.text(max_size=3), st.booleans())


@given(st.lists(st.tuples(VALUES, VALUES, st.booleans()), max_size=20))
def test_every_row_is_equal_or_accounted_for(pairs: list[tuple[Any, Any, bool]]) -> None:
    rows = [served(a=value) for value, _, _ in pairs]
    offline = [None if gone else {"a": value} for _, value, gone in pairs]
    report = compare("fraud-v1", rows, offline, features=["a"], tolerance=1e-6)
    assert report.rows == report.equal + report.dropped + sum(found.unequal for found in report.features)


def test_the_plan_of_a_rollout_shows_the_parity_gate() -> None:
    planned = {step.stage: step for step in plan(make_manifest(WITH_STORE), "production").steps}
    assert [gate.name for gate in planned["gate"].gates][-1] == "feature-parity"
    for stage in ("shadow", "canary"):
        assert "features as looked up" in planned[stage].notes[-1]
    without = [note for step in plan(make_manifest(), "production").steps for note in step.notes]
    assert not [note for note in without if "looked up" in note]
