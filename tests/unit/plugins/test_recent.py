"""Answers that are shared for some seconds."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_mlpipex.plugins.api.recent import MAX_KEPT, Recent


def test_an_answer_is_shared_until_it_is_too_old() -> None:
    now = [0.0]
    recent: Recent[float] = Recent(5.0, clock=lambda: now[0])
    shown = []
    for moment in (0.0, 4.9, 5.0, 9.9, 10.0):
        now[0] = moment
        shown.append(recent.get("a", lambda: now[0]))
    assert shown == [0.0, 0.0, 5.0, 5.0, 10.0]
    assert recent.get("b", lambda: -1.0) == -1.0


def test_an_error_is_nobodys_answer() -> None:
    recent: Recent[int] = Recent(5.0)

    def breaks() -> int:
        raise ValueError

    with pytest.raises(ValueError):
        recent.get("a", breaks)
    assert recent.get("a", lambda: 1) == 1


def test_of_many_who_ask_at_once_one_asks() -> None:
    recent: Recent[int] = Recent(60.0)
    started, go, calls = threading.Event(), threading.Event(), []

    def make() -> int:
        calls.append(1)
        started.set()
        assert go.wait(30)
        return 7

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(recent.get, "a", make) for _ in range(8)]
        assert started.wait(30)
        go.set()
        assert [each.result(30) for each in answers] == [7] * 8
    assert len(calls) == 1


def test_what_is_kept_has_a_bound() -> None:
    recent: Recent[int] = Recent(60.0)
    for number in range(3 * MAX_KEPT):
        recent.get(number, lambda number=number: number)  # type: ignore[misc]
    assert len(recent._kept) == MAX_KEPT
