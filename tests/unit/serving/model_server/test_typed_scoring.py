"""Whatever a client sends to a typed model is answered, or is the client's fault: 4xx, without a row of theirs or ours.

The model answers every frame of its dtypes, so a blame of the release can only be a fault of the server.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.release.inputs import describe_inputs
from airflow_provider_mlpipex.serving.model_server.request_rows import MAX_CELLS, RequestRows
from airflow_provider_mlpipex.serving.model_server.typed_scoring import TypedScorer

JSON, CSV, PARQUET = "application/json", "text/csv", "application/x-parquet"
LEARNED = pd.DataFrame(
    {
        "seats": [1, 2, 3],
        "price": [0.5, np.nan, -2.0],
        "open": pd.Series([True, None, False], dtype=object),
        "member": [True, False, True],
        "shop": pd.Categorical(["n", "s", None]),
        "word": ["a", None, "ü"],
        "at": pd.to_datetime(["2026-01-01", None, "2026-01-03"], utc=True),
    }
)
DTYPES = LEARNED.dtypes.drop("shop")
COLUMNS = list(LEARNED.columns)
GOOD = [2, 1.5, None, True, "n", "a", "2026-01-02T00:00:00+01:00"]
FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


class Pyfunc:
    """Answers any frame of the dtypes that it learned from, and raises for any other."""

    class metadata:
        @staticmethod
        def get_params_schema() -> None:
            return None

    def _predict_fn(self, frame: pd.DataFrame) -> np.ndarray:
        assert list(frame.columns) == COLUMNS
        assert frame.dtypes.drop("shop").equals(DTYPES)
        assert list(frame["shop"].dtype.categories)[:2] == ["n", "s"]
        assert frame["word"].map(type).isin([str, type(None)]).all()
        assert frame["open"].map(type).isin([bool, type(None)]).all()
        return frame["seats"].to_numpy() * 2.0


SCORER = TypedScorer(Pyfunc(), describe_inputs(LEARNED))


def ask(body: bytes | str | Any, content_type: str | None = JSON) -> tuple[int, Any]:
    """Status and body; whatever is refused is refused in words that hold nothing of the body."""
    sent = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    answer = SCORER.score(sent, content_type)
    told = json.loads(answer.body)
    assert not answer.model_failed, told
    assert answer.status == 200 or 400 <= answer.status < 500
    if answer.status != 200:
        assert told.keys() == {"error_code", "message"}
        assert not {"/", "Traceback", ".py"} & {
            *told["message"].replace("application/", "").replace("text/", "").split()
        }
    return answer.status, told


def split(*rows: list[Any], columns: Any = None, **more: Any) -> dict[str, Any]:
    return {"dataframe_split": {"columns": COLUMNS if columns is None else columns, "data": list(rows)}, **more}


def forms(row: list[Any]) -> dict[str, Any]:
    record = dict(zip(COLUMNS, row, strict=True))
    return {
        "split": split(row),
        "records": {"dataframe_records": [record]},
        "instances": {"instances": [record]},
        "inputs": {"inputs": {name: [value] for name, value in record.items()}},
    }


@pytest.mark.parametrize("form", forms(GOOD))
def test_every_form_gives_the_same_rows(form: str) -> None:
    assert ask(forms(GOOD)[form]) == (200, {"predictions": [4.0]})


def test_csv_and_parquet_give_the_same_rows() -> None:
    text = ",".join(COLUMNS) + "\n2,1.5,,true,n,a,2026-01-02T00:00:00+01:00\n3,,False,0,,,\n"
    assert ask(text, CSV) == (200, {"predictions": [4.0, 6.0]})
    import io

    stream = io.BytesIO()
    LEARNED.to_parquet(stream)
    assert ask(stream.getvalue(), PARQUET) == (200, {"predictions": [2.0, 4.0, 6.0]})


def test_a_csv_cell_is_logged_as_what_its_column_is() -> None:
    body = ",".join(COLUMNS) + "\n2,1.5,,true,n,a,2026-01-02\n"
    assert SCORER.score(body.encode(), CSV).rows == [[2, 1.5, None, True, "n", "a", "2026-01-02T00:00:00+00:00"]]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("seats", None), ("seats", 1.5), ("seats", "1"), ("seats", 2**63), ("seats", True), ("seats", [1]),
        ("price", "1.5"), ("price", 10**400), ("price", True), ("open", "true"), ("open", 2), ("member", None),
        ("shop", 1), ("word", 1), ("word", "\ud83d"), ("at", 20260101), ("at", "yesterday"), ("at", "9999999-01-01"),
    ],
)  # fmt: skip
def test_a_value_that_its_column_cannot_hold_is_refused_by_name(column: str, value: Any) -> None:
    row = [value if name == column else cell for name, cell in zip(COLUMNS, GOOD, strict=True)]
    status, told = ask(split(GOOD, row))
    assert status == 400
    assert f"column {column}" in told["message"]


def test_an_infinity_is_refused() -> None:
    for word in ("Infinity", "-Infinity", "1e400"):
        status, told = ask(json.dumps(split(GOOD)).replace("1.5", word))
        assert (status, "column price in row 0" in told["message"]) == (400, True)
    assert ask(json.dumps(split(GOOD)).replace("1.5", "NaN"))[0] == 200


@pytest.mark.parametrize("header", [[0, 1], None, "seats", [*COLUMNS, "seats"], COLUMNS[:-1], [True, None], {"a": 1}])
def test_odd_headers_are_refused(header: Any) -> None:
    assert ask({"dataframe_split": {"columns": header, "data": [GOOD]}})[0] == 400


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["n", "true", "2026-01-01", "2026-01-01T25:00", "1e5", "١"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
ROW = st.tuples(*[st.just(cell) | ANYTHING for cell in GOOD]).map(list)


@given(row=ROW, form=st.sampled_from(sorted(forms(GOOD))))
@FUZZ
def test_whatever_stands_in_a_cell_is_answered_or_refused(row: list[Any], form: str) -> None:
    ask(forms(row)[form])


@given(
    payload=st.dictionaries(
        st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs", "params", "x"]),
        ANYTHING | st.fixed_dictionaries({"columns": ANYTHING | st.just(COLUMNS), "data": ANYTHING | st.just([GOOD])}),
        max_size=3,
    )
)
@FUZZ
def test_whatever_json_is_sent_is_answered_or_refused(payload: Any) -> None:
    ask(payload)


@given(
    body=st.binary(max_size=80)
    | st.text(max_size=80).map(lambda text: (",".join(COLUMNS) + "\n" + text).encode("utf-8", "replace")),
    content_type=st.sampled_from(
        [JSON, CSV, PARQUET, f"{JSON}; charset=utf-8", f"{CSV};charset=x", "text/html", "", None]
    )
    | st.text(max_size=20),
)
@example(body=b"[" * 60_000, content_type=JSON)
@example(body=b"\xff\xfe", content_type=CSV)
@example(body=b'"' * 9, content_type=CSV)
@example(body=b"PAR1" * 8, content_type=PARQUET)
@FUZZ
def test_whatever_bytes_and_content_type_are_sent_are_answered_or_refused(
    body: bytes, content_type: str | None
) -> None:
    ask(body, content_type)


def _empty_rows_in_parquet(rows: int) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: pa.nulls(rows, pa.string()) for name in COLUMNS}), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (json.dumps({"dataframe_records": [{}] * 150_000}).encode(), JSON),
        (json.dumps({"dataframe_split": {"columns": COLUMNS, "data": [GOOD] * 150_000}}).encode(), JSON),
        (json.dumps({"inputs": dict.fromkeys(COLUMNS, [None] * 150_000)}).encode(), JSON),
        ((",".join(COLUMNS) + "\n" * 150_000).encode(), CSV),
        (_empty_rows_in_parquet(5_000_000), PARQUET),
    ],
    ids=["records", "split", "inputs", "csv", "parquet"],
)
def test_a_small_body_that_says_a_million_cells_is_refused_before_they_are_made(
    body: bytes, content_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RequestRows, "rows", lambda *_: pytest.fail("they were made"))
    status, answer = ask(body, content_type)
    assert (status, answer["error_code"]) == (413, "REQUEST_TOO_LARGE")
    assert "send them in parts" in answer["message"]


def test_as_many_rows_as_are_allowed_are_answered() -> None:
    rows = MAX_CELLS // len(COLUMNS) // 10
    status, answer = ask({"dataframe_split": {"columns": COLUMNS, "data": [GOOD] * rows}})
    assert (status, len(answer["predictions"])) == (200, rows)
