"""An endpoint that a real plane serves, behind the connection that Airflow's tasks of the test use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.events import Origin, Promoted, RolloutOpened, RolloutPolicy
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from tests.support.plane import RealPlane, now


def connected(plane: RealPlane, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """What the default connection leads to from now on: ``plane``, and a ledger and snapshots in ``folder``."""
    connection = {
        "conn_type": "mlpipex",
        "host": "127.0.0.1",
        "port": plane.control_port,
        "extra": {
            "ledger_url": f"sqlite:///{folder}/ledger.db",
            "snapshot_root": str(folder / "snapshots"),
            "plane_token_file": str(plane.state_dir / "token"),
            "client_token_file": str(plane.state_dir / "batch-token"),
        },
    }
    monkeypatch.setenv("AIRFLOW_CONN_MLPIPEX_DEFAULT", json.dumps(connection))
    return MlpipexHook().platform(Origin(kind="test"))


def make_current(
    platform: Platform, endpoint: EndpointRef, release: Release, *, manifest: Mapping[str, Any] | None = None
) -> None:
    """Serve a release that the plane has made ready, and write down that it was promoted."""
    platform.plane.apply(TrafficPlan(endpoint=endpoint, current=release.id))
    opened = RolloutOpened(rollout_id="run-1", release=release, policy=RolloutPolicy(), manifest=dict(manifest or {}))
    journal.note(platform, endpoint, opened)
    journal.note(platform, endpoint, Promoted(rollout_id="run-1", watch_until=now()))
