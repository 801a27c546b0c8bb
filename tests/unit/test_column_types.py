"""The table of ``docs/column-types.md``, cell by cell: what it says of a kind of column is what happens to one.

A cell is ``yes`` (the values come out as they went in), ``refused`` (by name, in words) or ``–`` (never reached).
"""

from __future__ import annotations

import json
import sys
import tempfile
import types
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from airflow_provider_mlpipex.adapters.files.answers import AnswerFile
from airflow_provider_mlpipex.adapters.files.parquet_snapshots import ParquetSnapshots
from airflow_provider_mlpipex.adapters.great_expectations.validator import GxValidator
from airflow_provider_mlpipex.domain.drift.judging import check
from airflow_provider_mlpipex.domain.drift.references import SCORE, Reference, make_reference
from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.features.parity import compare
from airflow_provider_mlpipex.domain.features.service import ServedRow, plain
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import LabelledPrediction
from airflow_provider_mlpipex.domain.predictions import PredictionSample
from airflow_provider_mlpipex.domain.quality.expectations import Expectation
from airflow_provider_mlpipex.domain.release.release import ModelVersion, Release, RuntimeEnvironment
from airflow_provider_mlpipex.domain.release.training import Task
from airflow_provider_mlpipex.domain.validation.loading import load_manifest
from airflow_provider_mlpipex.services.batches.scoring import score_batch
from airflow_provider_mlpipex.services.evidence.served_quality import table_of
from airflow_provider_mlpipex.services.outcomes.label_rows import read_labels
from airflow_provider_mlpipex.services.outcomes.metrics import measure
from airflow_provider_mlpipex.services.training.register import register_model
from airflow_provider_mlpipex.services.training.snapshots import snapshot_dataset
from airflow_provider_mlpipex.services.training.train import train_model
from airflow_provider_mlpipex.serving.model_server.app import Drill, create_app, load
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec
from airflow_provider_mlpipex.serving.plane.runtimes import provider_digest
from airflow_provider_mlpipex.serving.prediction_log.outputs import describe, describe_all, drift_answers
from airflow_provider_mlpipex.serving.prediction_log.sample import sample
from airflow_provider_mlpipex.serving.prediction_log.writer import PredictionLog
from airflow_provider_mlpipex.serving.sketches.aggregation import compact
from airflow_provider_mlpipex.serving.sketches.store import opened
from airflow_provider_mlpipex.testing.registry import MemoryRegistry
from airflow_provider_mlpipex.testing.snapshots import MemorySnapshots
from airflow_provider_mlpipex.testing.validator import MemoryValidator
from tests.support.expectations import expectation
from tests.support.rollouts import ENDPOINT, World, make_candidate

PAGE = Path(__file__).parents[2] / "docs" / "column-types.md"
YES, REFUSED, NOT_REACHED = "yes", "refused", "–"
END = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = 120
BIG = 2**53 + 1
#: No row of it may be seen outside: what a refusal shows must not be it.
RANDOM = np.random.default_rng(7)


def _gaps(values: list[Any]) -> list[Any]:
    return [None if at % 3 == 1 else value for at, value in enumerate(values)]


INTEGERS = [int(value) for value in RANDOM.integers(0, 2, ROWS)]
NUMBERS = [float(value) for value in RANDOM.normal(size=ROWS).round(3)]
FLAGS = [bool(value) for value in INTEGERS]
WORDS = ["yes" if flag else "no" for flag in FLAGS]
MOMENTS = [datetime(2026, 1, 1) + timedelta(hours=7 * at) for at in range(ROWS)]


def _series(values: list[Any], dtype: Any = object) -> pd.Series:
    return pd.Series(values, dtype=dtype)


#: Kind of column, as the page calls it -> one.
COLUMNS: dict[str, Callable[[], pd.Series]] = {
    "integer": lambda: _series(INTEGERS, "int64"),
    "integer, gaps": lambda: _series(_gaps(INTEGERS), "float64"),
    "integer, gaps, `Int64`": lambda: _series(_gaps(INTEGERS), "Int64"),
    "integer beyond 2^53": lambda: _series([BIG + 2 * value for value in INTEGERS], "int64"),
    "integer beyond 2^53, gaps": lambda: _series(_gaps([BIG + 2 * value for value in INTEGERS]), "Int64"),
    "number": lambda: _series(NUMBERS, "float64"),
    "number, NaN": lambda: _series(_gaps(NUMBERS), "float64"),
    "number, infinities": lambda: _series([np.inf if at % 3 == 1 else n for at, n in enumerate(NUMBERS)], "float64"),
    "flag": lambda: _series(FLAGS, "bool"),
    "flag, gaps": lambda: _series(_gaps(FLAGS)),
    "text": lambda: _series(WORDS),
    "text, gaps": lambda: _series(_gaps(WORDS)),
    "category": lambda: _series(WORDS, "category"),
    "category, gaps": lambda: _series(_gaps(WORDS), "category"),
    "timestamp": lambda: _series(MOMENTS, "datetime64[us]"),
    "timestamp, gaps": lambda: _series(_gaps(MOMENTS), "datetime64[us]"),
    "timestamp with a zone": lambda: _series(MOMENTS, "datetime64[us]").dt.tz_localize("UTC"),
    "date": lambda: _series([moment.date() for moment in MOMENTS]),
    "duration": lambda: _series([timedelta(minutes=at) for at in range(ROWS)], "timedelta64[us]"),
    "decimal": lambda: _series([Decimal(value) for value in INTEGERS]),
    "list": lambda: _series([[number, 1.0] for number in NUMBERS]),
    "struct": lambda: _series([{"a": number} for number in NUMBERS]),
    "bytes": lambda: _series([word.encode() for word in WORDS]),
    "nothing": lambda: _series([None] * ROWS),
}


def cell(value: Any) -> Any:
    """What a client would send for a value: JSON has no word for most of them.

    :raises TypeError: it has none for this one.
    """
    if (
        isinstance(value, datetime)
        and value == value
        and value.tzinfo is None
        or isinstance(value, date)
        and not isinstance(value, datetime)
    ):
        value = value.isoformat()
    sent = plain(value)
    json.dumps(sent, allow_nan=False)
    return sent


def cells(column: pd.Series) -> list[Any]:
    return [cell(value) for value in column.tolist()]


# -- stages: each gives YES where the values came out as they went in, and REFUSED where the column was named


def snapshot(kind: str, folder: Path) -> str:
    frame = pd.DataFrame({"at": _hours(), "x": COLUMNS[kind]()})
    store = ParquetSnapshots(folder)
    windows = {"window_start": _hours()[0], "split_at": _hours()[60], "window_end": END}
    kept = store.write(frame, name="shop", time_column="at", **windows)
    held, given = (_canonical(table["x"]) for table in (store.read(kept), frame))
    assert held == given
    return YES


def train(kind: str, folder: Path) -> str:
    """All kinds that train are inputs of one model; each of the others is tried by itself."""
    if SAID[kind, "train"] == YES:
        _, registered = _together()
    else:
        registered = _trained({"x": COLUMNS[kind]()})[1]
    named = [column["name"] for column in json.loads(str(registered.model.signature["inputs"]))]
    assert (kind if SAID[kind, "train"] == YES else "x") in named
    return YES


def serve(kind: str, folder: Path) -> str:
    """The served answers are those that the model itself gives to the rows as it was trained on them."""
    model, registered = _together()
    rows = _inputs({name: COLUMNS[name]() for name in _trainable()}).assign(which=_trainable().index(kind))
    sent = {"columns": list(rows.columns), "data": [list(row) for row in zip(*map(cells, _columns(rows)), strict=True)]}
    answer = _client().post("/invocations", json={"dataframe_split": sent})
    assert answer.status_code == 200, answer.text[:300]
    assert answer.json()["predictions"] == model.predict(rows).tolist()
    return YES


def log(kind: str, folder: Path) -> str:
    assert [row.inputs["x"] for row in _logged(kind, folder).rows] == cells(COLUMNS[kind]())
    return YES


def drift(kind: str, folder: Path) -> str:
    """The rows of the reference, as they were logged, have not drifted; other ones have."""
    column = COLUMNS[kind]()
    sent = json.loads(json.dumps(cells(column)))
    # As often as it takes to tell drift from chance.
    reference = make_reference({"x": pd.concat([column] * 30, ignore_index=True)})
    other = [value for value in sent if value is not None][:1] or ["something"]
    stored = Reference.from_json(json.loads(json.dumps(reference.to_json())))
    (same,) = check(stored, stored.sketch({"x": sent * 30})).columns
    (moved,) = check(stored, stored.sketch({"x": other * 3600})).columns
    if same.verdict == "error":
        return REFUSED
    assert (same.verdict, moved.verdict != "pass") == ("pass", True), (same.reason, moved.reason)
    return YES


def quality(kind: str, folder: Path) -> str:
    """What holds for the rows of training holds for the same rows as they were logged, and can be broken by both."""
    tables = [pd.DataFrame({"x": COLUMNS[kind]()}), table_of(_logged(kind, folder))]
    holds, breaks = RULES[kind]
    for table in tables:
        report = GxValidator().validate(table, [holds, breaks], subject=kind)
        assert [one.column for one in report.broken] == ["x"] and report.judged == 2, report
        assert report.broken[0].expectation == breaks.expect and "could not be judged" not in report.broken[0].observed
    return YES


def labels(kind: str, folder: Path) -> str:
    """A model that always answers the truth is right; one that never does is not."""
    column = COLUMNS[kind]()
    table = pd.DataFrame({"request_id": [f"r{at}" for at in range(ROWS)], "label": column})
    known = {row.request_id: row.label for row in read_labels(table, subject="labels").labels}
    if not known:
        return REFUSED
    task: Task = "regression" if len(set(known.values())) > 2 else "binary"
    truth = [value for value, missing in zip(column.tolist(), column.isna(), strict=True) if not missing]
    answers = [describe(cell(float(value) if isinstance(value, Decimal) else value)) for value in truth]
    outcomes = [
        LabelledPrediction(rid, "r", END, one.kind, one.score, one.label, None, label)
        for (rid, label), one in zip(known.items(), answers, strict=True)
    ]
    found = measure(task, outcomes, [*{*known.values()}], release="r", since=END, until=END)
    assert found.why == "", found.why
    assert found.metrics["mae" if task == "regression" else "accuracy"] == (0.0 if task == "regression" else 1.0)
    return YES


def answers(kind: str, folder: Path) -> str:
    """Answers of this kind, logged and counted, are those of the reference; one answer to every row is not."""
    given = json.loads(json.dumps(cells(COLUMNS[kind]())))
    reference = make_reference({"beside": NUMBERS * 30}, scores=drift_answers(given * 30))
    other = [value for value in given if value is not None][:1] or ["something"]
    verdicts = []
    for name, answered in (("same", given * 30), ("moved", other * 3600)):
        rows = [{"rid": f"r{at}", "inputs": [0.5], **one} for at, one in enumerate(describe_all(answered))]
        writer = PredictionLog(folder / name, queue_size=10_000, segment_bytes=10**8, segments_kept=2)
        writer.put({"t": END.timestamp(), "status": 200, "columns": ["beside"]}, rows)
        writer.close()
        with opened(folder / f"{name}.sqlite", reference) as store:
            compact(folder / name, store, now=END.timestamp)
            sketch = store.total(SCORE, 0, int(END.timestamp()) + 86_400)
        column = check(reference, {SCORE: sketch}).of(SCORE)
        assert column is not None and column.rows == 3600
        verdicts.append(column.verdict)
    assert verdicts == ["pass", "fail"]
    return YES


def parity(kind: str, folder: Path) -> str:
    """A row equals itself and no other: what was served, and what the offline path gives for the same moment."""
    column = COLUMNS[kind]()
    served = [ServedRow(keys={"id": at}, as_of=END, values={"x": value}) for at, value in enumerate(cells(column))]
    offline = [{"x": cell(row["x"])} for row in pd.DataFrame({"x": column}).to_dict("records")]
    same = compare("service", served, offline, features=["x"], tolerance=1e-9)
    assert same.equality == 1.0
    others = [next((other for other in offline if other != row), {"x": "other"}) for row in offline]
    assert compare("service", served, others, features=["x"], tolerance=1e-9).equal == 0
    return YES


def batch(kind: str, folder: Path) -> str:
    """The rows of a table are sent as a client would send them."""
    world = _scoring_world()
    column = COLUMNS[kind]()
    sent = len(world.memory.predictor.sent)
    score_batch(
        world.platform,
        ENDPOINT,
        pd.DataFrame({"x": column}),
        batch="nightly",
        chunk_rows=ROWS,
        answers=AnswerFile(folder / "answers.parquet"),
        pause=lambda _: None,
    )
    (request,) = world.memory.predictor.sent[sent:]
    assert [row[0] for row in request.rows] == cells(column)
    return YES


STAGES: dict[str, Callable[[str, Path], str]] = {
    "snapshot": snapshot,
    "train": train,
    "serve": serve,
    "log": log,
    "drift": drift,
    "quality": quality,
    "labels": labels,
    "answers": answers,
    "parity": parity,
    "batch": batch,
}


# -- the page


def _table() -> dict[tuple[str, str], str]:
    """(kind, stage) -> cell, as the page says it."""
    page = PAGE.read_text(encoding="utf-8")
    first = page[page.index("| column |") :].partition("\n\n")[0]
    header, _, *rows = [[part.strip() for part in line.strip("|").split("|")] for line in first.splitlines()]
    return {(row[0], stage): said for row in rows for stage, said in zip(header[1:], row[1:], strict=True)}


SAID = _table()


def test_the_page_knows_every_kind_and_every_stage_and_no_other_word() -> None:
    assert SAID.keys() == {(kind, stage) for kind in COLUMNS for stage in STAGES}
    assert {*SAID.values()} <= {YES, REFUSED, NOT_REACHED}


@pytest.mark.parametrize(
    ("kind", "stage"), [key for key, said in SAID.items() if said != NOT_REACHED], ids=lambda part: part
)
def test_a_cell_says_what_happens(kind: str, stage: str, tmp_path: Path) -> None:
    try:
        found = STAGES[stage](kind, tmp_path)
    except MlpipexError as error:
        found, message = REFUSED, str(error)
        assert "x" in message or "label" in message, message
    assert found == SAID[kind, stage]


@pytest.mark.parametrize("kind", COLUMNS)
def test_what_is_never_reached_is_refused_before(kind: str) -> None:
    """Nobody can be served by a model that was not trained; JSON has no word for what no client can send."""
    stages = [stage for stage in STAGES if SAID[kind, stage] == NOT_REACHED]
    refused = [stage for stage in ("snapshot", "train") if SAID[kind, stage] != YES]
    try:
        cells(COLUMNS[kind]())
        sendable = True
    except (TypeError, ValueError):
        sendable = False
    assert not stages or refused or not sendable


# -- what several cells share


def _hours() -> pd.DatetimeIndex:
    return pd.date_range(END - timedelta(days=90), periods=ROWS, freq="18h")


def _canonical(column: pd.Series) -> list[str]:
    """Values as text: NaN, None, NaT and NA are all missing, arrays are lists."""
    return [
        "missing" if value is None or value is pd.NaT or value is pd.NA or value != value else _text(value)
        for value in (v.tolist() if isinstance(v, np.ndarray) else v for v in column.tolist())
    ]


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def _rules(kind: str) -> tuple[Expectation, Expectation]:
    """An expectation that holds for a column of this kind, and one that does not."""
    first = kind.split(",")[0]
    if first in ("number", "integer beyond 2^53", "decimal") and kind != "number, infinities":
        ends = (-9, 9) if first != "integer beyond 2^53" else (2**53, 2**54)
        between = "column_values_to_be_between"
        return expectation(between, "x", min_value=ends[0], max_value=ends[1]), expectation(between, "x", max_value=-10)
    if first.startswith(("timestamp", "date")):
        between = "column_values_to_be_between"
        return expectation(between, "x", min_value="2026-01-01"), expectation(between, "x", max_value="2026-01-02")
    sets = {"integer": [0, 1], "flag": [True, False], "text": ["yes", "no"], "category": ["yes", "no"]}
    if first in sets:
        in_set = "column_values_to_be_in_set"
        return expectation(in_set, "x", value_set=sets[first]), expectation(in_set, "x", value_set=sets[first][:1])
    present, absent = expectation("column_values_to_not_be_null", "x"), expectation("column_values_to_be_null", "x")
    return (absent, present) if kind == "nothing" else (present, absent)


RULES = {kind: _rules(kind) for kind in COLUMNS}


def _logged(kind: str, folder: Path) -> PredictionSample:
    """The column as clients sent it, written into a prediction log and read back in the order of the rows."""
    rows = [{"rid": f"r{at:03}", "inputs": [value], "score": 0.5} for at, value in enumerate(cells(COLUMNS[kind]()))]
    writer = PredictionLog(folder / "log", queue_size=10_000, segment_bytes=10**7, segments_kept=2)
    writer.put({"t": END.timestamp(), "status": 200, "columns": ["x"]}, rows)
    writer.close()
    read = sample(folder / "log", release="r", since=END, until=END, limit=ROWS)
    return read.model_copy(update={"rows": tuple(sorted(read.rows, key=lambda row: row.request_id))})


MANIFEST = """\
apiVersion: mlpipex/v1
kind: Deployment
name: shop
owner: {team: shop, contact: oncall@example.com}
model: {name: shop, version: auto}
training: {callable: "acme_types:train", task: regression, target: y, predict_method: predict}
runtime: {version: 1.0.0, environment: provider}
data: {source: "acme_types:load", time_column: at, window: {train: 60d, evaluate: 30d}}
features: {columns: [FEATURES]}
environments: {production: {gates: []}}
"""


class Trained(NamedTuple):
    """A registered model, its release and the folder that it lies in."""

    model: ModelVersion
    release: Release
    folder: Path


def _trainable() -> list[str]:
    return [kind for kind in COLUMNS if SAID[kind, "train"] == YES]


def _columns(rows: pd.DataFrame) -> list[pd.Series]:
    return [rows[name] for name in rows.columns]


def _inputs(columns: dict[str, pd.Series]) -> pd.DataFrame:
    return pd.DataFrame({**columns, "which": [at % len(columns) for at in range(ROWS)]})


@cache
def _registry() -> MemoryRegistry:
    return MemoryRegistry()


@cache
def _together() -> tuple[Any, Trained]:
    return _trained({kind: COLUMNS[kind]() for kind in _trainable()})


def _trained(columns: dict[str, pd.Series]) -> tuple[Any, Trained]:
    """A model whose answer depends on every bit of one of its inputs, registered as any team's would be."""
    rows = _inputs(columns)
    model = _model([*columns])
    code = types.ModuleType("acme_types")
    frame = rows.assign(at=_hours(), y=NUMBERS)
    code.load, code.train = (lambda start, end: frame), (lambda context: model)  # type: ignore[attr-defined]
    named = ", ".join(json.dumps(name) for name in rows.columns)
    manifest = load_manifest(MANIFEST.replace("FEATURES", named), file="shop.yaml")
    store = MemorySnapshots()
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "acme_types", code)
        kept, _ = snapshot_dataset(manifest, END, store=store, validator=MemoryValidator())
        record = train_model(
            manifest,
            kept,
            store=store,
            registry=_registry(),
            validator=MemoryValidator(),
            code_version="0123abc",
            now=END,
        )
        registered = register_model(manifest, record, registry=_registry()).model
    runtime = RuntimeEnvironment(version="1.0.0", kind="provider", digest=provider_digest())
    release = Release(model=registered, manifest_digest=manifest.digest, runtime=runtime)
    return model, Trained(registered, release, _registry().folders[registered.run_id])


def _model(names: list[str]) -> Any:
    import mlflow.pyfunc

    class Echo(mlflow.pyfunc.PythonModel):
        """Answers a checksum of the input that the row's ``which`` names; pickled by value, as a local class."""

        def predict(self, model_input: Any, params: Any = None) -> Any:
            from zlib import crc32

            import numpy as np

            def text(value: Any) -> str:
                if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
                    return "missing"
                if isinstance(value, (bool, np.bool_)):
                    return str(bool(value))
                whole = isinstance(value, (float, np.floating)) and value == int(value)
                return str(int(value)) if whole else str(value)

            picked = [model_input[names[int(which)]].iloc[at] for at, which in enumerate(model_input["which"].tolist())]
            return np.array([float(crc32(text(value).encode())) for value in picked])

    return Echo()


@cache
def _client() -> TestClient:
    trained = _together()[1]
    folder = Path(tempfile.mkdtemp(prefix="types-"))
    spec = ModelServerSpec(
        endpoint=EndpointRef.parse("production/shop"),
        release=trained.release,
        model_dir=str(trained.folder),
        socket=str(folder / "s"),
        log_dir=str(folder / "log"),
    )
    return TestClient(create_app(spec, load(spec), Drill(folder / "fault.json")))


@cache
def _scoring_world() -> World:
    patch = pytest.MonkeyPatch()

    def model(version: str, **changes: Any) -> Any:
        inputs = '[{"name": "x", "type": "string"}]'
        return make_candidate(version, **changes).model_copy(update={"signature": {"inputs": inputs}})

    with patch.context() as patched:
        patched.setattr("tests.support.rollouts.make_candidate", model)
        world = World()
        world.first_release()
    world.memory.predictor.answers = lambda _: 0.5
    return world
