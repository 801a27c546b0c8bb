"""Requests by entity: looked up, scored as if the client had sent the features, and logged with their keys."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from airflow_provider_mlpipex.adapters.mlflow.model import save_model
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, FeatureMismatch, FeatureStoreUnavailable
from airflow_provider_mlpipex.domain.features.service import ServedRow
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.predictions import PredictionSample
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.release.training import TrainedModel
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services.evidence.feature_parity import recompute
from airflow_provider_mlpipex.serving.model_server.app import Drill, create_app
from airflow_provider_mlpipex.serving.model_server.feature_lookup import (
    FeatureScorer,
    UnfitKeys,
    read_keys,
    with_features,
)
from airflow_provider_mlpipex.serving.model_server.scoring import Scored, Scorer
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec, read_failure
from airflow_provider_mlpipex.serving.prediction_log import sample
from airflow_provider_mlpipex.serving.prediction_log.reader import records
from airflow_provider_mlpipex.testing.features import MemoryFeatures
from tests.support.feature_stores import FeastHarness, view
from tests.support.flights_store import manifest
from tests.support.plane import release_of
from tests.support.polling import until

JSON = "application/json"
ENDPOINT = EndpointRef.parse("production/wind-delay")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
INPUTS = ["wind", "seats", "route"]
WIND = {"wind": "Float64", "gate": "String"}
SEATS = {"seats": "Int64"}
WEATHER = view(
    "weather",
    "flight",
    WIND,
    ("UA1", NOON, 1.5, "A"),
    ("UA2", NOON, None, "B"),
    ("UA3", NOON, 7.0, "C"),
    ("UA4", NOON - 9 * HOUR, 8.0, "D"),
    ttl=3 * HOUR,
)
ROUTES = view("routes", "route", SEATS, (1, NOON, 100), (2, NOON, 200))
#: What the model says: wind (5 where it is missing) + seats + 1000 × route.
ANSWERS = {("UA1", 1): 1101.5, ("UA2", 2): 2205.0, ("UA3", 1): 1107.0}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = pd.DataFrame({"wind": [1.5, 8.5, None, 5.0], "seats": [100, 200, 300, 400], "route": [1, 2, 1, 2]})
    prepare = ColumnTransformer([("wind", SimpleImputer(), ["wind"])], remainder="passthrough")
    pipeline = Pipeline([("columns", prepare), ("fit", LinearRegression())])
    # Exactly solvable: three inputs, four rows that agree.
    pipeline.fit(rows, rows["wind"].fillna(5.0) + rows["seats"] + 1000 * rows["route"])
    folder = tmp_path_factory.mktemp("models") / "wind"
    trained = TrainedModel(
        model=pipeline, predict_method="predict", examples=rows, metrics={"mae": 0.0}, evaluation_rows=4
    )
    save_model(trained, folder)
    return folder


@pytest.fixture(scope="module")
def scorer(model_dir: Path) -> Scorer:
    import mlflow.pyfunc

    return Scorer(mlflow.pyfunc.load_model(str(model_dir)))


@pytest.fixture
def store() -> MemoryFeatures:
    made = MemoryFeatures()
    made.define(WEATHER, ROUTES, flights_v1=["weather", "routes"])
    made.materialise(NOON)
    return made


@pytest.fixture
def asked(scorer: Scorer, store: MemoryFeatures) -> FeatureScorer:
    return FeatureScorer(scorer, store, store.describe("flights-v1"), now=lambda: NOON + HOUR)


def by_split(*keys: tuple[Any, Any]) -> dict[str, Any]:
    return {"dataframe_split": {"columns": ["route", "flight"], "data": [[route, flight] for flight, route in keys]}}


def by_records(*keys: tuple[Any, Any]) -> dict[str, Any]:
    return {"dataframe_records": [{"flight": flight, "route": route} for flight, route in keys]}


def score(by: Any, request: Any, content_type: str = JSON) -> Scored:
    return by.score(json.dumps(request).encode(), content_type)


def predictions(answer: Scored) -> list[float]:
    assert answer.status == 200, answer.body
    return json.loads(answer.body)["predictions"]


@pytest.mark.parametrize("form", [by_split, by_records])
def test_entities_are_looked_up_and_scored(asked: FeatureScorer, form: Any) -> None:
    answer = score(asked, form(*ANSWERS))
    assert predictions(answer) == pytest.approx(list(ANSWERS.values()))
    assert answer.columns == INPUTS, "an entity that the model wants comes from the request"
    assert answer.rows == [[1.5, 100, 1], [None, 200, 2], [7.0, 100, 1]]
    assert answer.lookups[1] == {"keys": {"flight": "UA2", "route": 2}, "looked_up_at": (NOON + HOUR).timestamp()}


def test_full_rows_are_answered_as_before(asked: FeatureScorer, scorer: Scorer) -> None:
    for request in (
        {"dataframe_split": {"columns": INPUTS, "data": [[1.5, 100, 1]]}},
        {"dataframe_records": [{"wind": 1.5, "seats": 100, "route": 1}]},
        {"dataframe_split": {"columns": ["wind", "seats"], "data": [[1.5, 100]]}},
        {"dataframe_split": {"columns": ["flight", *INPUTS], "data": [["UA3", 1.5, 100, 1]]}},
        {"instances": [[1.5, 100, 1]]},
        {"dataframe_records": []},
        {},
        [],
        "not an object",
    ):
        assert score(asked, request) == score(scorer, request)
    csv = b"wind,seats,route\n1.5,100,1\n"
    assert asked.score(csv, "text/csv") == scorer.score(csv, "text/csv")
    assert asked.score(b"{broken", JSON) == scorer.score(b"{broken", JSON)
    assert asked.score(b"{}", None).status == scorer.score(b"{}", None).status


def test_one_missing_feature_is_what_the_model_was_trained_for(asked: FeatureScorer) -> None:
    assert predictions(score(asked, by_split(("UA2", 2)))) == pytest.approx([2205.0])


@pytest.mark.parametrize(
    ("keys", "status", "code", "named"),
    [
        ([("UA1", 1), ("XX9", 9)], 404, "RESOURCE_DOES_NOT_EXIST", "route=9, flight=XX9"),
        ([("UA4", 1)], 503, "TEMPORARILY_UNAVAILABLE", "older than their time to live, of route=1, flight=UA4"),
        ([("XX9", n) for n in range(10, 15)], 404, "RESOURCE_DOES_NOT_EXIST", "and 2 more"),
    ],
    ids=["unknown", "expired", "many"],
)
def test_what_the_store_cannot_answer_is_refused_by_name(
    asked: FeatureScorer, store: MemoryFeatures, keys: Any, status: int, code: str, named: str
) -> None:
    store.materialise(NOON)
    answer = score(asked, by_split(*keys))
    said = json.loads(answer.body)
    assert (answer.status, said["error_code"], answer.outputs) == (status, code, [])
    assert named in said["message"]


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"dataframe_split": {"columns": ["flight"], "data": [["UA1"]]}}, "row 0 has no route"),
        ({"dataframe_records": [{"flight": "UA1", "route": 1}, {"flight": "UA1"}]}, "row 1 has no route"),
        ({"dataframe_split": {"columns": ["flight", "route"], "data": []}}, "no rows"),
        ({"dataframe_split": {"columns": ["flight", "route"], "data": [["UA1"]]}}, "one value for each"),
        ({"dataframe_split": {"columns": ["flight", "flight"], "data": [["UA1", "UA1"]]}}, "each column once"),
        ({"dataframe_records": [{"flight": None, "route": 1}]}, "row 0 has no flight"),
        ({"dataframe_records": [{"flight": ["UA1"], "route": 1}]}, "row 0 has no flight"),
        ({"dataframe_records": [{"flight": 1, "route": 1}]}, "row 0 has no flight (String)"),
        ({"dataframe_records": [{"flight": "UA1", "route": "1"}]}, "row 0 has no route (Int64)"),
        ({"dataframe_records": [{"flight": "UA1", "route": 1.0}]}, "row 0 has no route (Int64)"),
        ({"dataframe_records": [{"flight": "UA1", "route": True}]}, "row 0 has no route (Int64)"),
        ({"dataframe_records": [{"flight": "UA1", "route": 2**63}]}, "row 0 has no route (Int64)"),
    ],
)
def test_half_named_entities_are_the_callers_fault(asked: FeatureScorer, request_: Any, named: str) -> None:
    answer = score(asked, request_)
    assert (answer.status, json.loads(answer.body)["error_code"]) == (400, "BAD_REQUEST")
    assert named in json.loads(answer.body)["message"]


def test_a_store_that_breaks_costs_the_answer_and_not_the_server(
    asked: FeatureScorer, store: MemoryFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise FeatureStoreUnavailable("feature store", value="database is locked")

    monkeypatch.setattr(store, "online", away)
    answer = score(asked, by_split(("UA1", 1)))
    assert answer.status == 503
    assert "database is locked" in json.loads(answer.body)["message"]
    full = {"dataframe_split": {"columns": INPUTS, "data": [[1.5, 100, 1]]}}
    assert predictions(score(asked, full)) == pytest.approx([1101.5])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["flight", "route", "wind"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["dataframe_split", "dataframe_records", "columns"]), JSON_VALUES))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_sent_is_keys_or_refused_or_left_alone(payload: Any) -> None:
    try:
        found = read_keys(json.dumps(payload).encode(), {"flight": "String", "route": "Int64"})
    except UnfitKeys:
        return
    assert found is None or all(set(key) == {"flight", "route"} for key in found)


# Over HTTP, with the prediction log.


async def test_the_openapi_document_allows_entities_alone(
    asked: FeatureScorer, model_dir: Path, tmp_path: Path
) -> None:
    spec = spec_of(model_dir, tmp_path, release_of(model_dir, "1.0.0"))
    app = create_app(spec, asked, Drill(tmp_path / "fault.json"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://it") as client:
        document = (await client.get("/openapi.json")).json()
        statuses = {}
        judge = Draft202012Validator(
            {"$ref": "#/components/schemas/EntityRequest", "components": document["components"]}
        )
        for entity in ({"flight": "UA1", "route": 1}, {"flight": "UA1"}, {"flight": 1, "route": 1}):
            request = {"dataframe_records": [entity]}
            statuses[judge.is_valid(request)] = (await client.post("/invocations", json=request)).status_code
    assert statuses == {True: 200, False: 400}


def spec_of(model_dir: Path, folder: Path, release: Release, **more: Any) -> ModelServerSpec:
    return ModelServerSpec(
        endpoint=ENDPOINT,
        release=release,
        model_dir=str(model_dir),
        socket=str(folder / "it.sock"),
        log_dir=str(folder / "log"),
        **more,
    )


async def test_looked_up_rows_are_logged_with_their_keys(asked: FeatureScorer, model_dir: Path, tmp_path: Path) -> None:
    spec = spec_of(model_dir, tmp_path, release_of(model_dir, "1.0.0"))
    app = create_app(spec, asked, Drill(tmp_path / "fault.json"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://it") as client:
        headers = {"x-request-id": "r1"}
        answered = await client.post("/invocations", json=by_split(("UA1", 1), ("UA3", 1)), headers=headers)
        full = {"dataframe_split": {"columns": INPUTS, "data": [[1.5, 100, 1]]}}
        await client.post("/invocations", json=full, headers={"x-request-id": "r2"})
        await client.post("/invocations", json=by_split(("XX9", 9)), headers={"x-request-id": "r3"})
    assert answered.json()["predictions"] == pytest.approx([1101.5, 1107.0])
    until(lambda: len(list(records(tmp_path / "log"))) == 4, within_s=10, what="four records")

    found = sampled(tmp_path / "log", spec.release.id)
    rows = {row.request_id: row for row in found.rows}
    assert set(rows) == {"r1", "r1#1", "r2"}, "who was refused was not predicted for"
    assert rows["r1#1"].inputs == {"wind": 7.0, "seats": 100, "route": 1}
    assert rows["r1#1"].keys == {"route": 1, "flight": "UA3"}
    assert rows["r1#1"].looked_up_at == NOON + HOUR
    assert (rows["r2"].keys, rows["r2"].looked_up_at) == ({}, None)


def sampled(log: Path, release: str) -> PredictionSample:
    now = datetime.now(UTC)
    return sample.sample(log, release=release, since=now - HOUR, until=now + HOUR, limit=100)


# On Feast.


@pytest.fixture(scope="module")
def feast(tmp_path_factory: pytest.TempPathFactory) -> FeastHarness:
    made = FeastHarness(tmp_path_factory.mktemp("feast"))
    # Without a time to live: the model server's clock is the real one.
    weather = view("weather", "flight", WIND, *(tuple(row) for row in WEATHER.rows.itertuples(index=False)))
    made.define(weather, ROUTES, flights_v1=["weather", "routes"], no_seats=["weather"])
    made.materialise(NOON)
    return made


def joined(model_dir: Path, feast: FeastHarness, service: str = "flights-v1", **changes: Any) -> Release:
    digest = feast.store.describe(service).digest
    return release_of(model_dir, "1.0.0").model_copy(
        update={"feature_service": service, "feature_digest": digest, **changes}
    )


def test_a_release_without_a_service_imports_no_store(scorer: Scorer, model_dir: Path, tmp_path: Path) -> None:
    for release in (
        release_of(model_dir, "1.0.0"),
        release_of(model_dir, "1.0.0").model_copy(update={"feature_service": "name"}),
    ):
        nowhere = spec_of(model_dir, tmp_path, release, feature_repository="/nowhere")
        assert with_features(scorer, nowhere) is scorer


def test_feast_is_asked_by_several_threads(
    scorer: Scorer, model_dir: Path, feast: FeastHarness, tmp_path: Path
) -> None:
    spec = spec_of(model_dir, tmp_path, joined(model_dir, feast), feature_repository=str(feast.folder))
    asked = with_features(scorer, spec)
    assert isinstance(asked, FeatureScorer)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda key: predictions(score(asked, by_split(key))), list(ANSWERS) * 20))
    assert [answer[0] for answer in answers] == pytest.approx(list(ANSWERS.values()) * 20)
    assert score(asked, by_split(("XX9", 9))).status == 404
    assert score(asked, by_split((1, "UA1"))).status == 400, "else a client's slip would count against the release"
    many = score(asked, by_split(*[("UA1", 1)] * 40_000))
    assert len(predictions(many)) == 40_000, "more than SQLite takes in one question"


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"feature_digest": digest_of("older")}, FeatureMismatch, "the definition that it was trained on"),
        ({"feature_service": "flights-v9"}, FeatureMismatch, "flights-v9"),
    ],
)
def test_another_definition_is_not_served(
    scorer: Scorer, model_dir: Path, feast: FeastHarness, tmp_path: Path, changes: Any, error: Any, told: str
) -> None:
    spec = spec_of(model_dir, tmp_path, joined(model_dir, feast, **changes), feature_repository=str(feast.folder))
    with pytest.raises(error, match=told):
        with_features(scorer, spec)


def test_a_service_that_lacks_an_input_is_not_served(
    scorer: Scorer, model_dir: Path, feast: FeastHarness, tmp_path: Path
) -> None:
    release = joined(model_dir, feast, "no-seats")
    with pytest.raises(FeatureMismatch, match="features seats, route"):
        with_features(scorer, spec_of(model_dir, tmp_path, release, feature_repository=str(feast.folder)))


def test_a_plane_without_a_repository_says_so(
    scorer: Scorer, model_dir: Path, feast: FeastHarness, tmp_path: Path
) -> None:
    release = joined(model_dir, feast)
    with pytest.raises(ConfigurationInvalid, match="MLPIPEX_FEATURE_REPOSITORY"):
        with_features(scorer, spec_of(model_dir, tmp_path, release))
    with pytest.raises(ConfigurationInvalid, match=r"feature_store\.yaml"):
        with_features(scorer, spec_of(model_dir, tmp_path, release, feature_repository=str(tmp_path)))


def test_a_definition_that_changes_under_a_running_server_does_not_change_its_answers(
    scorer: Scorer, model_dir: Path, tmp_path: Path
) -> None:
    made = FeastHarness(tmp_path)
    made.define(view("weather", "flight", WIND, ("UA1", NOON, 1.5, "A")), ROUTES, flights_v1=["weather", "routes"])
    made.materialise(NOON)
    spec = spec_of(model_dir, tmp_path, joined(model_dir, made), feature_repository=str(tmp_path))
    asked = with_features(scorer, spec)
    made.define(ROUTES, flights_v1=["routes"])
    assert predictions(score(asked, by_split(("UA1", 1)))) == pytest.approx([1101.5])
    with pytest.raises(FeatureMismatch):
        with_features(scorer, spec)


async def test_what_was_logged_is_recomputed_just_so_and_a_skew_is_found(
    scorer: Scorer, model_dir: Path, feast: FeastHarness, tmp_path: Path
) -> None:
    """The whole way of the parity gate: store, model server, prediction log, sample, offline path."""
    spec = spec_of(model_dir, tmp_path, joined(model_dir, feast), feature_repository=str(feast.folder))
    app = create_app(spec, with_features(scorer, spec), Drill(tmp_path / "fault.json"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://it") as client:
        for at, key in enumerate(ANSWERS):
            await client.post("/invocations", json=by_split(key), headers={"x-request-id": f"r{at}"})
    until(lambda: len(list(records(tmp_path / "log"))) == 3, within_s=10, what="three records")
    rows = [
        ServedRow(keys=row.keys, as_of=row.looked_up_at, values=row.inputs, request_id=row.request_id)
        for row in sampled(tmp_path / "log", spec.release.id).rows
        if row.looked_up_at is not None
    ]
    of = manifest({"entities": ["flight", "route"], "columns": INPUTS})
    report = recompute(feast.store, of, rows, tolerance=1e-6)
    assert (report.rows, report.equal) == (3, 3), report.explain()

    spoiled = [row.model_copy(update={"values": {**row.values, "wind": 99.0}}) for row in rows]
    report = recompute(feast.store, of, spoiled, tolerance=1e-6)
    assert (report.equal, [found.feature for found in report.features]) == (0, ["wind"])


@pytest.fixture
def server(model_dir: Path, feast: FeastHarness, tmp_path: Path) -> Iterator[Path]:
    """A real model server process on a socket in the folder."""
    spec = spec_of(model_dir, tmp_path, joined(model_dir, feast), feature_repository=str(feast.folder))
    path = tmp_path / "spec.json"
    path.write_text(spec.model_dump_json())
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "airflow_provider_mlpipex.serving.model_server", str(path)]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        until(lambda: (tmp_path / "it.sock").exists() or process.poll() is not None, within_s=120, what="the socket")
        assert process.poll() is None, (tmp_path / "server.log").read_text() + str(read_failure(path))
        yield tmp_path
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def test_a_model_server_answers_entities(server: Path) -> None:
    transport = httpx.HTTPTransport(uds=str(server / "it.sock"), retries=20)
    with httpx.Client(transport=transport, base_url="http://it", timeout=30) as client:
        for key, expected in ANSWERS.items():
            answered = client.post("/invocations", json=by_records(key))
            assert answered.json() == {"predictions": pytest.approx([expected])}
        assert client.post("/invocations", json=by_records(("XX9", 9))).status_code == 404
    until(lambda: len(list(records(server / "log"))) == 4, within_s=10, what="four records")
    looked_up = [record["keys"] for record in records(server / "log") if "keys" in record]
    assert looked_up == [{"flight": flight, "route": route} for flight, route in ANSWERS]
