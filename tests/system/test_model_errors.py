"""A model that raises, through a real plane: clients get MLflow's answer, and the release gets the blame."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from airflow_provider_mlpipex.adapters.mlflow.model import save_model
from airflow_provider_mlpipex.domain.gates.evidence import ReleaseTelemetry
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.training import TrainedModel
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from tests.support.plane import (
    READY_TIMEOUT_S,
    RealPlane,
    examples,
    fresh_window,
    now,
    path_of,
    real_plane,
    release_of,
    save_numbered_model,
)
from tests.support.polling import until

__all__ = ["real_plane"]

pytestmark = pytest.mark.system

PICKY = EndpointRef.parse("production/picky")
WIDE = EndpointRef.parse("production/wide")


def save_picky_model(folder: Path) -> Path:
    """A model that raises for a carrier that it has never seen."""
    rows = examples()
    known_only = ColumnTransformer([("carrier", OneHotEncoder(handle_unknown="error"), ["carrier"])])
    model = Pipeline([("columns", known_only), ("fit", LinearRegression())]).fit(rows, rows["distance"])
    save_model(
        TrainedModel(model=model, predict_method="predict", examples=rows, metrics={"mae": 0.0}, evaluation_rows=3),
        folder,
    )
    return folder


def test_a_model_that_raises_is_answered_in_mlflows_way_and_counts_against_its_release(
    real_plane: RealPlane, tmp_path: Path
) -> None:
    release = release_of(save_picky_model(tmp_path / "model"), "1.0.0")
    real_plane.port.ensure(PICKY, release, timeout_s=READY_TIMEOUT_S)
    real_plane.port.apply(TrafficPlan(endpoint=PICKY, current=release.id))
    since = fresh_window()
    # Numbers that training has held: what lies beyond them would be the client's fault, and not the model's.
    row = examples().iloc[0]
    cells = [float(row["distance"]), int(row["hour"]), "??"]
    unseen = {"dataframe_split": {"columns": ["distance", "hour", "carrier"], "data": [cells]}}
    garbage = {"dataframe_split": {"columns": ["distance"], "data": [[1.5]]}}
    with real_plane.client() as client:
        answers = [client.post(path_of(PICKY), json=body) for body in (unseen, unseen, garbage)]
    assert [(answer.status_code, answer.headers.get("x-mlpipex-fault")) for answer in answers] == [
        (400, "model"),
        (400, "model"),
        (400, None),
    ]
    assert answers[0].json()["error_code"] == "BAD_REQUEST"

    def seen() -> ReleaseTelemetry:
        return real_plane.port.telemetry(PICKY, since=since, until=now() + timedelta(seconds=5)).releases[release.id]

    until(lambda: seen().requests == 3, within_s=20, what="three attempts are counted")
    assert (seen().errors, seen().client_errors) == (2, 1)


def test_current_answers_what_a_candidate_refuses_and_the_candidate_is_to_blame(
    real_plane: RealPlane, tmp_path: Path
) -> None:
    current = release_of(save_numbered_model(1, tmp_path / "current"), "1.0.0")
    candidate = release_of(save_picky_model(tmp_path / "candidate"), "2.0.0")
    before = release_of(save_numbered_model(2, tmp_path / "before"), "0.9.0")
    for release in (current, candidate, before):
        real_plane.port.ensure(WIDE, release, timeout_s=READY_TIMEOUT_S)
    plan = TrafficPlan(
        endpoint=WIDE,
        current=current.id,
        candidate=candidate.id,
        candidate_weight=5_000,
        lease_s=300,
        fallback=before.id,
    )
    real_plane.port.apply(plan)
    since = fresh_window()
    # Farther than any training row, and a carrier that the candidate raises on: not its fault by itself.
    columns = ["distance", "hour", "carrier"]
    beyond = {"dataframe_split": {"columns": columns, "data": [[1e7, 12, "ZZ"]]}}
    unfit = {"dataframe_split": {"columns": ["distance"], "data": [[1.5]]}}
    with real_plane.client() as client:
        for body, status in ((beyond, 200), (unfit, 400)):
            answers = [client.post(path_of(WIDE), json=body, headers={"x-user-id": f"u{at}"}) for at in range(40)]
            assert {answer.status_code for answer in answers} == {status}
            # What both refuse, the client hears of: the release before them is no third opinion.
            assert {answer.headers["x-mlpipex-release"] for answer in answers} == {current.id}
            assert not any("x-mlpipex-fault" in answer.headers for answer in answers)

    def counted(release: str) -> ReleaseTelemetry:
        return real_plane.port.telemetry(WIDE, since=since, until=now() + timedelta(seconds=5)).releases[release]

    def totals() -> tuple[int, int]:
        return counted(current.id).requests, counted(candidate.id).requests

    # Every request ends at current, and about half of them were the candidate's first.
    until(lambda: totals()[0] == 80, within_s=30, what="all requests are counted")
    tried = counted(candidate.id)
    assert 20 <= tried.requests <= 60
    assert tried.errors + tried.client_errors == tried.requests
    assert (counted(current.id).errors, counted(current.id).client_errors) == (0, 40)
    # The same users asked both times, so they were split alike.
    assert tried.errors == tried.client_errors == tried.requests // 2
    telemetry = real_plane.port.telemetry(WIDE, since=since, until=now() + timedelta(seconds=5))
    assert before.id not in telemetry.releases or telemetry.releases[before.id].requests == 0
