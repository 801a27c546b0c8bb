"""One serves, the others wait, and nobody has to notice a death: with real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from airflow_provider_mlpipex.serving.turns import whose_turn
from tests.support.polling import until

#: Takes its turn, starts a child that outlives it, and stays.
HOLDER = """
import subprocess, sys, time
from pathlib import Path
from airflow_provider_mlpipex.serving.turns import take_turn
take_turn(Path(sys.argv[1]))
subprocess.Popen(["sleep", "30"], close_fds=False)
time.sleep(60)
"""


def test_the_turn_passes_on_when_its_holder_is_killed(tmp_path: Path) -> None:
    socket = tmp_path / "model.sock"
    assert whose_turn(socket) is None
    command = [sys.executable, "-c", HOLDER, str(socket)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    try:
        pids = {process.pid for process in processes}
        until(lambda: whose_turn(socket) in pids, within_s=60, what="one of them has the turn")
        first = whose_turn(socket)
        (other,) = pids - {first}
        # To ask whose turn it is ends nobody's.
        assert whose_turn(socket) == first
        next(process for process in processes if process.pid == first).kill()
        until(lambda: whose_turn(socket) == other, within_s=60, what="the other one has it, though a child is left")
        next(process for process in processes if process.pid == other).kill()
        until(lambda: whose_turn(socket) is None, within_s=60, what="nobody has it")
    finally:
        for process in processes:
            process.kill()
            process.wait()
