"""How processes end: real ones, that crash, are killed or hold too much, and what is said of each."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from airflow_provider_mlpipex.serving import endings, processes
from airflow_provider_mlpipex.serving.endings import Ending, ending_of, kernel_oom_kills
from airflow_provider_mlpipex.serving.plane.memory import MemoryWatch, resident_bytes, usual_limit
from airflow_provider_mlpipex.serving.plane_log import PROCESS_OUT_OF_MEMORY
from airflow_provider_mlpipex.serving.processes import MAX_MEMORY_BACKOFF_S, ProcessKeeper
from tests.support.polling import until

HELD = 300_000_000
#: Holds that much, touched, and goes on.
GREEDY = f"import time; held = bytearray({HELD}); held[::4096] = b'x' * len(held[::4096]); time.sleep(300)"


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[ProcessKeeper]:
    keeper = ProcessKeeper(tmp_path / "children", plane_id="plane")
    try:
        yield keeper
    finally:
        keeper.stop_all(grace_s=1)


def start(keeper: ProcessKeeper, name: str, code: str, tmp_path: Path) -> int:
    command = [sys.executable, "-I", "-S", "-c", code]
    return keeper.start(name, command, environment={"PATH": os.environ["PATH"]}, log=tmp_path / f"{name}.log").pid


def ended(keeper: ProcessKeeper, name: str) -> str:
    until(lambda: not keeper.alive(name), within_s=60, what=f"{name} has ended")
    keeper.children[name].next_start = 0.0
    keeper.revive()
    return keeper.ending(name)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit(3)", "ended by itself, exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed (SIGSEGV)"),
        ("import os; os.abort()", "crashed (SIGABRT)"),
    ],
)
def test_what_ended_by_itself_says_how(keeper: ProcessKeeper, tmp_path: Path, code: str, said: str) -> None:
    start(keeper, "server", code, tmp_path)
    assert ended(keeper, "server") == said


def test_one_that_runs_has_no_ending(keeper: ProcessKeeper, tmp_path: Path) -> None:
    start(keeper, "server", "import time; time.sleep(300)", tmp_path)
    assert keeper.revive() == []
    assert keeper.ending("server") == keeper.ending("nobody") == ""


def test_one_that_holds_too_much_is_ended_by_name_and_the_others_are_not(keeper: ProcessKeeper, tmp_path: Path) -> None:
    greedy = start(keeper, "greedy", GREEDY, tmp_path)
    modest = start(keeper, "modest", "import time; time.sleep(300)", tmp_path)
    envoy = start(keeper, "envoy", GREEDY, tmp_path)
    for pid in (greedy, envoy):
        until(lambda pid=pid: resident_bytes(pid) > HELD, within_s=60, what="it holds what it wants")
    watch = MemoryWatch(keeper, limit_bytes=HELD // 2, but=["envoy"], say=lambda *_: None)
    with capture_logs() as lines:
        watch.work()
    said = ended(keeper, "greedy")
    assert said.startswith("out of memory: 3") and said.endswith("MB, limit 150 MB")
    assert (keeper.children["modest"].pid, keeper.children["envoy"].pid) == (modest, envoy)
    assert [(line["event"], line["process"], line["why"]) for line in lines] == [
        (PROCESS_OUT_OF_MEMORY, "greedy", said)
    ]


def test_without_a_limit_nobody_is_ended(keeper: ProcessKeeper, tmp_path: Path) -> None:
    pid = start(keeper, "server", "import time; time.sleep(300)", tmp_path)
    MemoryWatch(keeper, limit_bytes=0, but=[], say=lambda *_: None).work()
    assert keeper.alive("server") and keeper.children["server"].pid == pid


def test_who_ends_for_memory_again_and_again_is_started_ever_more_rarely(
    keeper: ProcessKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(processes.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(keeper, "_process", lambda _: None)
    monkeypatch.setattr(keeper, "_spawn", lambda _: None)
    monkeypatch.setattr(keeper, "_how_it_ended", lambda _: Ending("out of memory", for_memory=True))
    start(keeper, "server", "", tmp_path)
    starts = []
    while now[0] < 1000.0 + 3600.0:
        if keeper.revive():
            starts.append(now[0])
        now[0] += 1.0
    pauses = [later - before for before, later in zip(starts, starts[1:], strict=False)]
    assert starts[0] == 1000.0, "users wait for the first one"
    assert pauses == sorted(pauses) and pauses[-1] == MAX_MEMORY_BACKOFF_S
    assert len(starts) < 20, "in an hour"
    now[0] += processes.MEMORY_FORGOTTEN_S
    keeper.revive()
    assert keeper.children["server"].next_start - now[0] == processes.FIRST_MEMORY_BACKOFF_S


@pytest.mark.parametrize(
    ("code", "by_kernel", "said", "for_memory"),
    [
        (-signal.SIGKILL, True, "out of memory: ended by the kernel", True),
        (None, True, "out of memory: ended by the kernel", True),
        (-signal.SIGKILL, False, "killed (SIGKILL), not for memory", False),
        (-signal.SIGKILL, None, "killed (SIGKILL), whether for memory, the kernel does not say", False),
        (-signal.SIGSEGV, True, "crashed (SIGSEGV)", False),
        (1, True, "ended by itself, exit code 1", False),
        (None, False, "ended while no supervisor was there to see how", False),
        (-99, False, "crashed (signal 99)", False),
    ],
)
def test_memory_is_told_apart(code: int | None, by_kernel: bool | None, said: str, for_memory: bool) -> None:
    assert ending_of(code, ended_by_kernel=by_kernel) == Ending(said, for_memory=for_memory)


def test_the_kernels_count_is_read_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup").write_text("1:name=systemd:/x\n0::/plane.slice/plane\n")
    folder = tmp_path / "plane.slice" / "plane"
    folder.mkdir(parents=True)
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n")
    monkeypatch.setattr(endings, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(endings, "_EVENTS_ROOT", tmp_path)
    assert kernel_oom_kills() == 2
    (folder / "memory.events").unlink()
    assert kernel_oom_kills() is None


def test_the_usual_limit_is_half_of_what_there_is() -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < usual_limit() <= total // 2
