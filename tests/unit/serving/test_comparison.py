"""Answers of two releases to the same requests, from logs as model servers leave them."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.evidence import ShadowComparison
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.serving import comparison
from airflow_provider_mlpipex.serving.comparison import compare, log_folder
from airflow_provider_mlpipex.serving.prediction_log import STATS_FILE
from tests.support.factories import make_release

FRAUD = EndpointRef.parse("production/fraud-scorer")
OLD, NEW = make_release("1.0.0").id, make_release("1.1.0").id


class Logs:
    """Prediction logs of both releases under ``root``; times are seconds before now."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = datetime.now(UTC)

    def write(self, release: str, *lines: dict[str, Any] | str, segment: str = "00000001.jsonl") -> Path:
        folder = log_folder(self.root, FRAUD, release)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / segment
        with path.open("a") as stream:
            stream.writelines((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        return path

    def answer(self, rid: str, score: float | None = 0.5, label: str | None = None, **changes: Any) -> dict[str, Any]:
        ago = changes.pop("ago", 10.0)
        label = repr(score) if label is None else label
        return {"t": self.now.timestamp() - ago, "rid": rid, "status": 200, "score": score, "label": label} | changes

    def lost(self, count: int, ago: float = 10.0) -> dict[str, Any]:
        return {"t": self.now.timestamp() - ago, "dropped": count}

    def told(self, release: str, ago: float | None) -> None:
        """When a log last said how much it had lost; ``None``: it was closed in good order."""
        told = {"t": self.now.timestamp() - (ago or 0.0), "written": 1, "dropped": 0, "closed": ago is None}
        (log_folder(self.root, FRAUD, release) / STATS_FILE).write_text(json.dumps(told))

    def compare(self, *, since: float = 60.0, until: float = 0.0) -> ShadowComparison:
        return compare(
            self.root,
            FRAUD,
            primary=OLD,
            shadow=NEW,
            since=self.now - timedelta(seconds=since),
            until=self.now - timedelta(seconds=until),
        )


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path)


def test_no_logs_are_no_pairs(logs: Logs) -> None:
    found = logs.compare()
    assert (found.pairs, found.missing, found.agreement, found.mean_absolute_difference) == (0, 0, None, None)
    assert found.dropped_share == 0.0


def test_pairs_by_request_id(logs: Logs) -> None:
    logs.write(OLD, *(logs.answer(f"r-{n}", 0.2, "0") for n in range(10)))
    logs.write(NEW, *(logs.answer(f"r-{n}", 0.4 if n < 8 else 0.6, "0" if n < 8 else "1") for n in range(10)))
    found = logs.compare()
    assert (found.pairs, found.missing, found.agreement) == (10, 0, pytest.approx(0.8))
    assert found.mean_absolute_difference == pytest.approx((8 * 0.2 + 2 * 0.4) / 10)


def test_missing_is_what_only_the_shadow_answered(logs: Logs) -> None:
    # The primary answers all requests and the shadow a share of them: its surplus is no loss.
    logs.write(OLD, *(logs.answer(f"r-{n}") for n in range(10)))
    logs.write(NEW, logs.answer("r-1"), logs.answer("r-2"), logs.answer("lost-1"))
    found = logs.compare()
    assert (found.pairs, found.missing) == (2, 1)


def test_a_shadow_whose_primary_logged_nothing_misses_all(logs: Logs) -> None:
    logs.write(NEW, logs.answer("r-1"), logs.answer("r-2"))
    assert (logs.compare().pairs, logs.compare().missing) == (0, 2)


def test_of_a_request_id_that_a_client_used_twice_the_first_answers_pair(logs: Logs) -> None:
    logs.write(OLD, logs.answer("r-1", 0.9, "1", ago=5), logs.answer("r-1", 0.1, "0", ago=9))
    logs.write(NEW, logs.answer("r-1", 0.1, "0", ago=8.9), logs.answer("r-1", 0.2, "0", ago=4.9))
    found = logs.compare()
    assert (found.pairs, found.agreement, found.mean_absolute_difference) == (1, 1.0, 0.0)


def test_requests_without_an_id_and_refused_ones_pair_with_nothing(logs: Logs) -> None:
    for release in (OLD, NEW):
        logs.write(release, logs.answer(""), logs.answer("r-1", None, "", status=400), logs.answer("r-2"))
    assert logs.compare().pairs == 1


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        (100.0, 100.00001, True),
        (100.0, 100.1, False),
        (0.0, 0.0, True),
        (0.0, 1e-13, False),
        (-5e9, -5e9 + 1, True),
    ],
)
def test_numbers_agree_within_the_tolerance_of_the_larger(logs: Logs, one: float, other: float, agree: bool) -> None:
    logs.write(OLD, logs.answer("r-1", one))
    logs.write(NEW, logs.answer("r-1", other))
    assert logs.compare().agreement == float(agree)


def test_words_agree_if_they_are_the_same(logs: Logs) -> None:
    logs.write(OLD, logs.answer("r-1", None, "cat"), logs.answer("r-2", None, "cat"))
    logs.write(NEW, logs.answer("r-1", None, "cat"), logs.answer("r-2", None, "dog"))
    found = logs.compare()
    assert (found.pairs, found.agreement, found.mean_absolute_difference) == (2, 0.5, None)


def test_only_the_window_counts(logs: Logs) -> None:
    for release in (OLD, NEW):
        logs.write(release, *(logs.answer(f"r-{ago}", ago=ago) for ago in (5, 15, 25, 35)))
    assert logs.compare(since=30, until=10).pairs == 2
    assert logs.compare(since=30).pairs == 3


def test_all_segments_are_read_and_torn_lines_are_skipped(logs: Logs) -> None:
    for release in (OLD, NEW):
        logs.write(release, logs.answer("r-1"), '{"t": 17', "\x00" * 30, segment="00000001.jsonl")
        logs.write(release, logs.answer("r-2"), segment="00000002.jsonl.open")
    assert logs.compare().pairs == 2


def test_segments_that_ended_before_the_window_are_not_opened(logs: Logs) -> None:
    for release in (OLD, NEW):
        old = logs.write(release, logs.answer("r-1"), segment="00000001.jsonl")
        long_ago = logs.now.timestamp() - 3600
        os.utime(old, (long_ago, long_ago))
        logs.write(release, logs.answer("r-2"), segment="00000002.jsonl")
    assert logs.compare().pairs == 1


def test_a_segment_that_is_closed_meanwhile_is_found_under_its_new_name(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for release in (OLD, NEW):
        logs.write(release, logs.answer("r-1"), segment="00000001.jsonl.open")
    original = comparison.segments

    def closing(folder: Path) -> list[Path]:
        listed = original(folder)
        for path in listed:
            if path.suffix == ".open":
                path.rename(path.with_suffix(""))
        return listed

    monkeypatch.setattr(comparison, "segments", closing)
    assert logs.compare().pairs == 1


# What was lost.


def test_the_dropped_share_is_of_the_window(logs: Logs) -> None:
    # Not of all that was ever written: a million good days must not hide a bad hour, nor a bad day spoil the next.
    logs.write(OLD, *(logs.answer(f"old-{n}", ago=50) for n in range(900)))
    logs.write(OLD, logs.lost(1, ago=5), *(logs.answer(f"r-{n}", ago=5) for n in range(9)))
    logs.write(NEW, *(logs.answer(f"r-{n}", ago=5) for n in range(10)), logs.lost(500, ago=50))
    assert logs.compare(since=30).dropped_share == pytest.approx(1 / 20)
    assert logs.compare(since=60).dropped_share == pytest.approx(501 / (501 + 919))


@pytest.mark.parametrize("release", [OLD, NEW])
def test_a_log_that_fell_silent_may_have_lost_everything(logs: Logs, release: str) -> None:
    for side in (OLD, NEW):
        logs.write(side, logs.answer("r-1"))
        logs.told(side, ago=0.5)
    assert logs.compare().dropped_share == 0.0
    logs.told(release, ago=comparison.SILENT_S + 30)
    assert logs.compare().dropped_share == 1.0
    assert logs.compare(until=40).dropped_share == 0.0, "it spoke after that window"


def test_a_log_that_was_closed_is_not_silent(logs: Logs) -> None:
    for side in (OLD, NEW):
        logs.write(side, logs.answer("r-1"))
        logs.told(side, ago=None)
    assert logs.compare().dropped_share == 0.0
