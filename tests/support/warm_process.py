"""Clean processes that are forked from one that has imported MLflow: for tests that register many models.

A clean process imports for seconds what serving needs. Whether a model is complete is tested with real ones; where a
test is about something else, the imports need to be made once.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_mlpipex.serving.model_server import clean_process

_PRELOADED = ("mlflow.sklearn", "sklearn.ensemble", "airflow_provider_mlpipex.serving.model_server.loading")
_context = multiprocessing.get_context("forkserver")


@pytest.fixture
def warm_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """:func:`ask_in_clean_process` forks, where it would have started this very interpreter."""
    _context.set_forkserver_preload(list(_PRELOADED))
    forked = SimpleNamespace(run=_run, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(clean_process, "subprocess", forked)


def _run(command: Sequence[str], *, env: Mapping[str, str], cwd: str, timeout: float, **options: Any) -> Any:
    if command[:4] != [sys.executable, "-P", "-m", clean_process.__name__]:
        return subprocess.run(command, env=env, cwd=cwd, timeout=timeout, **options)
    child = _context.Process(target=_main, args=(command[4:], dict(env), cwd))
    child.start()
    child.join(timeout)
    return SimpleNamespace(returncode=child.exitcode, stdout="", stderr="")


def _main(arguments: Sequence[str], environment: dict[str, str], cwd: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.exit(clean_process.main(arguments))
