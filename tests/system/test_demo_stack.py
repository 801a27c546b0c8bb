"""The demo's stack: busy ports are named, and Ctrl-C at any moment leaves no process behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from airflow_provider_mlpipex.demo.stack import Ports
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from tests.support.polling import until

REPOSITORY = Path(__file__).parents[2]


def test_busy_ports_are_named_with_the_way_out() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        busy = listener.getsockname()[1]
        with pytest.raises(ConfigurationInvalid) as refused:
            Ports.choose("default", {"MLPIPEX_MLFLOW_PORT": str(busy), "MLPIPEX_AIRFLOW_PORT": str(_free())})
    assert f"mlflow {busy}" in str(refused.value)
    assert "MLPIPEX_MLFLOW_PORT" in str(refused.value) and "PORTS=auto" in str(refused.value)


@pytest.mark.parametrize("text", ["http", "0", "70000", "-1"])
def test_a_port_that_is_none_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="MLPIPEX_MLFLOW_PORT"):
        Ports.choose("default", {"MLPIPEX_MLFLOW_PORT": text})


def test_free_ports_are_four_different_ones() -> None:
    ports = Ports.choose("auto")
    assert len({ports.airflow, ports.mlflow, ports.ingress, ports.control}) == 4


@pytest.mark.system
@pytest.mark.parametrize("moment", ["plane.log", "scheduler.log"], ids=["while-starting", "when-airflow-starts"])
def test_ctrl_c_leaves_no_process_behind(moment: str, tmp_path: Path) -> None:
    (tmp_path / "dags").symlink_to(REPOSITORY / "dags")
    demo = subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_mlpipex", "demo", "--once", "--ports", "auto"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        started = tmp_path / ".mlpipex" / "demo" / "logs" / moment
        until(lambda: started.exists() or demo.poll() is not None, within_s=120, what=moment)
        assert demo.poll() is None, demo.communicate()[0].decode()
        os.killpg(demo.pid, signal.SIGINT)  # what a terminal sends: to the whole group
        said, _ = demo.communicate(timeout=90)
    finally:
        demo.kill()
    assert demo.returncode == 130, said.decode()
    # A process that was killed takes a moment to vanish.
    until(lambda: _processes_of(tmp_path) == [], within_s=20, what="the end of every process of the demo")


def _processes_of(folder: Path) -> list[str]:
    """Commands of processes that work in ``folder`` or name it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.cwd()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found


def _free() -> int:
    return Ports.choose("auto").mlflow
