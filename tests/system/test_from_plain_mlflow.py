"""docs/how-to/from-plain-mlflow.md, followed word by word: every file is written, every command run, in order.

Only addresses are replaced, because ports must be free. The oracle is MLflow's own answer for the same row.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from airflow_provider_mlpipex.adapters.mlflow.registry import MlflowRegistry
from airflow_provider_mlpipex.adapters.sql.ledger import SqlLedger
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.manifest_files import load_manifest_file
from tests.support.environment import clean_environment
from tests.support.mlflow_server import free_port
from tests.support.polling import until
from tests.support.stages import stage_ends

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "from-plain-mlflow.md"
_FENCED = re.compile(r"^```(\w+)(?: (file|terminal)=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: The longest of them trains, or waits for a canary; the machine may be busy.
COMMAND_LIMIT_S = 1200


class Block(NamedTuple):
    """A fenced block: a file to write, commands for another terminal, or commands for this one."""

    language: str
    kind: str
    name: str
    text: str


class Reader:
    """Somebody who follows the page in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mlflow_port, self.ingress_port, self.control_port = free_port(), free_port(), free_port()
        self.answers: list[tuple[str, str]] = []
        self._exports: list[str] = []
        self._terminals: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = clean_environment(
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            PYTHONPATH=str(ROOT),
            AIRFLOW_HOME=str(folder / "airflow"),
            MLPIPEX_INGRESS_PORT=str(self.ingress_port),
            MLPIPEX_CONTROL_PORT=str(self.control_port),
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
            MLFLOW_DISABLE_TELEMETRY="true",
            # Threads of one library that wait for each other take minutes where others work as well.
            OMP_NUM_THREADS="1",
        )

    def follow(self, block: Block) -> None:
        text = self._with_free_ports(block.text)
        if block.kind == "file":
            (self.folder / block.name).write_text(block.text, encoding="utf-8")
        elif block.kind == "terminal":
            self._open_terminal(block.name, text)
        elif all(line.startswith("export ") for line in text.splitlines()):
            self._exports.append(text)
        else:
            self.answers.append((block.text, self._run(text)))

    def answer(self, command: str, *, last: bool = True) -> str:
        """What the commands printed that contain ``command``."""
        return [printed for text, printed in self.answers if command in text][-1 if last else 0]

    def ledger(self) -> SqlLedger:
        return SqlLedger(f"sqlite:///{self.folder}/ledger.db")

    @contextmanager
    def beside(self, text: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run ``text`` in another terminal, with what was exported in this one; its log is ``release.log``."""
        self._open_terminal("release", "\n".join([*self._exports, text]))
        yield self._terminals["release"]

    def status(self) -> dict[str, Any]:
        """Of the endpoint of the page."""
        (status,) = json.loads(self._run("mlpipex status production/fraud --json"))
        return dict(status)

    def rollout(self) -> dict[str, Any]:
        """The one under way, if there is one."""
        return dict(self.status()["rollout"] or {})

    def weights(self) -> dict[str, int]:
        """Of each release that the plane gives requests to, in hundredths of a percent."""
        return {release: weight for release, weight in self.status()["plane"]["weights"].items() if weight}

    def close(self) -> None:
        with suppress(Exception):
            self._run("mlpipex serve stop --state-dir plane")
        for terminal in self._terminals.values():
            with suppress(ProcessLookupError):
                os.killpg(terminal.pid, signal.SIGTERM)
            try:
                terminal.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(terminal.pid, signal.SIGKILL)
                terminal.wait()

    def _with_free_ports(self, text: str) -> str:
        ports = {5000: self.mlflow_port, 8088: self.ingress_port, 8089: self.control_port}
        for written, free in ports.items():
            text = re.sub(rf"(127\.0\.0\.1:|--port ){written}\b", rf"\g<1>{free}", text)
        return text

    def _run(self, text: str) -> str:
        script = "\n".join(["set -euo pipefail", *self._exports, text])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{self._logs()}"
        return done.stdout

    def _open_terminal(self, name: str, text: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self._terminals[name] = subprocess.Popen(
                ["bash", "-c", text],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if name in ("mlflow", "plane"):
            port = self.mlflow_port if name == "mlflow" else self.control_port
            until(lambda: self._listens(name, port), within_s=180.0, what=f"{name} answers")

    def _listens(self, name: str, port: int) -> bool:
        assert self._terminals[name].poll() is None, self._logs()
        if name == "plane" and not (self.folder / "plane" / "token").exists():
            return False
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code < 500
        except httpx.HTTPError:
            return False

    def _logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-1500:] for path in self.folder.glob("*.log"))


def blocks() -> list[Block]:
    return [Block(*(part or "" for part in found)) for found in _FENCED.findall(PAGE.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """At the end of the page."""
    reader = Reader(tmp_path_factory.mktemp("reader"))
    try:
        for block in blocks():
            if block.name == "fraud.yaml":
                # What init wrote, before the page replaces it.
                (reader.folder / "fraud.yaml").rename(reader.folder / "written-by-init.yaml")
            reader.follow(block)
        yield reader
    finally:
        reader.close()


pytestmark = [pytest.mark.system, pytest.mark.timeout(3600)]


def test_the_manifest_that_init_writes_has_at_most_fifteen_lines(reader: Reader) -> None:
    written = reader.folder / "written-by-init.yaml"
    assert len(written.read_text(encoding="utf-8").splitlines()) <= 15
    assert load_manifest_file(written).model.adopt == "models:/fraud@champion"


def test_the_first_version_was_released_and_answered_as_mlflow_itself(reader: Reader) -> None:
    assert "serves     1.0.0-rt1.0.0-" in reader.answer("mlpipex release", last=False)
    import mlflow
    import pandas as pd

    with MlflowRegistry(f"http://127.0.0.1:{reader.mlflow_port}").team_code():
        own = mlflow.pyfunc.load_model("models:/fraud/1").predict(pd.DataFrame([{"amount": 400.0, "country": 3}]))
    assert json.loads(reader.answer("curl"))["predictions"] == own.tolist()


def test_what_is_not_known_is_said(reader: Reader) -> None:
    told = reader.answer("mlpipex adopt")
    assert "fraud-adopted 1.0.0: adopted from models:/fraud/1" in told
    assert "not known  training-data, code-version" in told


def test_training_again_changed_nothing_that_serves(reader: Reader) -> None:
    told = reader.answer("python train.py 60")
    assert "fraud version 2 is the champion" in told
    assert "serves     1.0.0-rt1.0.0-" in told


def test_the_second_version_went_through_its_canary_and_back(reader: Reader) -> None:
    told = reader.answer("mlpipex history")
    assert "2.0.0-rt1.0.0-" in told
    assert "promoted" in told
    assert "serves     1.0.0-rt1.0.0-" in reader.answer("mlpipex rollback")


def test_the_dag_of_the_page_adopts_and_releases(reader: Reader) -> None:
    listed = reader._run('python -c "import release_fraud; print(list(release_fraud.release_fraud().task_dict))"')
    assert "'model.register'" in listed
    assert "'production.canary_50'" in listed


ENDPOINT = "production/fraud"


def test_the_ledger_holds_a_record_of_every_stage(reader: Reader) -> None:
    """As after a Dag run: the second release, judged, reviewed, two canary steps with their watches, promoted."""
    ended = [each.stage for each in stage_ends(reader.ledger(), EndpointRef.parse(ENDPOINT))]
    second = ended[len(ended) - ended[::-1].index("register") - 1 :]
    assert second == ["register", "gate", "review", *["canary"] * 4, "promote", "watch", "rollback"]


def test_what_is_under_way_is_paused_resumed_skipped_and_ended_from_a_terminal(reader: Reader) -> None:
    """On the real plane, while another terminal carries the release."""
    page = (reader.folder / "fraud.yaml").read_text(encoding="utf-8")
    long = page.replace("step_duration: 20s", "step_duration: 30m")
    (reader.folder / "fraud.yaml").write_text(long, encoding="utf-8")
    reader._run("python train.py 40")
    with reader.beside('mlpipex release fraud.yaml --approve "a third one"') as release:
        until(lambda: reader.rollout().get("phase") == "canary", within_s=900, what="the canary begins")
        assert "is on hold" in reader._run(f"mlpipex pause {ENDPOINT} --note 'let me look'")
        assert reader.rollout()["hold"] is not None
        reader._run(f"mlpipex resume {ENDPOINT}")
        assert (reader.rollout()["hold"], reader.rollout()["step"]) == (None, 0)
        assert "has passed its canary" in reader._run(f"mlpipex skip {ENDPOINT} --note 'seen by hand'")
        until(lambda: reader.rollout().get("step") == 1, within_s=900, what="the next step")
        assert set(reader.weights().values()) == {9_500, 500}, "all but the arm that it is compared with"
        assert "is ended" in reader._run(f"mlpipex abort {ENDPOINT} --note 'not today'")
        assert release.wait(timeout=COMMAND_LIMIT_S) == 1
    assert "not today" in (reader.folder / "release.log").read_text(encoding="utf-8")
    (serving,) = reader.weights()
    assert serving.startswith("1.0.0-") and reader.rollout() == {}


def test_an_older_release_is_promoted_again_from_a_terminal(reader: Reader) -> None:
    """What was rolled back on the page is rolled out again under the manifest that it had."""
    history = json.loads(reader._run(f"mlpipex history {ENDPOINT} --json"))
    older = next(tenure["release"] for tenure in history if tenure["release"].startswith("2.0.0-"))
    answer = reader._run(f"mlpipex promote {ENDPOINT} --release {older} --approve 'it was good after all'")
    assert answer.strip() == f"{ENDPOINT}: {older} promoted"
    assert list(reader.weights()) == [older]
