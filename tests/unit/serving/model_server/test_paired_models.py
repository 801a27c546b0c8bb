"""Real models behind the real app, two releases of each kind: what their logs say is what the models themselves say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier

from airflow_provider_mlpipex.adapters.mlflow.model import save_model
from airflow_provider_mlpipex.domain.release.training import TrainedModel
from airflow_provider_mlpipex.domain.shadow.comparison import ShadowComparison
from airflow_provider_mlpipex.serving.model_server.app import Drill, create_app
from airflow_provider_mlpipex.serving.model_server.scoring import Scorer
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec
from airflow_provider_mlpipex.serving.prediction_log.comparison import compare, log_folder
from tests.support.plane import now, release_of
from tests.support.prediction_logs import FRAUD

ROWS, ROWS_A_REQUEST = 240, 2


def rows(seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {"x": random.normal(size=ROWS), "y": random.normal(size=ROWS), "hour": random.choice([6.5, 18.5], size=ROWS)}
    )


def targets(table: pd.DataFrame, tilt: float) -> np.ndarray:
    """Two numbers a row; another ``tilt`` is another world to learn from."""
    noise = np.random.default_rng(1).normal(scale=0.3, size=(len(table), 2))
    return np.column_stack([table["x"] + tilt * table["y"], table["y"] - tilt * table["x"]]) + noise


class Named(mlflow.pyfunc.PythonModel):
    """Names its outputs."""

    def __init__(self, model: LinearRegression) -> None:
        self._model = model

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        return pd.DataFrame(self._model.predict(model_input), columns=["delay", "arrival"])


class Kind(NamedTuple):
    """:param fit: a model of one of two tilts. :param method: that is served. :param kind: as the log calls it."""

    fit: Callable[[pd.DataFrame, np.ndarray], Any]
    method: str
    kind: str


def _bins(values: np.ndarray) -> np.ndarray:
    return np.digitize(values, [-0.7, 0.7])


KINDS = {
    "binary": Kind(lambda x, y: LogisticRegression().fit(x, y[:, 0] > 0), "predict_proba", "probability"),
    "multiclass": Kind(lambda x, y: LogisticRegression().fit(x, _bins(y[:, 0])), "predict_proba", "probability"),
    "classes": Kind(lambda x, y: LogisticRegression().fit(x, _bins(y[:, 0])), "predict", "number"),
    "regression": Kind(lambda x, y: LinearRegression().fit(x, y[:, 0]), "predict", "number"),
    "multi-output": Kind(lambda x, y: LinearRegression().fit(x, y), "predict", "numbers"),
    "multi-label": Kind(
        lambda x, y: MultiOutputClassifier(LogisticRegression()).fit(x, (y > 0).astype(int)), "predict", "numbers"
    ),
    "named": Kind(lambda x, y: Named(LinearRegression().fit(x, y)), "predict", "numbers"),
}


class Answered(NamedTuple):
    """The comparison of two releases that were asked the same, and what the models themselves say of those rows."""

    comparison: ShadowComparison
    current: np.ndarray
    shadow: np.ndarray


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Answered]:
    known: dict[str, Answered] = {}

    def of(name: str) -> Answered:
        if name not in known:
            known[name] = _answer(KINDS[name], tmp_path_factory.mktemp(name))
        return known[name]

    return of


def _answer(kind: Kind, folder: Path) -> Answered:
    began, asked, learned = now(), rows(2), rows(1)
    said, releases = [], []
    for version, tilt in (("1.0.0", 0.0), ("1.1.0", 0.4)):
        model = kind.fit(learned, targets(learned, tilt))
        trained = TrainedModel(
            model=model,
            predict_method=kind.method,
            examples=learned.head(3),
            metrics={"score": 1.0},
            evaluation_rows=ROWS,
        )
        save_model(trained, folder / version)
        release = release_of(folder / version, version)
        releases.append(release.id)
        spec = ModelServerSpec(
            endpoint=FRAUD,
            release=release,
            model_dir=str(folder / version),
            socket=str(folder / f"{version}.sock"),
            log_dir=str(log_folder(folder, FRAUD, release.id)),
        )
        asyncio.run(_serve(spec, asked))
        said.append(np.asarray(getattr(model, kind.method)(asked)))
    found = compare(
        folder, FRAUD, primary=releases[0], shadow=releases[1], since=began, until=now(), slices=["hour", "x"]
    )
    return Answered(found, *said)


async def _serve(spec: ModelServerSpec, asked: pd.DataFrame) -> None:
    """Ask every row of ``asked``, some to a request, and end the server in good order."""
    app = create_app(spec, Scorer(mlflow.pyfunc.load_model(spec.model_dir)), Drill(Path(spec.model_dir) / "no-fault"))
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://it") as client:
        for at in range(0, len(asked), ROWS_A_REQUEST):
            some = asked.iloc[at : at + ROWS_A_REQUEST]
            body = {"dataframe_split": {"columns": list(some.columns), "data": some.to_numpy().tolist()}}
            headers = {"content-type": "application/json", "x-request-id": f"r-{at}"}
            answer = await client.post("/invocations", content=json.dumps(body), headers=headers)
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", KINDS)
def test_every_row_that_both_answered_is_a_pair(answered: Callable[[str], Answered], name: str) -> None:
    found = answered(name).comparison
    assert (found.pairs, found.missing, found.failed_shadow, found.dropped_share) == (ROWS, 0, 0, 0.0)
    assert (found.current_log.requests, found.shadow_log.requests) == (ROWS // ROWS_A_REQUEST,) * 2
    assert found.latency.count == ROWS
    assert found.probabilities == (KINDS[name].kind == "probability")
    assert found.scores is not None and found.scores.psi >= 0


@pytest.mark.parametrize("name", ["binary", "multiclass"])
def test_probabilities_flip_where_the_predicted_class_does(answered: Callable[[str], Answered], name: str) -> None:
    found, current, shadow = answered(name)
    flips = (current.argmax(axis=1) != shadow.argmax(axis=1)).sum()
    assert 0 < found.flips == flips < ROWS
    scores = [side[:, 1] if name == "binary" else side.max(axis=1) for side in (current, shadow)]
    assert found.difference.mean == pytest.approx((scores[1] - scores[0]).mean())
    expected = np.quantile(np.abs(scores[1] - scores[0]), [0.05, 0.5, 0.95, 0.99])
    assert found.difference.quantiles == pytest.approx(tuple(expected))


def test_classes_flip_where_they_differ(answered: Callable[[str], Answered]) -> None:
    found, current, shadow = answered("classes")
    assert 0 < found.flips == (current != shadow).sum() < ROWS


def test_a_regression_has_differences(answered: Callable[[str], Answered]) -> None:
    found, current, shadow = answered("regression")
    apart = shadow - current
    assert found.flips == ROWS
    assert found.mean_absolute_difference == pytest.approx(np.abs(apart).mean())
    assert found.difference.deviation == pytest.approx(apart.std())
    assert found.outputs == ()


@pytest.mark.parametrize(("name", "outputs"), [("multi-output", ["0", "1"]), ("multi-label", ["0", "1"])])
def test_several_outputs_are_compared_each(answered: Callable[[str], Answered], name: str, outputs: list[str]) -> None:
    found, current, shadow = answered(name)
    assert [each.output for each in found.outputs] == outputs
    assert [each.mean_absolute for each in found.outputs] == pytest.approx(np.abs(shadow - current).mean(axis=0))
    assert found.flips == (current != shadow).any(axis=1).sum()


def test_named_outputs_are_compared_under_their_names(answered: Callable[[str], Answered]) -> None:
    found, current, shadow = (answered("named").comparison, *answered("multi-output")[1:])
    apart = np.abs(shadow - current).mean(axis=0)
    assert {each.output: each.mean_absolute for each in found.outputs} == {
        "delay": pytest.approx(apart[0]),
        "arrival": pytest.approx(apart[1]),
    }


@pytest.mark.parametrize("name", KINDS)
def test_slices_are_the_inputs_as_they_were_sent(answered: Callable[[str], Answered], name: str) -> None:
    hour, x = answered(name).comparison.slices
    counts = rows(2)["hour"].value_counts()
    assert {part.value: part.pairs for part in hour.slices} == {str(value): count for value, count in counts.items()}
    assert sum(part.flips for part in hour.slices) == answered(name).comparison.flips
    assert (x.slices, x.values, x.others) == ((), ROWS, ROWS)
