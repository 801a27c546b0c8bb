"""What is served is what was evaluated: for every type, gap and category the client's answer is the model's own.

The oracle is the fitted model in plain pandas, asked with the very frame that it learned from.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from airflow_provider_mlpipex.adapters.files.snapshot_table import table_of
from airflow_provider_mlpipex.adapters.mlflow.model import save_model
from airflow_provider_mlpipex.domain.errors import TrainingFailed
from airflow_provider_mlpipex.domain.release.training import TrainedModel
from airflow_provider_mlpipex.serving.model_server.loading import scorer_of

ROWS = 240
RANDOM = np.random.default_rng(5)
GAPS = np.arange(ROWS) % 5 == 0
MOMENTS = pd.date_range("2026-01-01", periods=ROWS, freq="h")
COLUMNS: dict[str, pd.Series] = {
    "flag": pd.Series(RANDOM.random(ROWS) < 0.5),
    "flag with unknowns": pd.Series(RANDOM.random(ROWS) < 0.5, dtype="boolean").mask(GAPS),
    "integer": pd.Series(RANDOM.integers(-5, 5, ROWS)),
    "small integer": pd.Series(RANDOM.integers(-5, 5, ROWS).astype("int8")),
    "huge integer": pd.Series(RANDOM.integers(0, 5, ROWS) + 2**53),
    "integer with gaps": pd.Series(RANDOM.integers(0, 5, ROWS), dtype="Int64").mask(GAPS),
    "single precision": pd.Series(RANDOM.normal(size=ROWS).astype("float32")).mask(GAPS),
    "whole floats": pd.Series(RANDOM.integers(0, 5, ROWS).astype(float)),
    "text with gaps": pd.Series(RANDOM.choice(["x", "", "nan", "NA", "null", "ü😀"], ROWS), dtype=object).mask(
        GAPS, None
    ),
    "category": pd.Series(RANDOM.choice(["z", "y", "x"], ROWS)).astype(pd.CategoricalDtype(["z", "y", "x", "never"])),
    "category with gaps": pd.Series(RANDOM.choice(["b", "a"], ROWS)).mask(GAPS).astype("category"),
    "moments": pd.Series(MOMENTS),
    "moments of a zone": pd.Series(MOMENTS.tz_localize("UTC").tz_convert("Europe/Berlin")).mask(GAPS),
    "nothing": pd.Series([None] * ROWS, dtype=object),
    "numbers never known": pd.Series(np.full(ROWS, np.nan)),
}


def snapshot(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as training reads it back: through Arrow."""
    return table_of(frame, name="rows").to_pandas()


class Telling:
    """A fitted estimator that answers with all that pandas can tell of a cell: its dtype, and the value itself."""

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        told = []
        for name in rows.columns:
            column = rows[name]
            kind = str(column.dtype)
            codes = column.cat.codes.astype(str) if kind == "category" else pd.Series([""] * len(column))
            told.append([f"{name} {kind} {value!r} {code}" for value, code in zip(column.tolist(), codes, strict=True)])
        return np.array([" | ".join(cells) for cells in zip(*told, strict=True)], dtype=object)


def saved(folder: Path, model: Any, rows: pd.DataFrame, *, method: str = "predict", **more: Any) -> Path:
    facts: dict[str, Any] = {"metrics": {"a": 1.0}, "evaluation_rows": len(rows), "evaluated": rows, "learned": rows}
    save_model(TrainedModel(model=model, predict_method=method, **{**facts, "examples": rows.head(12), **more}), folder)
    return folder


def asked(folder: Path, cells: dict[str, list[Any]], **more: Any) -> Any:
    scorer, _ = scorer_of(folder)
    body = {"dataframe_split": {"columns": list(cells), "data": list(zip(*cells.values(), strict=True))}, **more}
    return scorer.score(json.dumps(body).encode(), "application/json")


def as_json(values: pd.Series) -> list[Any]:
    """What a client would write by hand: null for what is missing, ISO 8601 for moments."""
    cells = [None if missing else value for value, missing in zip(values.tolist(), values.isna(), strict=True)]
    return [cell.isoformat() if isinstance(cell, pd.Timestamp) else cell for cell in cells]


def test_the_model_is_given_the_cells_and_types_that_it_learned_from(tmp_path: Path) -> None:
    rows = snapshot(pd.DataFrame(COLUMNS))
    folder = saved(tmp_path / "model", Telling(), rows)
    answer = asked(folder, {name: as_json(rows[name]) for name in rows.columns})
    assert answer.status == 200, answer.body
    assert json.loads(answer.body)["predictions"] == Telling().predict(rows).tolist()


def test_a_flag_and_a_category_with_gaps_are_served_as_evaluated(tmp_path: Path) -> None:
    rows = snapshot(pd.DataFrame({name: COLUMNS[name] for name in ("flag with unknowns", "category with gaps")}))
    risk = GAPS.astype(int)
    known = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), list(rows.columns)))
    model = make_pipeline(known, LogisticRegression()).fit(rows, risk)
    folder = saved(tmp_path / "model", model, rows, method="predict_proba")
    answers = json.loads(asked(folder, {name: as_json(rows[name]) for name in rows.columns}).body)["predictions"]
    np.testing.assert_allclose(answers, model.predict_proba(rows))
    assert ((np.array(answers)[:, 1] > 0.5) == GAPS).all()


def test_a_model_that_reads_its_categories_from_the_dtype_is_served(tmp_path: Path) -> None:
    rows = snapshot(pd.DataFrame({"shop": COLUMNS["category"], "seats": COLUMNS["whole floats"]}))
    target = (rows["shop"] == "z").astype(int)
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype").fit(rows, target)
    folder = saved(tmp_path / "model", model, rows, method="predict_proba")
    answers = json.loads(asked(folder, {"shop": ["z", "y", None, "new"], "seats": [1, 2, None, 3]}).body)["predictions"]
    frame = pd.DataFrame({"shop": pd.Categorical(["z", "y", None, "new"], ["z", "y", "x", "never", "new"])})
    np.testing.assert_allclose(answers, model.predict_proba(frame.assign(seats=[1.0, 2.0, np.nan, 3.0])))


class Counting:
    """Answers with how many rows it was asked for: a row alone is answered otherwise than in a table."""

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        return np.full(len(rows), float(len(rows)))


class Restless:
    """Never answers the same."""

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        return next(_ANSWERS) + np.zeros(len(rows))


_ANSWERS = itertools.count()


class Forgetful:
    """Loses a part of itself when it is saved."""

    def __init__(self) -> None:
        self.held = 5.0

    def __reduce__(self) -> Any:
        return Forgetful._restored, ()

    @staticmethod
    def _restored() -> Forgetful:
        other = Forgetful()
        other.held = 7.0
        return other

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        return np.full(len(rows), self.held)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Counting(), "depends on the rows beside it"),
        (Restless(), "answers the same row twice in two ways"),
        (Forgetful(), "saved and loaded it is another model"),
    ],
    ids=["by-table", "restless", "forgetful"],
)
def test_a_model_that_is_served_otherwise_is_refused_with_both_answers_and_no_row(
    tmp_path: Path, model: Any, why: str
) -> None:
    rows = pd.DataFrame({"secret": [f"customer-{number}" for number in range(30)]})
    with pytest.raises(TrainingFailed, match=why) as refused:
        saved(tmp_path / "model", model, rows)
    assert "the model itself answers" in str(refused.value)
    assert "customer-" not in str(refused.value)


class OldForm(mlflow.pyfunc.PythonModel):
    """MLflow's usual form."""

    def load_context(self, context: Any) -> None:
        self.factor = 2.0

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return model_input["x"].to_numpy() * self.factor


def test_mlflows_usual_form_of_a_python_model_is_served(tmp_path: Path) -> None:
    rows = pd.DataFrame({"x": [1.5, -2.0, 0.25]})
    folder = saved(tmp_path / "model", OldForm(), rows)
    assert json.loads(asked(folder, {"x": [4]}).body) == {"predictions": [8.0]}


def test_params_that_nobody_would_hear_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", OldForm(), pd.DataFrame({"x": [1.5, -2.0, 0.25]}))
    assert asked(folder, {"x": [4]}, params={}).status == 200
    refused = asked(folder, {"x": [4]}, params={"k": 10})
    assert (refused.status, refused.model_failed) == (400, False)
    assert "no params" in json.loads(refused.body)["message"]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([[1.0], [2.0]], "list"),
        ([b"a", b"b"], "bytes"),
        ([1.0, np.inf], "infinite values"),
        (pd.to_timedelta([1, 2], unit="s"), "timedelta"),
        ([{"a": 1}, {"a": 2}], "dict"),
        (["a", 1], "int and str"),
    ],
    ids=["lists", "bytes", "infinity", "durations", "objects", "mixed"],
)
def test_a_column_that_no_request_can_carry_is_refused_by_name(tmp_path: Path, values: Any, found: str) -> None:
    rows = pd.DataFrame({"x": [1.0, 2.0], "odd one": values})
    with pytest.raises(TrainingFailed, match="column odd one") as refused:
        saved(tmp_path / "model", Counting(), rows)
    assert found in str(refused.value)


def test_the_signature_is_of_all_rows_and_not_of_the_examples(tmp_path: Path) -> None:
    rows = pd.DataFrame({"code": pd.Series([None] * 30 + ["SPRING"], dtype=object)})
    trained = TrainedModel(
        model=Telling(), predict_method="predict", examples=rows.head(20), metrics={}, evaluation_rows=20, learned=rows
    )
    signature = save_model(trained, tmp_path / "model")
    assert json.loads(str(signature["inputs"])) == [{"type": "string", "name": "code", "required": True}]
