"""Model servers as the fleet sees them, without starting any: those that die, stay silent, or say why they gave up.

With real ones: ``tests/contract/test_serving_plane.py`` and ``tests/system/test_plane_faults.py``.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from airflow_provider_mlpipex.domain.errors import (
    ArtifactMismatch,
    MlpipexError,
    RegistryUnavailable,
    ReleaseNotReady,
    RuntimeMismatch,
    SignatureMismatch,
)
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.serving.artifacts import directory_digest
from airflow_provider_mlpipex.serving.model_server.spec import (
    FAILURE_FILE,
    ModelServerSpec,
    read_failure,
    write_failure,
)
from airflow_provider_mlpipex.serving.plane.fleet import Fleet
from airflow_provider_mlpipex.serving.processes import Child, ProcessKeeper
from airflow_provider_mlpipex.serving.state_dir import Places
from tests.support.plane import installed_runtime, release_of
from tests.support.polling import until

FRAUD = EndpointRef.parse("production/fraud-scorer")


class FakeKeeper(ProcessKeeper):
    """Writes down what it should start."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, plane_id="plane")
        self.living: set[str] = set()

    def start(self, name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> Child:
        self.children[name] = Child(name=name, command=list(command), environment=dict(environment), log=str(log))
        self.living.add(name)
        return self.children[name]

    def alive(self, name: str) -> bool:
        return name in self.living


class FleetBench:
    def __init__(self, folder: Path) -> None:
        self.places = Places(folder / "plane")
        self.keeper = FakeKeeper(self.places.children)
        self.fleet = Fleet(self.places, self.keeper, tracking_uri="http://127.0.0.1:1")
        self.model = folder / "model"
        self.model.mkdir()
        (self.model / "MLmodel").write_text("flavors: {}\n")
        self.release = release_of(self.model, "1.0.0")
        self.name = f"production--fraud-scorer--{self.release.slug}"

    @property
    def server(self) -> Path:
        return self.places.server(FRAUD, self.release.id)

    def wait(self, release: Release | None = None, *, timeout_s: float = 5, first: bool = True) -> None:
        self.fleet.wait_until_ready(
            FRAUD, release or self.release, timeout_s=timeout_s, first=first, stopping=threading.Event()
        )


@pytest.fixture
def bench(tmp_path: Path) -> FleetBench:
    return FleetBench(tmp_path)


def test_a_launch_hands_over_all_that_a_server_needs_and_no_secret(
    bench: FleetBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLPIPEX_PLANE_TOKEN", "secret")
    bench.fleet.launch(FRAUD, bench.release)
    child = bench.keeper.children[bench.name]
    assert child.command[1:3] == ["-m", "airflow_provider_mlpipex.serving.model_server"]
    spec = ModelServerSpec.model_validate_json(Path(child.command[3]).read_text())
    assert (spec.endpoint, spec.release) == (FRAUD, bench.release)
    assert directory_digest(Path(spec.model_dir)) == bench.release.model.artifact_digest
    assert Path(spec.model_dir).is_relative_to(bench.places.root), "the cached copy, not the source"
    assert "secret" not in child.environment.values()


def test_who_runs_is_not_launched_again(bench: FleetBench) -> None:
    bench.fleet.launch(FRAUD, bench.release)
    (bench.server / "spec.json").unlink()
    bench.fleet.launch(FRAUD, bench.release)
    assert not (bench.server / "spec.json").exists()


def test_a_new_try_forgets_why_the_last_one_failed_and_how_it_was_broken(bench: FleetBench) -> None:
    bench.fleet.launch(FRAUD, bench.release)
    write_failure(bench.server / "spec.json", SignatureMismatch("release"))
    bench.fleet.set_fault(FRAUD, bench.release.id, {"error_rate": 1.0})
    bench.keeper.living.clear()
    bench.fleet.launch(FRAUD, bench.release)
    assert read_failure(bench.server / "spec.json") is None
    assert not (bench.server / "fault.json").exists()


def spoilt(bench: FleetBench, kind: type[MlpipexError]) -> Release:
    if kind is ArtifactMismatch:
        return release_of(bench.model, "1.0.1", digest="0" * 64)
    if kind is RuntimeMismatch:
        return release_of(bench.model, "1.0.1", runtime=installed_runtime().model_copy(update={"digest": "0" * 64}))
    return release_of(bench.model.with_name("gone"), "1.0.1", digest="0" * 64)


@pytest.mark.parametrize("kind", [ArtifactMismatch, RuntimeMismatch, RegistryUnavailable])
def test_what_cannot_be_launched_starts_nothing_and_its_status_says_why(
    bench: FleetBench, kind: type[MlpipexError]
) -> None:
    release = spoilt(bench, kind)
    with pytest.raises(kind) as refused:
        bench.fleet.launch(FRAUD, release)
    assert bench.keeper.children == {}
    status = bench.fleet.status(FRAUD, release.id)
    assert (status.state, status.detail) == ("failed", str(refused.value))


def test_a_server_that_says_why_it_gave_up_is_quoted_as_what_it_raised(bench: FleetBench) -> None:
    bench.fleet.launch(FRAUD, bench.release)
    write_failure(bench.server / "spec.json", SignatureMismatch("golden rows", value=3, limit="4", remedy="retrain"))
    with pytest.raises(SignatureMismatch, match=r"golden rows.*3.*4.*retrain"):
        bench.wait()
    bench.keeper.living.clear()
    assert "golden rows" in bench.fleet.status(FRAUD, bench.release.id).detail


def test_a_server_that_died_without_a_word_is_given_up_with_its_last_lines(bench: FleetBench) -> None:
    bench.fleet.launch(FRAUD, bench.release)
    (bench.server / "server.log").write_text("loading\nMemoryError: 12 GiB\n")
    bench.keeper.living.clear()
    with pytest.raises(ReleaseNotReady, match=r"died while starting.*MemoryError: 12 GiB"):
        bench.wait()


def test_a_server_that_was_revived_before_anybody_looked_has_died_all_the_same(bench: FleetBench) -> None:
    bench.fleet.launch(FRAUD, bench.release)
    bench.keeper.children[bench.name].restarts = 1
    with pytest.raises(ReleaseNotReady, match="died while starting"):
        bench.wait()


def test_a_server_that_was_ready_before_may_die_on_its_way_back(bench: FleetBench) -> None:
    bench.fleet.launch(FRAUD, bench.release)
    bench.keeper.children[bench.name].restarts = 3
    with pytest.raises(ReleaseNotReady, match=r"not ready after 0\.2 s"):
        bench.wait(timeout_s=0.2, first=False)


def test_who_waits_gives_up_when_the_plane_stops(bench: FleetBench) -> None:
    bench.fleet.launch(FRAUD, bench.release)
    stopping, raised = threading.Event(), []

    def wait() -> None:
        try:
            bench.fleet.wait_until_ready(FRAUD, bench.release, timeout_s=300, first=True, stopping=stopping)
        except ReleaseNotReady as error:
            raised.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    stopping.set()
    until(lambda: not waiting.is_alive(), within_s=10, what="it gives up")
    assert "the plane is stopping" in str(raised[0])


def test_what_never_ran_is_stopped(bench: FleetBench) -> None:
    status = bench.fleet.status(FRAUD, bench.release.id)
    assert (status.state, status.restarts, status.detail) == ("stopped", 0, "")


def test_a_process_that_does_not_answer_is_starting(bench: FleetBench) -> None:
    bench.fleet.launch(FRAUD, bench.release)
    assert bench.fleet.status(FRAUD, bench.release.id).state == "starting"


def test_a_failure_of_a_class_that_is_not_known_here_loses_nothing(bench: FleetBench) -> None:
    # The runtime of a release may hold a newer version of the provider.
    bench.server.mkdir(parents=True)
    told = {
        "error": "TokenizerMismatch", "thing": "tokenizer", "value": "2", "limit": "1",
        "remedy": "pin it", "runbook": "tokenizer-mismatch",
    }  # fmt: skip
    (bench.server / FAILURE_FILE).write_text(json.dumps(told))
    failure = read_failure(bench.server / "spec.json")
    assert isinstance(failure, ReleaseNotReady)
    assert failure.as_dict() == told, "whoever reads it further on may know the class"
    assert str(failure) == "tokenizer | value: '2' | limit: 1 | do: pin it | runbook: tokenizer-mismatch"


def test_a_failure_is_left_whole_and_alone(bench: FleetBench) -> None:
    bench.server.mkdir(parents=True)
    write_failure(bench.server / "spec.json", ArtifactMismatch("x"))
    assert [path.name for path in bench.server.iterdir()] == [FAILURE_FILE]


def test_who_has_its_turn_and_does_not_listen_yet_takes_no_requests(bench: FleetBench) -> None:
    """Between the two lies the start of a web server: whoever had waited for a model was passed on to nobody."""
    place = bench.places.socket(FRAUD, bench.release.id)
    assert not bench.fleet.listens(FRAUD, bench.release.id)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        assert not bench.fleet.listens(FRAUD, bench.release.id)
        server.listen(1)
        assert bench.fleet.listens(FRAUD, bench.release.id)
    assert not bench.fleet.listens(FRAUD, bench.release.id), "its file is still there"
