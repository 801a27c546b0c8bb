"""Steps 11 and 12 of the demo: what must have been seen, and what they would not let pass."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_mlpipex.demo import flight_features, keyed
from airflow_provider_mlpipex.demo.keyed import ENDPOINT, KeyedStory
from airflow_provider_mlpipex.demo.progress import Progress
from airflow_provider_mlpipex.demo.report import Step
from airflow_provider_mlpipex.demo.scene import Run, Scene
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.rollout.events import GatesJudged
from airflow_provider_mlpipex.manifest_files import load_manifest_file
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.testing.platform import memory_platform


class Staged(Scene):
    """A scene whose Dag judges the parity gate with ``reason`` and ends as ``run``; clients are answered ``status``."""

    def __init__(self, *, run: Run, reason: str, equality: float, status: int) -> None:
        super().__init__(
            airflow=None,  # type: ignore[arg-type]
            platform=memory_platform(),
            drills=None,  # type: ignore[arg-type]
            rollbacks=None,  # type: ignore[arg-type]
            clients=httpx.Client(
                base_url="http://plane", transport=httpx.MockTransport(lambda _: httpx.Response(status))
            ),
            traffic=None,  # type: ignore[arg-type]
            alerts=None,  # type: ignore[arg-type]
            environment={},
            say=lambda _: None,
            logs=Path("logs"),
            progress=Progress(began=time.monotonic()),
        )
        self.run, self.reason, self.equality = run, reason, equality

    def follow(self, dag_id: str, *, conf: dict[str, Any], **_: Any) -> Run:
        assert dag_id == keyed.DAG_ID
        parity = load_manifest_file(Path(keyed.__file__).parent / "flight-delay-keyed.yaml").features.parity
        assert parity is not None
        now = self.platform.clock.now()
        measured = Evidence(source="parity", metric="equality", value=self.equality, samples=300, since=now, until=now)
        result = judge(parity.gate, measured, now=now).model_copy(update={"reason": self.reason})
        judged = GatesJudged(rollout_id="run-1", stage="gate", verdict=result.verdict, results=(result,))
        journal.note(self.platform, ENDPOINT, judged)
        return self.run


def stopped(**tasks: str) -> Run:
    return Run(run_id="run-1", state="failed", tasks={keyed.GATES: "failed", **tasks})


SKEW = "temp differs in 300 of 300 rows (flight_id=…), humid differs in 299 of 300 rows (flight_id=…)"


def step_11(monkeypatch: pytest.MonkeyPatch, **staged: Any) -> Step:
    loaded: list[Any] = []
    monkeypatch.setattr(flight_features, "bring_online", lambda *_, planted_skew: loaded.append(planted_skew))
    scene = Staged(**{"run": stopped(), "reason": SKEW, "equality": 0.0, "status": 404, **staged})
    KeyedStory(scene, Path("features")).planted_skew()
    assert loaded == ["time-zone"]
    return scene.report.steps[-1]


def test_a_skew_that_is_refused_by_name_before_anything_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    step = step_11(monkeypatch)
    assert step.ok, step
    assert step.facts["features_named"] == ["temp", "humid"]


@pytest.mark.parametrize(
    "staged",
    [
        {"run": Run(run_id="run-1", state="success", tasks={keyed.GATES: "success"})},
        {"run": stopped(**{keyed.GATES: "upstream_failed"})},
        {"equality": 1.0},
        {"reason": "observed 0% from 300 samples"},
        {"reason": f"{SKEW}, distance differs in 300 of 300 rows"},
        {"status": 200},
    ],
    ids=str,
)
def test_anything_else_is_a_failed_step(monkeypatch: pytest.MonkeyPatch, staged: dict[str, Any]) -> None:
    assert not step_11(monkeypatch, **staged).ok


def test_a_release_that_is_not_there_answers_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight_features, "bring_online", lambda *_, planted_skew: None)
    run = Run(run_id="run-1", state="success", tasks={})
    scene = Staged(run=run, reason="", equality=1.0, status=200)
    KeyedStory(scene, Path("features")).features_from_the_store()
    assert not scene.report.steps[-1].ok, "nothing is current, so nothing can have been looked up"
