"""What a model's artifact holds beside the model: the reference that later traffic is compared with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from airflow_provider_mlpipex.adapters.mlflow.model import save_model
from airflow_provider_mlpipex.domain.drift.references import REFERENCE_PATH, SCORE, Reference
from airflow_provider_mlpipex.domain.release.training import TrainedModel

ROWS = pd.DataFrame({"distance": np.arange(200.0), "hour": np.arange(200) % 24})
TARGET = (ROWS["distance"] > 120).astype(int)


def saved(tmp_path: Path, model: Any, method: str, rows: pd.DataFrame | None = ROWS) -> Path:
    fitted = model.fit(ROWS, TARGET)
    folder = tmp_path / "model"
    facts: dict[str, Any] = {"examples": ROWS.head(5), "metrics": {}, "evaluation_rows": len(ROWS), "evaluated": rows}
    save_model(TrainedModel(model=fitted, predict_method=method, **facts), folder)
    return folder / REFERENCE_PATH


@pytest.mark.parametrize(
    ("model", "method"),
    [(LogisticRegression(), "predict_proba"), (LogisticRegression(), "predict"), (LinearRegression(), "predict")],
    ids=["probabilities", "labels", "numbers"],
)
def test_the_reference_holds_every_feature_and_the_score_as_it_is_logged(
    tmp_path: Path, model: Any, method: str
) -> None:
    path = saved(tmp_path, model, method)
    reference = Reference.from_json(json.loads(path.read_text(encoding="utf-8")))
    assert set(reference.columns) == {"distance", "hour", SCORE}
    assert reference.columns["distance"].sketch.rows == len(ROWS)
    answers = getattr(model, method)(ROWS)
    scores = answers[:, 1] if answers.ndim == 2 else answers
    scored = reference.columns[SCORE].sketch
    assert scored.usable == len(ROWS)
    assert (scored.minimum, scored.maximum) == pytest.approx((scores.min(), scores.max()))


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_the_reference_knows_times_and_what_the_model_itself_does_with_each_column(tmp_path: Path, method: str) -> None:
    class DistanceOnly(LogisticRegression):  # type: ignore[misc]
        """Uses one column, although the other goes with it."""

        def fit(self, rows: Any, target: Any) -> Any:
            return super().fit(rows[["distance"]], target)

        def predict(self, rows: Any) -> Any:
            return super().predict(rows[["distance"]])

        def predict_proba(self, rows: Any) -> Any:
            return super().predict_proba(rows[["distance"]])

    rows = pd.DataFrame({"distance": np.arange(200.0), "with_it": np.arange(200.0) * 2.0})
    times = pd.Series(pd.date_range("2026-03-01", periods=200, freq="1h", tz="UTC"))
    folder = tmp_path / "model"
    model = DistanceOnly().fit(rows, TARGET)
    facts: dict[str, Any] = {"examples": rows.head(5), "metrics": {}, "evaluation_rows": 200}
    trained = TrainedModel(model=model, predict_method=method, evaluated=rows, evaluated_at=times, **facts)
    save_model(trained, folder)
    reference = Reference.from_json(json.loads((folder / REFERENCE_PATH).read_text(encoding="utf-8")))
    effects = {name: column.effects for name, column in reference.columns.items()}
    assert effects["with_it"] is not None and effects["with_it"].influence == pytest.approx(0.0, abs=1e-12)
    assert effects["distance"] is not None and effects["distance"].influence > 0.8
    assert effects[SCORE] is None
    for column in reference.columns.values():
        assert column.chunks is not None and column.chunks.counts.sum() == 200
        assert column.chunks.begin == times[0].timestamp()
    again = tmp_path / "again"
    save_model(trained, again)
    assert (again / REFERENCE_PATH).read_bytes() == (folder / REFERENCE_PATH).read_bytes()


def test_a_model_that_refuses_permuted_rows_is_registered_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class SameOnly(LinearRegression):  # type: ignore[misc]
        def predict(self, rows: Any) -> Any:
            if (rows["hour"] != rows["distance"] % 24).any():
                raise ValueError("values that never came together: 17")
            return super().predict(rows)

    reference = Reference.from_json(json.loads(saved(tmp_path, SameOnly(), "predict").read_text(encoding="utf-8")))
    assert all(column.effects is None for column in reference.columns.values())
    assert "the model raised ValueError" in caplog.text and "17" not in caplog.text


def test_without_evaluated_rows_there_is_no_reference(tmp_path: Path) -> None:
    assert not saved(tmp_path, LinearRegression(), "predict", rows=None).exists()
