"""The fast path against MLflow's own: the same status and the same predictions for whatever a client sends.

MLflow's scoring server is the oracle, on a real logged scikit-learn model.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from airflow_provider_mlpipex.adapters.mlflow.model import save_model
from airflow_provider_mlpipex.domain.errors import ArtifactMismatch, ReleaseNotReady, SignatureMismatch
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.training import TrainedModel
from airflow_provider_mlpipex.domain.rollout.traffic_plan import BATCH_HEADER, FAULT_HEADER, RELEASE_HEADER
from airflow_provider_mlpipex.serving.artifacts import directory_digest
from airflow_provider_mlpipex.serving.model_server.app import Drill, create_app, load
from airflow_provider_mlpipex.serving.model_server.scoring import Scored, Scorer
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec
from airflow_provider_mlpipex.serving.prediction_log.outputs import describe_all
from airflow_provider_mlpipex.serving.prediction_log.reader import records, segments
from airflow_provider_mlpipex.serving.prediction_log.record import FIELDS
from tests.support.plane import release_of
from tests.support.polling import until

JSON = "application/json"
COLUMNS = ["distance", "hour", "carrier"]
GOOD = [1.5, 12, "AA"]


def training_rows() -> pd.DataFrame:
    random = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "distance": random.uniform(50, 3000, 200),
            "hour": random.integers(0, 24, 200),
            "carrier": random.choice(["AA", "UA", "DL"], 200),
        }
    )


def saved_model(folder: Path, *, predict_method: str = "predict_proba", unknown: str = "ignore") -> Path:
    """A classifier over a double, a long and a string column; ``unknown`` says what a new carrier does to it."""
    rows = training_rows()
    prepare = ColumnTransformer(
        [
            ("numbers", SimpleImputer(), ["distance", "hour"]),
            ("words", OneHotEncoder(handle_unknown=unknown), ["carrier"]),
        ]
    )
    model = Pipeline([("prepare", prepare), ("fit", LogisticRegression(max_iter=500))])
    model.fit(rows, ((rows["distance"] > 1500) ^ (rows["carrier"] == "AA")).astype(int))
    trained = TrainedModel(
        model=model, predict_method=predict_method, examples=rows.head(5), metrics={"auc": 0.9}, evaluation_rows=200
    )
    save_model(trained, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("model") / "lenient")


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    import mlflow.pyfunc

    return Scorer(mlflow.pyfunc.load_model(str(folder)))


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A model that raises for a carrier that it has never seen."""
    import mlflow.pyfunc

    folder = saved_model(tmp_path_factory.mktemp("model") / "strict", predict_method="predict", unknown="error")
    return Scorer(mlflow.pyfunc.load_model(str(folder)))


def same_answer(scorer: Scorer, body: bytes, content_type: str | None = JSON) -> Scored:
    """Score by both paths, demand the same, and return what a client gets."""
    expected, found = scorer.score_as_mlflow(body, content_type), scorer.score(body, content_type)
    assert found.status == expected.status, (body, expected.body, found.body)
    assert found.media_type == expected.media_type
    if expected.status == 200:
        _same(json.loads(found.body), json.loads(expected.body))
        assert len(found.outputs) == len(expected.outputs)
    else:
        assert found.body == expected.body
    return found


def _same(one: Any, other: Any) -> None:
    assert type(one) is type(other), (one, other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            _same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            _same(left, right)
    elif isinstance(one, float):
        assert one == other or (math.isnan(one) and math.isnan(other))
    else:
        assert one == other


def split(*rows: list[Any], columns: list[Any] | None = None, **more: Any) -> bytes:
    return json.dumps({"dataframe_split": {"columns": columns or COLUMNS, "data": list(rows), **more}}).encode()


def by_records(*rows: list[Any]) -> bytes:
    return json.dumps({"dataframe_records": [dict(zip(COLUMNS, row, strict=False)) for row in rows]}).encode()


def instances(*rows: list[Any]) -> bytes:
    return json.dumps({"instances": [dict(zip(COLUMNS, row, strict=False)) for row in rows]}).encode()


def inputs(*rows: list[Any]) -> bytes:
    return json.dumps({"inputs": {name: [row[at] for row in rows] for at, name in enumerate(COLUMNS)}}).encode()


FORMS: dict[str, Callable[..., bytes]] = {
    "dataframe_split": split,
    "dataframe_records": by_records,
    "instances": instances,
    "inputs": inputs,
}

#: Values of every JSON kind, the ones at the edges of the types among them.
ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([2**53, 2**53 + 1, -(2**63), 2**63 - 1, 2**63, 2**64]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=5),
    st.sampled_from(["AA", "1.5", "NaN", "2013-01-01", "\ud800"]),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 3), max_size=2),
)
DISTANCES = st.one_of(st.floats(-1e6, 1e6), st.integers(-(10**6), 10**6))
HOURS = st.integers(-(2**40), 2**40)
CARRIERS = st.one_of(st.sampled_from(["AA", "UA", "DL"]), st.text(st.characters(exclude_categories=["Cs"]), max_size=6))
GOOD_ROWS = st.tuples(DISTANCES, HOURS, CARRIERS).map(list)
ODD_ROWS = st.tuples(ODD_VALUES | DISTANCES, ODD_VALUES | HOURS, ODD_VALUES | CARRIERS).map(list)
THOROUGH = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(rows=st.lists(GOOD_ROWS, min_size=1, max_size=5), form=st.sampled_from(sorted(FORMS)))
@THOROUGH
def test_good_rows_are_answered_as_mlflow_answers_them(scorer: Scorer, rows: list[list[Any]], form: str) -> None:
    answer = same_answer(scorer, FORMS[form](*rows))
    assert answer.status == 200
    assert len(answer.outputs) == len(rows)


@given(rows=st.lists(GOOD_ROWS | ODD_ROWS, min_size=0, max_size=4), form=st.sampled_from(sorted(FORMS)))
@example(rows=[[None, 1, "AA"], [2.5, 1, "AA"]], form="dataframe_split")
@example(rows=[[None, 1, "AA"]], form="dataframe_records")
@example(rows=[[math.nan, 1, "AA"]], form="dataframe_split")
@example(rows=[[3, 1, "AA"]], form="dataframe_split")
@example(rows=[[3, 1, "AA"], [3.5, 1, "AA"]], form="dataframe_split")
@example(rows=[[2**53 + 1, 1, "AA"], [0.5, 1, "AA"]], form="dataframe_records")
@example(rows=[[1.5, 1.0, "AA"]], form="dataframe_split")
@example(rows=[[1.5, True, "AA"]], form="dataframe_split")
@example(rows=[[True, 1, "AA"], [0.5, 1, "AA"]], form="dataframe_split")
@example(rows=[[1.5, 1, None], [1.5, 1, "AA"]], form="dataframe_records")
@example(rows=[[1.5, 1, 7]], form="dataframe_split")
@example(rows=[["1.5", "1", "AA"]], form="dataframe_split")
@example(rows=[[1.5, 2**63, "AA"]], form="dataframe_split")
@example(rows=[[math.inf, 1, "AA"]], form="dataframe_split")
@THOROUGH
def test_whatever_stands_in_a_cell_is_answered_as_mlflow_answers_it(
    scorer: Scorer, rows: list[list[Any]], form: str
) -> None:
    same_answer(scorer, FORMS[form](*rows))


@given(
    columns=st.lists(
        st.sampled_from([*COLUMNS, "more", "", "Distance", 0, None]) | st.text(max_size=3), min_size=0, max_size=5
    )
)
@example(columns=["carrier", "hour", "distance"])
@example(columns=["distance", "hour", "hour"])
@example(columns=[*COLUMNS, "more"])
@example(columns=["distance", "hour"])
@THOROUGH
def test_whatever_columns_are_sent_are_answered_as_mlflow_answers_them(scorer: Scorer, columns: list[Any]) -> None:
    known: dict[Any, Any] = dict(zip(COLUMNS, GOOD, strict=True))
    same_answer(scorer, split([known.get(column, 1) for column in columns], columns=columns))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(payload=st.dictionaries(st.sampled_from([*FORMS, "params", "other"]), JSON_VALUES, max_size=3) | JSON_VALUES)
@THOROUGH
def test_whatever_json_is_sent_is_answered_as_mlflow_answers_it(scorer: Scorer, payload: Any) -> None:
    answer = same_answer(scorer, json.dumps(payload).encode())
    assert answer.status in (200, 400)


@given(body=st.binary(max_size=60) | st.binary(max_size=10).map(lambda tail: split(GOOD)[:-3] + tail))
@example(body=b"")
@example(body=b"\xff\xfe")
@example(body=split(GOOD)[:-1])
@example(body=split(GOOD) + b" x")
@example(body=split(GOOD) * 2)
@example(body=b"\xef\xbb\xbf" + split(GOOD))
@example(body=split(GOOD).decode().encode("utf-16"))
@example(body=b"[" * 60_000)
@example(body=b'{"dataframe_split":' * 20_000)
@example(body=split(GOOD)[:-1] + b', "dataframe_split": 3}')
@THOROUGH
def test_whatever_bytes_are_sent_are_the_callers_fault(scorer: Scorer, body: bytes) -> None:
    answer = same_answer(scorer, body)
    if answer.status != 200:
        assert answer.status == 400
        assert json.loads(answer.body).keys() >= {"error_code", "message"}


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (JSON, 200),
        (f"{JSON}; charset=utf-8", 200),
        (f"{JSON}; charset=UTF-8", 200),
        (f"{JSON};charset=utf-8", 200),
        (f"{JSON}; charset=latin-1", 415),
        (f"{JSON}; version=1", 415),
        ("text/html", 415),
        ("", 415),
        (None, 415),
    ],
)
def test_content_types(scorer: Scorer, content_type: str | None, status: int) -> None:
    assert same_answer(scorer, split(GOOD), content_type).status == status


def test_params_are_not_dropped(scorer: Scorer) -> None:
    answer = same_answer(scorer, WITH_PARAMS)
    assert (answer.status, answer.model_failed) == (400, False)
    assert "no params" in json.loads(answer.body)["message"]


@pytest.mark.parametrize(
    "header", [[0, 1, 2], ["distance", "hour", 2], [None, True, 1.5], [["distance"], "hour", "carrier"]]
)
def test_odd_headers_are_the_callers_fault(scorer: Scorer, header: list[Any]) -> None:
    answer = same_answer(scorer, split(GOOD, columns=header))
    assert (answer.status, answer.model_failed) == (400, False)


@pytest.mark.parametrize("body", [split(["secret-1", 12, "AA"]), split([1.5, 12]), split([1.5, "secret-1", "AA"])])
def test_a_refusal_holds_no_row_and_no_stack(scorer: Scorer, body: bytes) -> None:
    told = json.loads(same_answer(scorer, body).body)
    assert told.keys() == {"error_code", "message"}
    assert "secret-1" not in told["message"]


def test_csv_is_answered_by_mlflow(scorer: Scorer) -> None:
    answer = same_answer(scorer, b"distance,hour,carrier\n1.5,12,AA\n", "text/csv")
    assert (answer.status, answer.fast) == (200, False)


# Which path.


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records"])
@pytest.mark.parametrize("rows", [[GOOD], [GOOD, [7, 0, "??"]], [[None, 1, "AA"], GOOD]])
def test_plain_rows_take_the_fast_path(scorer: Scorer, form: str, rows: list[list[Any]]) -> None:
    # Otherwise this file would compare MLflow with itself.
    assert scorer.fast_enabled
    answer = same_answer(scorer, FORMS[form](*rows))
    assert (answer.status, answer.fast) == (200, True)
    assert answer.columns == COLUMNS
    assert answer.rows == rows


def test_columns_in_another_order_take_the_fast_path_in_the_models_order(scorer: Scorer) -> None:
    answer = same_answer(scorer, split(["AA", 12, 1.5], columns=["carrier", "hour", "distance"]))
    assert answer.fast
    assert answer.rows == [GOOD]


BOTH_FORMS = json.dumps(json.loads(split(GOOD)) | json.loads(by_records(GOOD))).encode()
WITH_PARAMS = json.dumps(json.loads(split(GOOD)) | {"params": {"a": 1}}).encode()


@pytest.mark.parametrize(
    "body",
    [
        BOTH_FORMS,
        split([1, 12, "AA"]),
        split([1.5, 12, None]),
        split([1.5, True, "AA"]),
        split([1.5, 12.0, "AA"]),
        split(GOOD, index=[3]),
        split(GOOD + [1], columns=[*COLUMNS, "more"]),
        instances(GOOD),
        inputs(GOOD),
    ],
    ids=[
        "both-forms",
        "integers",
        "no-string",
        "bool",
        "float-in-long",
        "index",
        "more-columns",
        "instances",
        "inputs",
    ],
)
def test_whatever_needs_a_conversion_is_left_to_mlflow(scorer: Scorer, body: bytes) -> None:
    assert not same_answer(scorer, body).fast


def test_a_carrier_that_the_model_refuses_is_refused_in_mlflows_words(strict: Scorer) -> None:
    assert same_answer(strict, split(GOOD)).fast
    answer = same_answer_but_trace(strict, split([1.5, 12, "??"]))
    assert answer.status == 400
    assert json.loads(answer.body)["error_code"] == "BAD_REQUEST"
    assert answer.model_failed


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        split([1.5, 12], columns=["distance", "hour"]),
        split(["far", 12, "AA"]),
        json.dumps({"dataframe_split": {"columns": COLUMNS, "data": "rows"}}).encode(),
    ],
)
def test_rows_that_do_not_fit_the_signature_are_no_failure_of_the_model(strict: Scorer, body: bytes) -> None:
    strict.score(split([1.5, 12, "??"]), JSON)
    answer = strict.score(body, JSON)
    assert (answer.status, answer.model_failed) == (400, False)
    assert not strict.score(split(GOOD), JSON).model_failed


def same_answer_but_trace(scorer: Scorer, body: bytes) -> Scored:
    """As :func:`same_answer`, for a model that raised."""
    expected, found = scorer.score_as_mlflow(body, JSON), scorer.score(body, JSON)
    assert found.status == expected.status
    assert json.loads(found.body)["message"] == json.loads(expected.body)["message"]
    return found


class Stub:
    """A pyfunc that answers what it is told to, with the metadata of a real one."""

    def __init__(self, real: Any, answer: Callable[[Any], Any]) -> None:
        self.metadata, self.loader_module = real.metadata, real.loader_module
        self._predict_fn = answer

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        return self._predict_fn(data)


@pytest.mark.parametrize(
    "answered",
    [[0.1, math.nan], [math.inf, 0.1], ["late", "early"], [True, False], [[0.25, 0.75], [0.5, 0.5]], [1, 2]],
    ids=["nan", "infinite", "words", "booleans", "probabilities", "integers"],
)
def test_whatever_a_model_answers_comes_back_as_mlflow_writes_it(scorer: Scorer, answered: list[Any]) -> None:
    stub = Scorer(Stub(scorer._model, lambda _: np.array(answered)))
    assert stub.fast_enabled
    answer = same_answer(stub, split(GOOD, GOOD))
    assert len(answer.outputs) == 2


def test_probabilities_in_columns_order_are_served(scorer: Scorer) -> None:
    # orjson refuses an array that is not contiguous.
    stub = Scorer(Stub(scorer._model, lambda rows: np.arange(2.0 * len(rows)).reshape(2, -1).T[:, ::-1]))
    assert same_answer(stub, split(GOOD, GOOD)).fast


def test_an_answer_that_cannot_be_written_is_the_releases_fault(scorer: Scorer) -> None:
    stub = Scorer(Stub(scorer._model, lambda _: object()))
    answer = stub.score(split(GOOD), JSON)
    assert answer.status == 500
    assert json.loads(answer.body)["error_code"] == "INTERNAL_ERROR"


# Loading.


def spec_of(folder: Path, tmp_path: Path, *, digest: str | None = None) -> ModelServerSpec:
    return ModelServerSpec(
        endpoint=EndpointRef.parse("production/flight-delay"),
        release=release_of(folder, "1.0.0", digest=digest),
        model_dir=str(folder),
        socket=str(tmp_path / "server.sock"),
        log_dir=str(tmp_path / "log"),
    )


def test_a_sound_model_is_loaded_and_proven(folder: Path, tmp_path: Path) -> None:
    assert load(spec_of(folder, tmp_path)).input_names == COLUMNS


def test_other_bytes_are_not_unpickled(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow.pyfunc

    monkeypatch.setattr(mlflow.pyfunc, "load_model", lambda *_, **__: pytest.fail("the pickle was opened"))
    with pytest.raises(ArtifactMismatch):
        load(spec_of(folder, tmp_path, digest="0" * 64))


def changed_copy(folder: Path, tmp_path: Path, name: str, text: str) -> ModelServerSpec:
    import shutil

    copy = Path(shutil.copytree(folder, tmp_path / "changed"))
    (copy / name).write_text(text)
    return spec_of(copy, tmp_path, digest=directory_digest(copy))


def test_a_model_that_does_not_load_is_not_ready(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ReleaseNotReady, match="loads in its pinned runtime"):
        load(changed_copy(folder, tmp_path, "model.pkl", "no pickle"))


@pytest.mark.parametrize("change", ["value", "length", "kind", "request"])
def test_other_golden_answers_are_a_mismatch(folder: Path, tmp_path: Path, change: str) -> None:
    golden = json.loads((folder / "mlpipex" / "golden.json").read_text())
    if change == "value":
        golden["predictions"][0][0] += 1e-6
    elif change == "length":
        golden["predictions"].pop()
    elif change == "kind":
        golden["predictions"][0] = "late"
    else:
        golden["request"] = {"dataframe_split": {"columns": ["distance"], "data": [[1.0]]}}
    with pytest.raises(SignatureMismatch, match="golden rows"):
        load(changed_copy(folder, tmp_path, "mlpipex/golden.json", json.dumps(golden)))


# The server's routes.


class Server:
    """The app in this process, with its prediction log."""

    def __init__(self, spec: ModelServerSpec, scorer: Scorer, fault: Path) -> None:
        self.spec, self.fault = spec, fault
        self.app = create_app(spec, scorer, Drill(fault))

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url="http://server")

    def logged(self, count: int) -> list[dict[str, Any]]:
        log = Path(self.spec.log_dir)
        until(lambda: log.is_dir() and len(list(records(log))) >= count, within_s=10, what=f"{count} records")
        return list(records(log))


@pytest.fixture
def server(folder: Path, scorer: Scorer, tmp_path: Path) -> Iterator[Server]:
    yield Server(spec_of(folder, tmp_path), scorer, tmp_path / "fault.json")


@pytest.mark.parametrize("path", ["/ping", "/health"])
async def test_health_is_answered_in_mlflows_way(server: Server, path: str) -> None:
    async with server.client() as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.text) == (200, "\n")
    assert answer.headers[RELEASE_HEADER] == server.spec.release.id


async def test_version_is_mlflows(server: Server) -> None:
    import mlflow

    async with server.client() as client:
        assert (await client.get("/version")).text == mlflow.__version__


async def test_an_answer_names_its_release_and_its_request_and_is_logged(server: Server) -> None:
    sent = {"x-request-id": "r-1", BATCH_HEADER: "2013-06"}
    async with server.client() as client:
        answer = await client.post("/invocations", content=split(GOOD), headers={"content-type": JSON, **sent})
    assert answer.status_code == 200
    assert answer.headers[RELEASE_HEADER] == server.spec.release.id
    assert answer.headers["x-request-id"] == "r-1"
    (predicted,) = answer.json()["predictions"]
    (logged,) = server.logged(1)
    assert (logged["rid"], logged["batch"], logged["status"]) == ("r-1", "2013-06", 200)
    assert logged["release"] == server.spec.release.id
    assert (logged["columns"], logged["inputs"]) == (COLUMNS, GOOD)
    assert describe_all([predicted])[0].items() <= logged.items()
    assert logged["ms"] > 0
    assert logged.keys() <= FIELDS.keys()


async def test_rows_of_one_request_are_told_apart(server: Server) -> None:
    async with server.client() as client:
        await client.post(
            "/invocations", content=instances(GOOD, GOOD), headers={"content-type": JSON, "x-request-id": "r"}
        )
    assert [(logged["rid"], logged.get("row")) for logged in server.logged(2)] == [("r", None), ("r#1", 1)]


async def test_only_an_answer_of_a_model_that_raised_says_so(server: Server, strict: Scorer) -> None:
    app = create_app(server.spec, strict, Drill(Path(server.spec.log_dir) / "no-drill"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://server") as client:
        for body, fault in ((split([1.5, 12, "??"]), "model"), (b"{", None), (split(GOOD), None)):
            answer = await client.post("/invocations", content=body, headers={"content-type": JSON})
            assert answer.headers.get(FAULT_HEADER) == fault
            assert answer.status_code == (200 if body == split(GOOD) else 400)


TRIAL = {"x-mlpipex-trial": "1", "x-envoy-attempt-count": "1"}


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (TRIAL, "refused"),
        # Current, which is asked next, marks nothing: what it refuses as well is the client's.
        (TRIAL | {"x-envoy-attempt-count": "2"}, None),
        ({"x-envoy-attempt-count": "1"}, None),
        ({"x-mlpipex-trial": "1"}, None),
        (TRIAL | {"host": "mlpipex-shadow"}, None),
    ],
    ids=["candidate", "second", "current", "no-envoy", "shadow"],
)
async def test_what_a_candidate_refuses_says_that_another_release_may_know_better(
    server: Server, sent: dict[str, str], fault: str | None
) -> None:
    async with server.client() as client:
        headers = {"content-type": JSON, **sent}
        for body, status in ((b"{", 400), (split([1.5, 12], columns=["distance", "hour"]), 400), (split(GOOD), 200)):
            answer = await client.post("/invocations", content=body, headers=headers)
            assert answer.status_code == status
            assert answer.headers.get(FAULT_HEADER) == (fault if status == 400 else None)
        plain = await client.post("/invocations", content=b"distance", headers=headers | {"content-type": "text/html"})
        assert (plain.status_code, plain.headers.get(FAULT_HEADER)) == (415, fault)


async def test_a_candidate_that_raises_is_at_fault_and_not_only_refuses(server: Server, strict: Scorer) -> None:
    app = create_app(server.spec, strict, Drill(Path(server.spec.log_dir) / "no-drill"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://server") as client:
        body = split([1.5, 12, "??"])
        answer = await client.post("/invocations", content=body, headers={"content-type": JSON, **TRIAL})
    assert answer.headers[FAULT_HEADER] == "model"


async def test_a_refused_request_is_logged_as_refused(server: Server) -> None:
    async with server.client() as client:
        answer = await client.post("/invocations", content=b"{", headers={"content-type": JSON, "x-request-id": "r"})
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "BAD_REQUEST"
    (logged,) = server.logged(1)
    assert (logged["status"], logged["rid"], "score" in logged) == (400, "r", False)


async def test_other_methods_and_paths_are_not_there(server: Server) -> None:
    async with server.client() as client:
        assert (await client.get("/invocations")).status_code == 405
        assert (await client.get("/nowhere")).status_code == 404


async def test_a_drill_breaks_the_server_on_purpose_and_says_so(server: Server) -> None:
    server.fault.write_text(json.dumps({"error_rate": 1.0}))
    async with server.client() as client:
        answer = await client.post("/invocations", content=split(GOOD), headers={"content-type": JSON})
        assert (await client.get("/ping")).status_code == 200
    assert (answer.status_code, answer.json()["error_code"]) == (500, "DRILL")


@pytest.mark.parametrize("spoilt", ["", "{", '{"error_rate": 0}'])
async def test_a_drill_that_is_none_breaks_nothing(server: Server, spoilt: str) -> None:
    server.fault.write_text(spoilt)
    async with server.client() as client:
        answer = await client.post("/invocations", content=split(GOOD), headers={"content-type": JSON})
    assert answer.status_code == 200


async def test_the_log_is_finished_when_the_server_ends(server: Server) -> None:
    async with server.app.router.lifespan_context(server.app), server.client() as client:
        await client.post("/invocations", content=split(GOOD), headers={"content-type": JSON, "x-request-id": "r"})
        assert (await client.get("/log-stats")).json()["dropped"] == 0
    assert [logged["rid"] for logged in server.logged(1)] == ["r"]
    assert [path.name for path in segments(Path(server.spec.log_dir))] == ["00000001.jsonl"]


# What an OpenAPI document allows, and what it does not.


def openapi() -> Any:
    """/invocations as a client's generator sees it, with a header of each kind that the server reads."""
    import schemathesis

    cells = [{"type": "number"}, {"type": "integer", "minimum": 0, "maximum": 23}, {"type": "string"}]
    row = {"type": "array", "prefixItems": cells, "items": False, "minItems": 3}
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": 4}
    split_rows = {"type": "object", "properties": {"columns": {"const": COLUMNS}, "data": rows}}
    split_rows |= {"required": ["columns", "data"], "additionalProperties": False}
    body = {"type": "object", "properties": {"dataframe_split": split_rows}}
    body |= {"required": ["dataframe_split"], "additionalProperties": False}
    headers = [{"name": name, "in": "header", "schema": {"type": "string"}} for name in ("x-request-id", BATCH_HEADER)]
    query = [{"name": "debug", "in": "query", "schema": {"type": "string"}}]
    operation = {
        "parameters": [*headers, *query],
        "requestBody": {"required": True, "content": {JSON: {"schema": body}}},
        "responses": {"200": {"description": "answers"}},
    }
    document = {"openapi": "3.1.0", "info": {"title": "model", "version": "1"}, "paths": {"/invocations": {}}}
    return schemathesis.openapi.from_dict({**document, "paths": {"/invocations": {"post": operation}}})


@pytest.mark.parametrize("allowed", [True, False])
def test_whatever_a_generator_of_requests_sends_is_the_callers_fault(server: Server, allowed: bool) -> None:
    from schemathesis import GenerationMode

    mode = GenerationMode.POSITIVE if allowed else GenerationMode.NEGATIVE
    operation = openapi()["/invocations"]["POST"]

    async def send(case: Any) -> httpx.Response:
        sent = b"" if type(case.body).__name__ == "NotSet" else json.dumps(case.body, default=str).encode()
        headers = {**(case.headers or {}), "content-type": JSON}
        printable = {k: v.encode("latin-1", "replace") for k, v in headers.items() if isinstance(v, str)}
        async with server.client() as client:
            return await client.request("POST", "/invocations", content=sent, headers=printable, params=case.query)

    statuses = set()

    @settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def answered(case: Any) -> None:
        answer = asyncio.run(send(case))
        statuses.add(answer.status_code)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert "Traceback" not in answer.text and 'File "' not in answer.text and "site-packages" not in answer.text
            assert str(Path(__file__).parents[4]) not in answer.text and server.spec.log_dir not in answer.text

    answered()
    assert (200 if allowed else 400) in statuses, "the model was asked, or refused"
