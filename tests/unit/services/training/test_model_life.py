"""Snapshot, train, evaluate, register and reproduce on small tables, over the ports' fakes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from airflow_provider_mlpipex.domain.errors import (
    DataQualityFailed,
    ManifestInvalid,
    RegistrationRefused,
    SignatureMismatch,
    TrainingFailed,
)
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.quality.expectations import Expectation
from airflow_provider_mlpipex.domain.quality.report import BrokenExpectation, QualityReport, ResultPlace, SqlTable
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, Release, RuntimeEnvironment
from airflow_provider_mlpipex.domain.release.training import TrainingContext, TrainingRecord
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services.training import user_code
from airflow_provider_mlpipex.services.training.evaluation import metrics_on
from airflow_provider_mlpipex.services.training.fit import architecture_of
from airflow_provider_mlpipex.services.training.register import register_model
from airflow_provider_mlpipex.services.training.snapshots import snapshot_dataset
from airflow_provider_mlpipex.services.training.train import (
    configuration_digest,
    reproduce,
    train_model,
)
from airflow_provider_mlpipex.testing.registry import MemoryRegistry
from airflow_provider_mlpipex.testing.runtimes import MemoryRuntimes
from airflow_provider_mlpipex.testing.snapshots import MemorySnapshots

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
HERE = __name__


def source(start: datetime, end: datetime, *, noise: float = 0.5, drop: Sequence[str] = ()) -> pd.DataFrame:
    hours = pd.date_range(start, end, freq="h", inclusive="left")
    random = np.random.default_rng(int(start.timestamp()))
    wind = random.normal(size=len(hours))
    late = (wind + noise * random.normal(size=len(hours)) > 0).astype(int)
    table = pd.DataFrame({"at": hours, "wind": wind, "gust": wind**2, "late": late})
    return table.drop(columns=list(drop))


def train(context: TrainingContext) -> LogisticRegression:
    return LogisticRegression(**context.parameters, random_state=context.seed).fit(context.features, context.target)


def train_another(context: TrainingContext) -> Pipeline:
    return Pipeline([("scale", StandardScaler()), ("fit", LogisticRegression())]).fit(context.features, context.target)


def train_and_raise(context: TrainingContext) -> None:
    raise ZeroDivisionError("no rows left")


def train_nothing(context: TrainingContext) -> None:
    return None


def train_for_other_columns(context: TrainingContext) -> Any:
    return LogisticRegression().fit(context.features.assign(more=1), context.target)


def return_a_list(start: datetime, end: datetime) -> list[int]:
    return [1]


def source_since(start: datetime, end: datetime, *, first: str) -> pd.DataFrame:
    """A source whose data begin on the day ``first``."""
    table = source(start, end)
    return table[table["at"] >= pd.Timestamp(first, tz=UTC)]


class Judge:
    """A validator that finds what it is told to find, and remembers what it was asked."""

    def __init__(self, *broken: BrokenExpectation) -> None:
        self.broken = broken
        self.asked: list[tuple[list[str], int, Sequence[Expectation], str, Sequence[str], ResultPlace | None]] = []

    def validate(
        self,
        frame: pd.DataFrame,
        expectations: Sequence[Expectation],
        *,
        subject: str,
        key: Sequence[str] = (),
        place: ResultPlace | None = None,
    ) -> QualityReport:
        self.asked.append((list(frame.columns), len(frame), expectations, subject, key, place))
        return QualityReport(subject=subject, rows=len(frame), judged=len(expectations), broken=self.broken)

    def validate_table(self, table: SqlTable, *_: object, **__: object) -> QualityReport:
        raise AssertionError(f"nothing of a model's life is in {table}")


def manifest(**changes: dict[str, Any] | None) -> Manifest:
    raw: dict[str, Any] = {
        "apiVersion": "mlpipex/v1",
        "kind": "Deployment",
        "name": "wind-delay",
        "owner": {"team": "weather", "contact": "weather@localhost"},
        "model": {"name": "wind-model"},
        "training": {
            "callable": f"{HERE}:train",
            "task": "binary",
            "target": "late",
            "predict_method": "predict_proba",
            "seed": 7,
            "parameters": {"C": 1.0},
        },
        "runtime": {"version": "1.0.0", "environment": "provider"},
        "data": {
            "source": f"{HERE}:source",
            "time_column": "at",
            "window": {"train": "20d", "evaluate": "10d"},
        },
        "quality": {"key": "at", "snapshot": [{"expect": "column_values_to_not_be_null", "column": "wind"}]},
        "features": {"columns": ["wind", "gust"]},
        "environments": {"production": {}},
    }
    for block, change in changes.items():
        raw[block] = None if change is None else {**raw[block], **change}
    return Manifest.model_validate(raw)


@pytest.fixture
def store() -> MemorySnapshots:
    return MemorySnapshots()


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


def take(store: MemorySnapshots, of: Manifest | None = None, as_of: datetime = AS_OF) -> DatasetSnapshot:
    return snapshot_dataset(of or manifest(), as_of, store=store, validator=Judge())[0]


@pytest.fixture
def learn(store: MemorySnapshots, registry: MemoryRegistry) -> Callable[..., TrainingRecord]:
    def learn(of: Manifest | None = None, as_of: datetime = AS_OF, code_version: str = "0123abcd") -> TrainingRecord:
        of = of or manifest()
        snapshot = take(store, of, as_of)
        return train_model(of, snapshot, store=store, registry=registry, validator=Judge(), code_version=code_version)

    return learn


# Snapshot.


def test_a_snapshot_ends_at_its_moment_and_remembers_the_split(store: MemorySnapshots) -> None:
    judge = Judge()
    snapshot, report = snapshot_dataset(manifest(), AS_OF, store=store, validator=judge)
    assert (snapshot.window_start, snapshot.split_at, snapshot.window_end) == (
        AS_OF - timedelta(days=30),
        AS_OF - timedelta(days=10),
        AS_OF,
    )
    assert (snapshot.name, snapshot.rows, report.passed) == ("wind-delay", 30 * 24, True)
    place = ResultPlace(folder="wind-delay", table="snapshot")
    asked = (["at", "wind", "gust", "late"], 30 * 24, manifest().quality.snapshot, "dataset wind-delay", ("at",), place)
    assert judge.asked == [asked]
    assert take(store) == snapshot


def test_broken_quality_keeps_nothing_and_says_what_broke(store: MemorySnapshots) -> None:
    judge = Judge(
        BrokenExpectation(
            expectation="column_values_to_be_between",
            column="wind",
            expected="min_value=0",
            observed="3 of 720 values break it",
            sample=("-1.5", "-2"),
            keys=("at=12", "at=17"),
        )
    )
    with pytest.raises(DataQualityFailed) as refused:
        snapshot_dataset(manifest(), AS_OF, store=store, validator=judge)
    message = "wind: column_values_to_be_between (min_value=0), observed 3 of 720 values break it, for example -1.5, -2"
    assert refused.value.value == f"{message} in at=12, at=17"
    assert store.tables == {}


def test_a_warning_is_told_and_stops_nothing(store: MemorySnapshots) -> None:
    warning = BrokenExpectation(
        expectation="column_values_to_not_be_null", column="wind", expected="to hold", observed="1", severity="warning"
    )
    told: list[QualityReport] = []
    snapshot, report = snapshot_dataset(manifest(), AS_OF, store=store, validator=Judge(warning), tell=told.append)
    assert (snapshot.rows, report.warnings, told) == (30 * 24, (warning,), [report])


@pytest.mark.parametrize("column", ["at", "late", "gust", "name"])
def test_missing_columns_are_named(store: MemorySnapshots, column: str) -> None:
    named = manifest(
        data={"parameters": {"drop": [column] if column != "name" else []}}, quality={"key": ["at", "name"]}
    )
    with pytest.raises(DataQualityFailed, match=f"columns {column}"):
        take(store, named)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"parameters": {"noises": 1}}, "TypeError"),
        ({"source": f"{HERE}:return_a_list"}, "list"),
    ],
)
def test_a_source_that_fails_is_named(store: MemorySnapshots, data: dict[str, Any], found: str) -> None:
    with pytest.raises(DataQualityFailed, match=f"data source {HERE}") as refused:
        take(store, manifest(data=data))
    assert found in str(refused.value.value)


@pytest.mark.parametrize("path", ["no_such_module:load", f"{HERE}:no_such_function", f"{HERE}:HERE"])
def test_a_source_that_cannot_be_imported_is_the_manifests_fault(store: MemorySnapshots, path: str) -> None:
    with pytest.raises(ManifestInvalid, match=r"data\.source"):
        take(store, manifest(data={"source": path}))


def test_a_moment_without_time_zone_is_refused(store: MemorySnapshots) -> None:
    with pytest.raises(DataQualityFailed, match="time zone"):
        take(store, as_of=AS_OF.replace(tzinfo=None))


def since(first: str) -> Manifest:
    return manifest(data={"source": f"{HERE}:source_since", "parameters": {"first": first}})


def test_a_source_without_rows_is_told_of_as_of_and_not_of_quality(store: MemorySnapshots) -> None:
    with pytest.raises(DataQualityFailed) as refused:
        take(store, since("2026-03-02"))
    assert refused.value.value == "no rows from 2026-01-30 to 2026-03-01"
    assert "as_of" in str(refused.value.limit) and "as_of" in str(refused.value.remedy)


def test_a_training_window_that_is_longer_than_the_data_is_refused(store: MemorySnapshots) -> None:
    # Twenty days of training from 30 January on; two of them may lack rows, for a source may start on a Monday.
    assert take(store, since("2026-02-01")).rows == 28 * 24
    with pytest.raises(DataQualityFailed, match=r"data\.window\.train") as refused:
        take(store, since("2026-02-10"))
    assert str(refused.value.remedy).startswith("write train: 9d")
    with pytest.raises(DataQualityFailed, match="no row is old enough to train on"):
        take(store, since("2026-02-20"))


# Train.


def test_training_learns_the_older_rows_and_is_judged_on_the_newer(
    learn: Callable[..., TrainingRecord], store: MemorySnapshots
) -> None:
    done = learn()
    rows = store.read(done.dataset)
    older, newer = rows[rows["at"] < done.dataset.split_at], rows[rows["at"] >= done.dataset.split_at]
    expected = LogisticRegression(random_state=7).fit(older[["wind", "gust"]], older["late"])
    assert done.metrics["accuracy"] == expected.score(newer[["wind", "gust"]], newer["late"])
    assert done.evaluation_rows == len(newer) == 240
    assert (done.model_name, done.endpoint_name, done.task) == ("wind-model", "wind-delay", "binary")
    assert done.architecture == "LogisticRegression"


FEATURES = {"features": [{"expect": "column_values_to_be_between", "column": "gust", "min_value": 0}]}


def test_features_are_judged_before_the_model_learns_from_them(
    store: MemorySnapshots, registry: MemoryRegistry
) -> None:
    of, judge = manifest(quality=FEATURES), Judge()
    snapshot = take(store, of)
    train_model(of, snapshot, store=store, registry=registry, validator=judge, code_version="x")
    (columns, rows, expectations, subject, key, place), *more = judge.asked
    assert (columns, rows, expectations, key) == (["wind", "gust", "at"], 20 * 24, of.quality.features, ("at",))
    assert subject == f"features of snapshot wind-delay {snapshot.digest[:12]}"
    assert (place, more) == (ResultPlace(folder="wind-delay", table="features"), [])


def test_broken_features_are_not_learned_from(store: MemorySnapshots, registry: MemoryRegistry) -> None:
    broken = BrokenExpectation(expectation="column_values_to_be_between", column="gust", expected="x", observed="y")
    of = manifest(quality=FEATURES, training={"callable": f"{HERE}:train_and_raise"})
    told: list[QualityReport] = []
    with pytest.raises(DataQualityFailed, match="gust: column_values_to_be_between"):
        train_model(
            of,
            take(store, of),
            store=store,
            registry=registry,
            validator=Judge(broken),
            code_version="x",
            tell=told.append,
        )
    assert [report.broken for report in told] == [(broken,)]


def test_training_twice_is_one_run(learn: Callable[..., TrainingRecord]) -> None:
    assert learn() == learn()


def train_on_one_column(context: TrainingContext) -> LogisticRegression:
    return LogisticRegression(C=0.001).fit(context.features * 0, context.target)


def test_another_callable_or_target_never_gets_the_old_model(learn: Callable[..., TrainingRecord]) -> None:
    first = learn()
    other = learn(manifest(training={"callable": f"{HERE}:train_on_one_column", "parameters": {"C": 1.0}}))
    assert other.architecture == first.architecture
    assert other.code_version == first.code_version
    assert other.run_id != first.run_id
    assert other.metrics != first.metrics


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"training": {"parameters": {"C": 2.0}}}, True),
        ({"training": {"seed": 8}}, True),
        ({"features": {"columns": ["gust", "wind"]}}, True),
        ({"training": {"callable": f"{HERE}:train_another"}}, True),
        ({"training": {"target": "gust"}}, True),
        ({"training": {"task": "multiclass"}}, True),
        ({"training": {"predict_method": "predict"}}, True),
        ({"owner": {"team": "climate"}}, False),
        ({"runtime": {"version": "1.1.0"}}, False),
    ],
    ids=["parameters", "seed", "feature-order", "callable", "target", "task", "method", "owner", "runtime"],
)
def test_what_counts_as_configuration(changes: dict[str, Any], counts: bool) -> None:
    assert (configuration_digest(manifest(**changes)) != configuration_digest(manifest())) == counts


@pytest.mark.parametrize(
    ("training", "found"),
    [
        ({"callable": "no_such_module:train"}, "no_such_module"),
        ({"callable": f"{HERE}:no_such_function"}, "no_such_function"),
        ({"callable": f"{HERE}:train_and_raise"}, "ZeroDivisionError: no rows left"),
        ({"callable": f"{HERE}:train_nothing"}, "NoneType"),
        ({"callable": f"{HERE}:train_for_other_columns"}, "ValueError"),
        ({"predict_method": "transform"}, "transform"),
        ({"parameters": {"C": -1}}, "InvalidParameterError"),
        ({"parameters": {"depth": 3}}, "TypeError"),
    ],
)
def test_training_failures_name_the_callable(
    learn: Callable[..., TrainingRecord], training: dict[str, Any], found: str
) -> None:
    with pytest.raises(TrainingFailed, match=training.get("callable", f"{HERE}:train")) as failed:
        learn(manifest(training=training))
    assert found in str(failed.value)
    if found.startswith("ZeroDivisionError"):
        line = inspect.getsourcelines(train_and_raise)[1] + 1
        assert f"tests/unit/services/training/test_model_life.py:{line}, train_and_raise" in str(failed.value)


def test_a_pinned_model_is_not_trained(learn: Callable[..., TrainingRecord]) -> None:
    with pytest.raises(TrainingFailed, match=r"model\.version: 1\.2\.0"):
        learn(manifest(training=None, model={"version": "1.2.0"}))


@pytest.mark.parametrize(
    ("now", "fits"), [(AS_OF + timedelta(days=1), True), (AS_OF + timedelta(days=3), False), (None, False)]
)
def test_an_old_snapshot_is_not_trained_on(
    store: MemorySnapshots, registry: MemoryRegistry, now: datetime | None, fits: bool
) -> None:
    of = manifest(data={"max_age": "2d"})
    snapshot = take(store, of)
    if fits:
        assert train_model(
            of, snapshot, store=store, registry=registry, validator=Judge(), code_version="x", now=now
        ).run_id
    else:
        with pytest.raises(DataQualityFailed, match="max_age"):
            train_model(of, snapshot, store=store, registry=registry, validator=Judge(), code_version="x", now=now)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Ridge(), "Ridge"),
        (
            Pipeline(
                [
                    ("columns", ColumnTransformer([("one", OneHotEncoder(), ["a"]), ("rest", "passthrough", ["b"])])),
                    ("fit", Ridge()),
                ]
            ),
            "Pipeline[ColumnTransformer[OneHotEncoder, passthrough], Ridge]",
        ),
        (FeatureUnion([("a", StandardScaler()), ("b", "drop")]), "FeatureUnion[StandardScaler, drop]"),
        (CalibratedClassifierCV(LogisticRegression()), "CalibratedClassifierCV[LogisticRegression]"),
        (GridSearchCV(Ridge(), {"alpha": [1]}), "GridSearchCV[Ridge]"),
        (VotingClassifier([("a", LogisticRegression())]), "VotingClassifier[LogisticRegression]"),
        (type("Net", (), {"architecture_": "Net[64, 64]"})(), "Net[64, 64]"),
    ],
    ids=lambda value: value.split("[")[0] if isinstance(value, str) else "",
)
def test_architecture_is_the_tree_of_types(model: Any, expected: str) -> None:
    assert architecture_of(model) == expected


# Register.


def test_versions_follow_from_what_changed(learn: Callable[..., TrainingRecord], registry: MemoryRegistry) -> None:
    first = register_model(manifest(), learn(), registry=registry)
    assert first.model.version == "1.0.0"
    newer = learn(as_of=AS_OF + timedelta(days=30))
    second = register_model(manifest(), newer, registry=registry)
    assert (second.model.version, second.bump) == ("1.1.0", "minor")
    tuned = manifest(training={"parameters": {"C": 2.0}})
    third = register_model(tuned, learn(tuned, as_of=AS_OF + timedelta(days=30)), registry=registry)
    assert (third.model.version, third.bump) == ("1.1.1", "patch")
    other = manifest(training={"callable": f"{HERE}:train_another", "parameters": {}})
    fourth = register_model(other, learn(other), registry=registry)
    assert (fourth.model.version, fourth.bump) == ("2.0.0", "major")
    assert any("StandardScaler" in reason for reason in fourth.reasons)
    # A retry of an older registration tells the same story as the first try, not a new version.
    assert register_model(manifest(), newer, registry=registry) == second
    assert [model.version for model in registry.versions("wind-model")] == ["1.0.0", "1.1.0", "1.1.1", "2.0.0"]


def test_an_unknown_code_version_is_refused(learn: Callable[..., TrainingRecord], registry: MemoryRegistry) -> None:
    with pytest.raises(RegistrationRefused, match=r"code version.*MLPIPEX_CODE_VERSION"):
        register_model(manifest(), learn(code_version=""), registry=registry)


def test_a_record_of_another_model_is_refused(learn: Callable[..., TrainingRecord], registry: MemoryRegistry) -> None:
    with pytest.raises(RegistrationRefused, match="other-model"):
        register_model(manifest(model={"name": "other-model"}), learn(), registry=registry)


# Compare and reproduce.


def test_the_current_model_is_measured_on_the_candidates_rows(
    learn: Callable[..., TrainingRecord], store: MemorySnapshots, registry: MemoryRegistry
) -> None:
    current = register_model(manifest(), learn(), registry=registry).model
    metrics, rows = metrics_on(current, manifest(), current.dataset, store=store, registry=registry)
    assert (metrics, rows) == (current.metrics, current.evaluation_rows)
    newer = take(store, as_of=AS_OF + timedelta(days=30))
    elsewhere, _ = metrics_on(current, manifest(), newer, store=store, registry=registry)
    assert elsewhere != metrics
    # The candidate may have dropped a feature that the current model still needs.
    narrower = manifest(features={"columns": ["wind"]})
    assert metrics_on(current, narrower, newer, store=store, registry=registry)[0] == elsewhere


def test_a_column_that_the_current_model_needs_is_named(
    learn: Callable[..., TrainingRecord], store: MemorySnapshots, registry: MemoryRegistry
) -> None:
    current = register_model(manifest(), learn(), registry=registry).model
    without = manifest(features={"columns": ["wind"]}, data={"parameters": {"drop": ["gust"]}})
    with pytest.raises(SignatureMismatch, match="missing columns: gust"):
        metrics_on(current, without, take(store, without), store=store, registry=registry)


def test_without_training_there_is_no_baseline(
    learn: Callable[..., TrainingRecord], store: MemorySnapshots, registry: MemoryRegistry
) -> None:
    current = register_model(manifest(), learn(), registry=registry).model
    pinned = manifest(training=None, model={"version": "1.0.0"})
    assert metrics_on(current, pinned, current.dataset, store=store, registry=registry) == ({}, 0)


def release_of(record: TrainingRecord, registry: MemoryRegistry) -> Release:
    return Release(
        model=register_model(manifest(), record, registry=registry).model,
        runtime=RuntimeEnvironment(version="1.0.0", kind="provider", digest=digest_of("runtime")),
        manifest_digest=manifest().digest,
    )


def test_a_release_is_reproduced_from_its_record(
    learn: Callable[..., TrainingRecord], store: MemorySnapshots, registry: MemoryRegistry
) -> None:
    release = release_of(learn(), registry)
    differences = reproduce(release, manifest(), store=store, registry=registry, runtimes=MemoryRuntimes())
    assert set(differences) == set(release.model.metrics)
    assert all(row["difference"] == 0 and row["recorded"] == row["retrained"] for row in differences.values())


@pytest.mark.parametrize(
    ("training", "what"),
    [({"parameters": {"C": 3.0}}, "configuration"), ({"callable": f"{HERE}:train_another"}, "configuration")],
)
def test_another_model_is_not_a_reproduction(
    learn: Callable[..., TrainingRecord],
    store: MemorySnapshots,
    registry: MemoryRegistry,
    training: dict[str, Any],
    what: str,
) -> None:
    release = release_of(learn(), registry)
    with pytest.raises(TrainingFailed, match=f"{what}.*0123abcd"):
        reproduce(release, manifest(training=training), store=store, registry=registry, runtimes=MemoryRuntimes())


TEAM = """
import pandas as pd
from sklearn.linear_model import LogisticRegression


def load(start, end):
    hours = pd.date_range(start, end, freq="h", inclusive="left")
    wind = [hour % 7 - 3.0 for hour in range(len(hours))]
    late = [int(speed > 0) for speed in wind]
    return pd.DataFrame({"at": hours, "wind": wind, "late": late, "early": [1 - each for each in late]})


def train(context):
    return LogisticRegression().fit(context.features, context.target)


def train_alike(context):
    return LogisticRegression().fit(context.features, context.target)
"""


def test_whatever_decides_a_training_makes_another_run(
    learn: Callable[..., TrainingRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows, commit and architecture each time: only what is named differs."""
    module = tmp_path / "acme_life.py"
    module.write_text(TEAM, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def run(**training: Any) -> str:
        features = {"columns": ["wind"]}
        of = manifest(
            data={"source": "acme_life:load"},
            training={"callable": "acme_life:train", "parameters": {}, **training},
            features=features,
            quality={"key": "at", "snapshot": []},
        )
        return learn(of).run_id

    first = run()
    assert run() == first
    runs = [first, run(target="early"), run(callable="acme_life:train_alike"), run(seed=8)]
    module.write_text(TEAM + "# an edit that nobody committed\n", encoding="utf-8")
    runs.append(run())
    monkeypatch.setattr(user_code, "_installed", lambda: ["scikit-learn==0.0.1"])
    runs.append(run())
    assert len(set(runs)) == len(runs)
    assert run() == runs[-1]
