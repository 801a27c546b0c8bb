"""A clock that was wrong for a while leads nothing astray that is kept for hours."""

from __future__ import annotations

import pytest

from airflow_provider_mlpipex.serving.steady_clock import BELIEVED_AFTER_S, SteadyClock

YEAR = 365 * 86_400.0


class Machine:
    """``off``: by how much its wall clock is wrong."""

    def __init__(self) -> None:
        self.up, self.off = 100.0, 0.0
        self.clock = SteadyClock(wall=lambda: 1_000_000.0 + self.up + self.off, uptime=lambda: self.up)

    def after(self, seconds: float, *, off: float) -> tuple[float, float]:
        """(error of the steady clock, seconds set back) after so long."""
        self.up, self.off = self.up + seconds, off
        now, back = self.clock.read()
        return now - (1_000_000.0 + self.up), back


@pytest.mark.parametrize("step", [60.0, 3600.0, YEAR])
def test_a_step_forward_that_is_taken_back_is_never_believed_and_its_size_is_known(step: float) -> None:
    machine = Machine()
    assert machine.after(10, off=0) == (0, 0)
    for _ in range(5):
        assert machine.after(10, off=step) == (0, 0)
    assert machine.after(10, off=0) == (0, step)
    assert machine.after(10, off=0) == (0, 0)


def test_a_step_forward_that_stands_is_believed_in_the_end() -> None:
    machine = Machine()
    machine.after(10, off=YEAR)
    assert machine.after(BELIEVED_AFTER_S - 1, off=YEAR) == (0, 0)
    assert machine.after(2, off=YEAR) == (YEAR, 0)
    assert machine.after(10, off=YEAR) == (YEAR, 0)


@pytest.mark.parametrize("step", [60.0, YEAR])
def test_a_step_back_is_believed_at_once(step: float) -> None:
    machine = Machine()
    machine.after(10, off=0)
    assert machine.after(10, off=-step) == (-step, step)
    assert machine.after(10, off=-step) == (-step, 0)


def test_slewing_is_no_step() -> None:
    machine = Machine()
    for number in range(100):
        error, back = machine.after(1, off=number * 0.01)
        assert (error, back) == (pytest.approx(number * 0.01), 0)
