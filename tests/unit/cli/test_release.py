"""``mlpipex init`` and ``release``, and what a person does to a release that is under way: a real SQLite ledger, real
snapshots and real training, with registry and plane in memory."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.cli import release as release_cli
from airflow_provider_mlpipex.cli import terminal
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import ReviewDecided, RolloutOpened, RolloutRejected, RolloutResumed
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.testing.plane import MemoryPlane
from airflow_provider_mlpipex.testing.registry import MemoryRegistry
from airflow_provider_mlpipex.testing.runtimes import MemoryRuntimes
from tests.support.stages import stage_ends
from tests.support.terminal import answer, refusal, run, terminal_platform

ENDPOINT = EndpointRef.parse("production/my-model")
COMMIT = ["--code-version", "0123456789abcdef", "--approve", "looked at it"]
UNREVIEWED = COMMIT[:2]


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """What the commands work with; waiting costs nothing, and 20 requests a second are served meanwhile."""
    built = terminal_platform(tmp_path, monkeypatch)
    ported = replace(built, registry=MemoryRegistry(), runtimes=MemoryRuntimes())
    monkeypatch.setattr(terminal, "build_platform", lambda settings, origin: ported.acting_as(origin))
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("my_model", None)
    return ported


@pytest.fixture
def manifest(tmp_path: Path, platform: Platform) -> Path:
    """What ``mlpipex init`` writes, with a canary of moments."""
    answer("init", tmp_path / "start")
    path = tmp_path / "start" / "my-model.yaml"
    text = path.read_text(encoding="utf-8")
    for before, after in (
        ("step_duration: 10m", "step_duration: 1s"),
        ("window: 1h", "window: 1s"),
        ("error rate at most 2% over 5 minutes", "error rate at most 50% over 1 second"),
        ("expected_rate: 10/s", "expected_rate: 1000/s"),
    ):
        assert before in text
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")
    return path


def change(manifest: Path, before: str, after: str) -> None:
    text = manifest.read_text(encoding="utf-8")
    assert before in text
    manifest.write_text(text.replace(before, after), encoding="utf-8")


def serve(platform: Platform, requests: int = 2000, errors: int = 0) -> None:
    """Live requests, spread as the plan in force spreads them; errors are the candidate's."""
    assert isinstance(platform.plane, MemoryPlane)
    state = journal.load(platform, ENDPOINT)
    for release_id, weight in (state.planned.weights if state.planned else {}).items():
        own = state.rollout is not None and release_id == state.rollout.candidate.id
        platform.plane.serve(
            ENDPOINT, release_id, requests=requests * weight // 10_000, errors=errors * weight // 10_000 if own else 0
        )


def test_what_init_writes_can_be_released_as_it_stands(tmp_path: Path, platform: Platform) -> None:
    written = answer("init", tmp_path / "dags", "--name", "churn-risk")["files"]
    assert [Path(each).name for each in written] == ["churn-risk.yaml", "churn_risk.py", "release_churn_risk.py"]
    manifest = tmp_path / "dags" / "churn-risk.yaml"
    assert run("manifest", "validate", manifest).exit_code == 0
    assert run("plan", manifest).exit_code == 0
    (carried,) = answer("release", manifest, *COMMIT)
    assert (carried["endpoint"], carried["ending"]) == ("production/churn-risk", "promoted")
    assert answer("status", "production/churn-risk")[0]["current"] == carried["release"]


def test_the_dag_that_init_writes_loads_with_its_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("MLPIPEX_CODE_VERSION", COMMIT[1])  # the folder is in no repository
    answer("init", tmp_path / "dags", "--name", "churn-risk")
    bag = DagBag(dag_folder=str(tmp_path / "dags"))
    assert bag.import_errors == {}
    tasks = set(bag.dags["release_churn_risk"].task_ids)
    assert {"model.train", "production.gates", "production.canary_10_watch", "production.promote"} <= tasks


def test_init_replaces_nothing(tmp_path: Path) -> None:
    answer("init", tmp_path)
    (tmp_path / "my_model.py").write_text("# mine", encoding="utf-8")
    assert refusal("init", tmp_path)["value"] == "is there already"
    assert (tmp_path / "my_model.py").read_text(encoding="utf-8") == "# mine"


def test_a_release_shows_every_stage_as_it_goes(platform: Platform, manifest: Path) -> None:
    result = run("release", manifest, *COMMIT)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stderr.splitlines()]
    stages = [" ".join(words[1:3]) for words in lines if words[1:2] in (["model"], ["production"])]
    assert stages[:4] == ["model snapshot", "model train", "model register", "production gates"]
    assert stages[-1] == "production watch"
    assert result.stdout.startswith("production/my-model: 1.0.0-rt1.0.0-")
    assert result.stdout.endswith(" promoted\n")


class Live(release_cli.Terminal):
    """A terminal that waits no time, while ``served`` requests come; ``during`` is called at every wait."""

    served = 2000
    during: Any = staticmethod(lambda: None)

    def wait(self, seconds: float) -> None:
        serve(self._platform, requests=self.served)
        type(self).during()


@pytest.fixture
def second(platform: Platform, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of which one release is current, and another training configuration."""
    monkeypatch.setattr(release_cli, "Terminal", Live)
    answer("release", manifest, *COMMIT)
    change(manifest, "max_iter: 200", "max_iter: 100")
    return manifest


def test_a_second_release_goes_through_its_canary(platform: Platform, second: Path) -> None:
    result = run("release", second, *COMMIT)
    assert result.exit_code == 0, result.output
    for share in ("10%", "50%", "100%"):
        assert f"canary {share}" in result.stderr
    history = answer("history", ENDPOINT)
    assert [tenure["model"] for tenure in history] == ["my-model 1.0.0", "my-model 1.1.0"]


def test_the_record_of_its_stages_is_that_of_a_dag_run(
    platform: Platform, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle is the Dag that ``release_tasks`` makes of the same manifest: its tasks, in order."""
    from airflow.sdk import DAG

    from airflow_provider_mlpipex import release_tasks, training_tasks

    monkeypatch.setenv("MLPIPEX_CODE_VERSION", COMMIT[1])
    with DAG("release", schedule=None) as dag:
        release_tasks(str(second), registered=training_tasks(str(second)))
    tasks: list[Any] = dag.topological_sort()
    before = len(stage_ends(platform.ledger, ENDPOINT))
    answer("release", second, *COMMIT)
    ended = stage_ends(platform.ledger, ENDPOINT)[before:]
    assert [end.stage for end in ended] == [task.stage_name for task in tasks]
    assert {end.outcome for end in ended[:-1]} == {"succeeded"} and ended[-1].outcome == "skipped"
    facts = {end.stage: end.facts for end in ended}
    assert facts["snapshot"]["rows"] > 0 and facts["train"]["metrics"] and facts["register"]["version"] == "1.1.0"
    # A second's watch of a busy machine may end before anybody has asked: then nothing speaks against the release.
    assert facts["gate"]["verdict"] == "pass" and facts["watch"]["verdict"] in ("pass", "inconclusive")
    assert (facts["review"]["approved"], facts["review"]["note"]) == (True, "looked at it")
    assert facts["promote"]["current"].startswith("1.1.0-") and facts["promote"]["previous"].startswith("1.0.0-")


def test_a_stage_that_fails_is_recorded_with_its_error(platform: Platform, second: Path) -> None:
    run("release", second, *UNREVIEWED)
    review, teardown = stage_ends(platform.ledger, ENDPOINT)[-2:]
    assert (review.stage, review.outcome) == ("review", "failed")
    assert review.error is not None and review.error["error"] == "ReviewRejected"
    assert teardown.stage == "rollback"


def test_a_reviewer_at_the_terminal_is_told_what_one_in_airflow_is(
    platform: Platform, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the model comes from, how it compares, where it would go, and what became of it before."""
    monkeypatch.setattr(MemoryRegistry, "page", lambda _, run_id: f"https://mlflow.example/#/runs/{run_id}")
    current = answer("status", ENDPOINT)[0]["current"]
    same_rows = ("--as-of", "2026-01-01")
    assert run("release", second, *UNREVIEWED, *same_rows).exit_code == 1
    shown = run("release", second, *COMMIT, *same_rows).stderr
    said = [line.split(maxsplit=3)[-1] for line in shown.splitlines()]
    rollout = next(e.event for e in platform.ledger.read(ENDPOINT, types=("rollout-opened",), newest_first=True))
    assert isinstance(rollout, RolloutOpened)
    candidate, before = rollout.release, journal.load(platform, ENDPOINT).previous
    assert before is not None and before.id == current
    assert f"{candidate.id} would replace {current}" in said
    assert "on its way: canary 10% → canary 50% → canary 100% → all requests → watched for 1s" in said
    assert f"commit {COMMIT[1]}, training run https://mlflow.example/#/runs/{candidate.model.run_id}" in said
    assert "owner my-team, my-team@example.com" in said
    (earlier,) = [line for line in said if line.startswith("ATTENTION")]
    assert "this very release was rejected on" in earlier and "nobody could be asked" in earlier
    for name, value in candidate.model.metrics.items():
        assert f"{name}: {before.model.metrics[name]:.6g} -> {value:.6g}" in said


def test_a_reviewer_of_a_first_release_is_told_that_nothing_tries_it(platform: Platform, manifest: Path) -> None:
    result = run("release", manifest, *COMMIT)
    assert "would replace nothing: it is the first here" in result.stderr
    way = "on its way: all requests at once, and not watched: the first release here has none to return to"
    assert way in result.stderr


def test_who_interrupts_a_release_ends_its_trial(
    platform: Platform, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Live, "during", staticmethod(interrupt))
    interrupted = run("release", second, *COMMIT)
    assert interrupted.exit_code != 0
    assert "NOBODY WAS NOTIFIED" in interrupted.stderr and "mlpipex alerts set on-call" in interrupted.stderr
    state = journal.load(platform, ENDPOINT)
    assert state.rollout is None and state.last_result is not None
    assert (state.last_result.ending, state.planned and len(state.planned.weights)) == ("rolled-back", 1)


def test_pause_skip_and_abort(platform: Platform, second: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says: list[str] = []

    def decide() -> None:
        """Hold the first step and skip it; then, at the next one, end the rollout."""
        rollout = journal.load(platform, ENDPOINT).rollout
        assert rollout is not None
        if rollout.step == 0 and rollout.hold is None:
            says.append(run("pause", ENDPOINT, "--note", "let me look").stdout)
            says.append(run("status", ENDPOINT).stdout)
            says.append(run("resume", ENDPOINT).stdout)
            says.append(run("skip", ENDPOINT, "--note", "seen by hand").stdout)
        else:
            says.append(run("abort", ENDPOINT, "--note", "not today").stdout)

    monkeypatch.setattr(Live, "served", 0)  # so that no gate can decide
    monkeypatch.setattr(Live, "during", staticmethod(decide))
    result = run("release", second, *COMMIT)
    assert result.exit_code == 1
    assert "not today" in result.stderr
    assert "is on hold; resume it with mlpipex resume" in says[0]
    assert "ON HOLD" in says[1] and "let me look" in says[1]
    assert "has passed its canary on the word of" in says[3]
    assert "is ended; NOBODY WAS NOTIFIED" in says[4] and "mlpipex alerts set on-call" in says[4]
    (resumed, accepted) = [e.event for e in platform.ledger.read(ENDPOINT) if isinstance(e.event, RolloutResumed)]
    assert (resumed.accepted, accepted.accepted, accepted.note) == (False, True, "seen by hand")
    assert accepted.reviewer
    assert journal.load(platform, ENDPOINT).rollout is None


def test_an_older_release_is_promoted_again_through_its_stages(platform: Platform, second: Path) -> None:
    first = answer("history", ENDPOINT)[0]["release"]
    answer("release", second, *COMMIT)
    (carried,) = answer("promote", ENDPOINT, "--release", first, "--approve", "it was better")
    assert carried == {"endpoint": str(ENDPOINT), "release": first, "ending": "promoted"}
    assert answer("status", ENDPOINT)[0]["current"] == first
    assert refusal("promote", ENDPOINT, "--release", "9.9.9-rt1.0.0-00000000")["error"] == "ModelNotFound"


def test_nobody_to_ask_is_a_rejection_and_a_note_is_an_approval(platform: Platform, second: Path) -> None:
    refused = run("release", second, *UNREVIEWED)
    assert refused.exit_code == 1 and "--approve NOTE" in refused.stderr
    assert [e.event for e in platform.ledger.read(ENDPOINT) if isinstance(e.event, RolloutRejected)]
    answer("release", second, *COMMIT)
    decided = [e.event for e in platform.ledger.read(ENDPOINT) if isinstance(e.event, ReviewDecided)][-1]
    assert (decided.approved, decided.note, bool(decided.reviewer)) == (True, "looked at it", True)


@pytest.mark.parametrize("command", [["pause", "--note", "x"], ["resume"], ["skip", "--note", "x"], ["abort"]])
def test_where_nothing_is_under_way_it_says_so(platform: Platform, manifest: Path, command: list[str]) -> None:
    answer("release", manifest, *COMMIT)
    assert refusal(*command, ENDPOINT)["value"] == "none is under way"


def test_unknown_environments_are_refused_before_anything_is_trained(platform: Platform, manifest: Path) -> None:
    refused = refusal("release", manifest, "--environment", "moon", *COMMIT)
    assert (refused["value"], refused["limit"]) == ("moon", "one of production")
