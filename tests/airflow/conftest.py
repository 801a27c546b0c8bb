from __future__ import annotations

from tests.support import airflow_home

airflow_home.prepare()  # before anything imports airflow

from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

from airflow_provider_mlpipex.testing import MemoryPlatform, use_platform  # noqa: E402
from tests.airflow.release_run import ReleaseRun  # noqa: E402
from tests.support.acme import manifest_text  # noqa: E402


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Airflow's metadata database, migrated once for the session, with the bundle of the reference Dags in it."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.utils.db import initdb

    initdb()
    DagBundlesManager().sync_bundles_to_db()


@pytest.fixture
def fakes() -> Iterator[MemoryPlatform]:
    """What every operator, sensor, trigger and notifier works with here instead of the connection's platform."""
    with use_platform() as platform:
        yield platform


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest that can be released here: staging only judges; production reviews, shadows, steps and watches."""
    path = tmp_path / "fraud.yaml"
    path.write_text(manifest_text(), encoding="utf-8")
    return path


@pytest.fixture
def first(fakes: MemoryPlatform, manifest: Path) -> ReleaseRun:
    """A run that has not begun, on an endpoint without any release."""
    return ReleaseRun(fakes, manifest)


@pytest.fixture
def second(first: ReleaseRun) -> ReleaseRun:
    """A run with another model, where a first release is current."""
    first.first_release()
    first.manifest.write_text(manifest_text(("depth: 3", "depth: 4")), encoding="utf-8")
    return ReleaseRun(first.platform, first.manifest, run_id="run-2")
