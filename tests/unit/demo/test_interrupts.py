"""Ctrl-C ends the demo also where Python forgets the exception that it raised."""

from __future__ import annotations

import subprocess
import sys

_SWALLOWED = """
import os, signal, time
from airflow_provider_mlpipex.demo import interrupts

interrupts.hear(signal.SIGINT)

class Loses:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

try:
    Loses()
    print("lost once", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    interrupts.ignore()
    os.kill(os.getpid(), signal.SIGINT)
    print("heard", flush=True)
"""


def test_an_interrupt_that_a_destructor_swallowed_comes_again() -> None:
    ended = subprocess.run([sys.executable, "-c", _SWALLOWED], capture_output=True, text=True, timeout=50, check=True)
    assert ended.stdout.split("\n") == ["lost once", "heard", ""]
    assert "Exception ignored in" in ended.stderr
