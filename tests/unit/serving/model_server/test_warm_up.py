"""What a model server asks its model before anybody else does."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.serving.model_server import warm_up as warming
from airflow_provider_mlpipex.serving.model_server.app import GOLDEN_PATH, PREDICTION_THREADS
from airflow_provider_mlpipex.serving.model_server.loading import scorer_of
from airflow_provider_mlpipex.serving.model_server.scoring import Scored
from airflow_provider_mlpipex.serving.model_server.warm_up import REQUESTS, warm_up
from tests.support.plane import STEP, invocation, save_numbered_model


class Asked:
    """Takes long for its first three requests, as a model does that imports and compiles."""

    def __init__(self, *, error: Exception | None = None, seconds: float = 0.0) -> None:
        self.bodies: list[Any] = []
        self.error, self.seconds = error, seconds
        self._lock = threading.Lock()

    def score(self, body: bytes, content_type: str | None) -> Scored:
        assert content_type == "application/json"
        with self._lock:
            self.bodies.append(json.loads(body))
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return Scored(200, b"{}", "application/json")


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    path = tmp_path / "golden.json"
    path.write_text(json.dumps({"request": invocation(1.0, 2.0, 3.0), "predictions": []}), encoding="utf-8")
    return path


def test_a_model_is_asked_for_its_golden_rows_one_and_all(golden: Path) -> None:
    asked = Asked()
    assert warm_up(asked, golden, threads=2) == REQUESTS == len(asked.bodies)
    rows = {len(body["dataframe_split"]["data"]) for body in asked.bodies}
    assert rows == {1, 3}


def test_what_it_raises_is_not_what_it_is_asked_for(golden: Path) -> None:
    assert warm_up(Asked(error=RuntimeError("no")), golden, threads=2) == REQUESTS


def test_a_slow_model_does_not_keep_a_release_from_being_ready(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "MAX_DURATION_S", 0.0)
    assert warm_up(Asked(), golden, threads=2) == 0
    monkeypatch.setattr(warming, "MAX_DURATION_S", 0.05)
    assert warm_up(Asked(seconds=0.1), golden, threads=2) == 2


def test_without_golden_rows_nobody_knows_what_to_ask(tmp_path: Path) -> None:
    assert warm_up(Asked(), tmp_path / "golden.json", threads=2) == 0


def test_a_real_model_answers_every_one_of_them(tmp_path: Path) -> None:
    folder = save_numbered_model(1, tmp_path / "model")
    (folder / GOLDEN_PATH).parent.mkdir(exist_ok=True)
    recorded = {"request": invocation(1.0, 2.0), "predictions": [1.0 + STEP, 2.0 + STEP]}
    (folder / GOLDEN_PATH).write_text(json.dumps(recorded), encoding="utf-8")
    scorer, statuses = scorer_of(folder)[0], []

    class Told:
        def score(self, body: bytes, content_type: str | None) -> Scored:
            answer = scorer.score(body, content_type)
            statuses.append(answer.status)
            return answer

    assert warm_up(Told(), folder / GOLDEN_PATH, threads=PREDICTION_THREADS) == len(statuses)
    assert set(statuses) == {200}
