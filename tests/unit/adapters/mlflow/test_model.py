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


def test_without_evaluated_rows_there_is_no_reference(tmp_path: Path) -> None:
    assert not saved(tmp_path, LinearRegression(), "predict", rows=None).exists()
