"""Room for the worst moment."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from airflow_provider_mlpipex.domain.errors import PlaneUnavailable
from airflow_provider_mlpipex.serving.reserve import Reserve, is_full

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def reserve(tmp_path: Path) -> Reserve:
    reserve = Reserve(tmp_path / "reserve", size=100_000)
    reserve.refill()
    return reserve


def test_the_reserve_holds_real_blocks(reserve: Reserve, tmp_path: Path) -> None:
    # A file that is only long would give nothing back.
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 100_000


def test_a_write_on_a_full_disk_is_made_in_the_room_that_was_kept(reserve: Reserve, tmp_path: Path) -> None:
    def write() -> str:
        if (tmp_path / "reserve").exists():
            raise PlaneUnavailable("state of the plane") from FULL
        return "written"

    assert reserve.spend(write) == "written"
    # Once only: the next one has to wait for an emptier disk.
    with pytest.raises(OSError):
        reserve.spend(lambda: (_ for _ in ()).throw(FULL))
    reserve.refill()
    assert (tmp_path / "reserve").exists()


def test_room_is_not_spent_on_other_trouble(reserve: Reserve, tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        reserve.spend(lambda: (_ for _ in ()).throw(PermissionError(errno.EACCES, "Permission denied")))
    assert (tmp_path / "reserve").exists()


def test_a_full_disk_is_known_behind_the_error_that_names_it() -> None:
    assert is_full(FULL)
    assert not is_full(OSError(errno.EIO, "Input/output error"))
    try:
        raise PlaneUnavailable("state") from FULL
    except PlaneUnavailable as error:
        assert is_full(error)
