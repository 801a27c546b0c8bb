"""A disk that is really full: a small filesystem in memory, with a real plane on it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from tests.support.plane import RealPlane, Traffic
from tests.support.polling import until

pytestmark = pytest.mark.system

SHOP = EndpointRef.parse("production/shop")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(disk)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small filesystem")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def fill(disk: Path) -> Path:
    """Take all that is left, to the last block."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as stream:
        for size in (1 << 20, 4096):
            while True:
                try:
                    if stream.write(b"x" * size) < size:
                        break
                except OSError:
                    break
    return path


def test_on_a_full_disk_traffic_is_taken_back_and_what_serves_goes_on(small_disk: Path) -> None:
    plane = RealPlane(small_disk)
    plane.start()
    filler = None
    try:
        plane.ensure(SHOP, 1, 2)
        current, candidate = plane.release(1), plane.release(2)
        trial = TrafficPlan(
            endpoint=SHOP, current=current.id, candidate=candidate.id, candidate_weight=10_000, lease_s=8
        )
        reserve = plane.state_dir / "reserve"
        until(reserve.exists, within_s=20, what="room is kept")
        plane.port.apply(trial)
        filler = fill(small_disk)
        with Traffic(plane, SHOP) as traffic:
            until(lambda: 1 in traffic.answered_by, within_s=60, what="the trial is over on a full disk")
            # The room that was kept is spent, and gone again.
            filler = fill(small_disk)
            envoy, server = plane.child("envoy").pid, plane.server(SHOP, current).pid
            plane.kill_supervisor()
            traffic.wait_for(20)
            assert {envoy, server} <= plane.processes()
            # A supervisor starts on a full disk, or says why it cannot; what serves is left alone either way.
            with contextlib.suppress(AssertionError):
                plane.start()
            traffic.wait_for(20)
            assert {envoy, server} <= plane.processes()
            filler.unlink()
            plane.kill_supervisor()
            plane.start()
            traffic.wait_for(20)
            assert plane.child("envoy").pid == envoy
        assert traffic.failures == {}
        assert plane.port.observe(SHOP).plan == trial.only_current()
    finally:
        if filler is not None:
            filler.unlink(missing_ok=True)
        os.sync()
        plane.stop()
