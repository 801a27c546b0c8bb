"""``mlpipex`` as a terminal runs it, over a SQLite ledger and a plane in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from airflow_provider_mlpipex import composition
from airflow_provider_mlpipex.adapters.sql.database import SqlDatabase
from airflow_provider_mlpipex.adapters.system_clock import SystemClock
from airflow_provider_mlpipex.cli import main, terminal
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout import decisions
from airflow_provider_mlpipex.ports import ServingPlane
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout.promote import promote
from airflow_provider_mlpipex.testing.plane import MemoryPlane
from tests.support.factories import ORIGIN, make_policy
from tests.support.manifests import make_manifest

ENDPOINT = EndpointRef.parse("production/fraud-scorer")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main.app, [str(argument) for argument in arguments])


def answer(*arguments: str | Path) -> Any:
    """What a command prints with ``--json``; it must have succeeded."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refusal(*arguments: str | Path) -> dict[str, Any]:
    """How a command refuses with ``--json``: exit code 1, nothing on standard output."""
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    return dict(json.loads(result.stderr))


def terminal_platform(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """What the commands work with from now on: the real adapters on ``folder``, with a ledger that has no entries, but
    for a plane in memory."""
    for name in composition.Settings.model_fields:
        monkeypatch.delenv(f"MLPIPEX_{name.upper()}", raising=False)
    monkeypatch.setenv("MLPIPEX_LEDGER_URL", f"sqlite:///{folder}/ledger.db")
    monkeypatch.setenv("MLPIPEX_SNAPSHOT_ROOT", str(folder / "snapshots"))
    with SqlDatabase(f"sqlite:///{folder}/ledger.db").transaction():
        pass
    plane: ServingPlane = MemoryPlane(SystemClock())
    build = composition.build_platform
    monkeypatch.setattr(terminal, "build_platform", lambda settings, origin: build(settings, origin, plane=plane))
    return build(composition.Settings.from_environment(), ORIGIN, plane=plane)


def release(platform: Platform, candidate: Release, manifest: Manifest | None = None) -> None:
    """Make ``candidate`` current, as a release Dag without trials would."""
    journal.decide(
        platform,
        ENDPOINT,
        lambda now: decisions.open_rollout(
            now,
            rollout_id=candidate.id,
            release=candidate,
            policy=make_policy(review=False, shadow_fraction=None, canary_weights=(), offline_gates=False),
            manifest=(manifest or make_manifest()).to_json(),
        ),
    )
    promote(platform, endpoint=ENDPOINT, rollout_id=candidate.id, timeout_s=5.0)
