"""Waiting for a condition, with a deadline that says what was waited for."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


def until(holds: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Return as soon as ``holds``; fail the test after ``within_s`` seconds."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {within_s:g} s")
        time.sleep(0.1)
