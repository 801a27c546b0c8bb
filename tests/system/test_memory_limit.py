"""A model that takes memory without end, on a real plane: it is ended by name, and users go on being answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_mlpipex.adapters.mlflow.model import save_model
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.training import TrainedModel
from airflow_provider_mlpipex.domain.rollout.plane_observation import ReleaseStatus
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from tests.support.plane import READY_TIMEOUT_S, RealPlane, examples, path_of, release_of
from tests.support.polling import until

pytestmark = pytest.mark.system

GREEDY = EndpointRef.parse("production/greedy")
LIMIT_MB, TAKEN_MB = 700, 1500


def greedy_model() -> Any:
    """Answers the distance; rows of hour 23 cost it more memory than it may have, which it never gives back."""
    from sklearn.base import BaseEstimator, RegressorMixin

    class Greedy(RegressorMixin, BaseEstimator):
        def fit(self, rows: Any, target: Any) -> Any:
            self.fitted_ = True
            return self

        def predict(self, rows: Any) -> Any:
            if (rows["hour"] == 23).all():
                # Written to, so that the machine has to find the pages.
                self.held_ = [*getattr(self, "held_", []), b"x" * (taken_mb * 1_000_000)]
            return rows["distance"].to_numpy(dtype=float)

    taken_mb = TAKEN_MB
    return Greedy().fit(None, None)


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RealPlane]:
    monkeypatch.setenv("MLPIPEX_MODEL_MEMORY", f"{LIMIT_MB}MB")
    monkeypatch.setenv("MLPIPEX_STANDBYS", "false")
    plane = RealPlane(tmp_path)
    plane.start()
    yield plane
    plane.stop()


def ask(client: httpx.Client, hour: int) -> int:
    """HTTP status; 0 where the connection broke."""
    body = {"dataframe_split": {"columns": ["distance", "hour", "carrier"], "data": [[1.5, hour, "AA"]]}}
    try:
        return client.post(path_of(GREEDY), json=body, timeout=60).status_code
    except httpx.HTTPError:
        return 0


def test_one_that_takes_too_much_is_ended_by_name_and_started_again_within_bounds(
    plane: RealPlane, tmp_path: Path
) -> None:
    rows = examples().assign(hour=[1] * len(examples()))
    trained = TrainedModel(
        model=greedy_model(), predict_method="predict", examples=rows, metrics={"mae": 0.0}, evaluation_rows=3
    )
    save_model(trained, tmp_path / "model")
    release = release_of(tmp_path / "model", "1.0.0")
    plane.port.ensure(GREEDY, release, timeout_s=READY_TIMEOUT_S)
    plane.port.apply(TrafficPlan(endpoint=GREEDY, current=release.id))

    def status() -> ReleaseStatus:
        return plane.port.observe(GREEDY).releases[release.id]

    with plane.client() as client:
        assert ask(client, 1) == 200
        assert (status().restarts, status().detail) == (0, "")
        ask(client, 23)
        until(lambda: status().restarts == 1, within_s=60, what="it is ended")
        said = status().detail
        assert "out of memory" in said and f"limit {LIMIT_MB} MB" in said
        until(lambda: ask(client, 1) == 200, within_s=120, what="it answers again")
        # Whoever asks for it again and again does not keep the machine busy with starting it.
        for _ in range(6):
            ask(client, 23)
        until(lambda: status().restarts >= 2, within_s=120, what="it is ended again")
        assert status().restarts <= 4
        log = plane.log()
    assert "out of memory" in log
