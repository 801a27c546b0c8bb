"""Answers of two releases to the same requests: what pairs, what is lost or torn, and what the window holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.errors import PlaneUnavailable
from airflow_provider_mlpipex.domain.shadow.report import report
from airflow_provider_mlpipex.serving.prediction_log import comparison, reader
from airflow_provider_mlpipex.serving.prediction_log.comparison import SETTLE_S, SLACK_S
from airflow_provider_mlpipex.serving.prediction_log.reader import SILENT_S
from tests.support.prediction_logs import FRAUD, NEW, OLD, Logs


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path)


def test_no_logs_are_no_pairs(logs: Logs) -> None:
    found = logs.compare(slices=["carrier"])
    assert (found.pairs, found.missing, found.flip_rate, found.agreement) == (0, 0, None, None)
    assert (found.difference.mean, found.latency.quantiles, found.scores, found.outputs) == (None, (), None, ())
    assert (found.slices[0].slices, found.slices[0].values) == ((), 0)
    assert found.dropped_share == 0.0


def test_pairs_by_request_id(logs: Logs) -> None:
    logs.both(*((f"r-{n}", [0.8, 0.2], [0.6, 0.4] if n < 8 else [0.4, 0.6]) for n in range(10)))
    found = logs.compare()
    assert (found.pairs, found.missing, found.flips, found.flip_rate) == (10, 0, 2, pytest.approx(0.2))
    assert found.agreement == pytest.approx(0.8)
    assert found.mean_absolute_difference == pytest.approx((8 * 0.2 + 2 * 0.4) / 10)


# What is missing, refused, failed or said twice.


def test_missing_is_what_only_the_shadow_answered(logs: Logs) -> None:
    # The primary answers all requests and the shadow a share of them: its surplus is no loss.
    logs.write(OLD, *(logs.answer(f"r-{n}") for n in range(10)))
    logs.write(NEW, logs.answer("r-1"), logs.answer("r-2"), logs.answer("lost-1"), logs.answer("lost-1", row=1))
    found = logs.compare()
    assert (found.pairs, found.missing) == (2, 1)
    assert (found.current_log.answers, found.shadow_log.answers) == (10, 3)


def test_a_shadow_whose_primary_logged_nothing_misses_all(logs: Logs) -> None:
    logs.write(NEW, logs.answer("r-1"), logs.answer("r-2"))
    assert (logs.compare().pairs, logs.compare().missing) == (0, 2)


def test_a_primary_without_a_shadow_misses_nothing(logs: Logs) -> None:
    logs.write(OLD, logs.answer("r-1"), logs.answer("r-2"))
    found = logs.compare()
    assert (found.pairs, found.missing, found.current_log.answers, found.shadow_log.answers) == (0, 0, 2, 0)


def test_an_answer_of_this_moment_is_not_missing_its_other_half_yet(logs: Logs) -> None:
    logs.write(OLD, logs.answer("r-0"))
    logs.write(NEW, logs.answer("fresh", ago=SETTLE_S / 2), logs.answer("old", ago=SETTLE_S * 2))
    assert logs.compare().missing == 1


def test_errors_on_one_side_are_told_by_side(logs: Logs) -> None:
    logs.write(OLD, *(logs.answer(f"r-{n}") for n in range(4)), logs.error("r-4"), logs.error("r-5"), logs.error("r-6"))
    logs.write(NEW, logs.error("r-0"), logs.error("r-1", status=400), logs.answer("r-2"), logs.answer("r-3"))
    logs.write(NEW, logs.answer("r-4"), logs.error("r-5"), logs.error("r-7"))
    found = logs.compare()
    assert (found.pairs, found.failed_shadow, found.failed_current, found.failed_both) == (2, 2, 1, 1)
    assert found.missing == 0, "an error of the shadow that the current release knows nothing of is no answer"
    assert (found.shadow_log.answers, found.shadow_log.requests) == (3, 7)


def test_a_request_of_many_rows_that_fails_is_one_error(logs: Logs) -> None:
    logs.write(OLD, *(logs.answer("r", row=row) for row in range(3)))
    logs.write(NEW, logs.error("r"))
    found = logs.compare()
    assert (found.pairs, found.failed_shadow, found.missing) == (0, 1, 0)


def test_of_a_request_id_that_a_client_used_twice_the_first_answers_pair(logs: Logs) -> None:
    logs.write(OLD, logs.answer("r-1", [0.1, 0.9], ago=5), logs.answer("r-1", [0.9, 0.1], ago=9), logs.answer("r-2"))
    logs.write(NEW, logs.answer("r-1", [0.9, 0.1], ago=8.9), logs.answer("r-1", [0.1, 0.9], ago=4.9))
    found = logs.compare()
    assert (found.pairs, found.flips, found.mean_absolute_difference) == (1, 0, 0.0)
    assert (found.current_log.repeated, found.shadow_log.repeated) == (1, 1)


def test_a_request_that_was_answered_at_the_second_try_was_answered(logs: Logs) -> None:
    logs.write(OLD, logs.error("r", ago=12), logs.answer("r", 1.5, ago=11), logs.answer("r", 9.5, ago=10))
    logs.write(NEW, logs.answer("r", 1.5))
    found = logs.compare()
    assert (found.pairs, found.flips, found.failed_current, found.current_log.repeated) == (1, 0, 0, 2)


def test_requests_without_an_id_and_refused_ones_pair_with_nothing(logs: Logs) -> None:
    for release in (OLD, NEW):
        logs.write(release, logs.answer(""), logs.answer(""), logs.error("r-1", status=400), logs.answer("r-2"))
    found = logs.compare()
    assert (found.pairs, found.failed_both, found.missing) == (1, 1, 0)
    assert (found.current_log.unnamed, found.shadow_log.unnamed) == (2, 2)


# What flips.


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        (100.0, 100.00001, True),
        (100.0, 100.0 * (1 + 2e-6), True),
        (100.0, 100.0 * (1 + 2e-5), False),
        (100.0, 100.1, False),
        (0.0, 0.0, True),
        (0.0, 1e-13, False),
        (-5e9, -5e9 + 1, True),
        (1.0, float("inf"), False),
        (float("inf"), float("inf"), True),
        (float("-inf"), float("inf"), False),
        (float("nan"), float("nan"), True),
        (float("nan"), 0.5, False),
        (1e300, 1e300, True),
        (1e300, -1e300, False),
        (1.7e308, 1.6e308, False),
        (1, 1.0, True),
        ([0.5, 0.5], [0.5 + 1e-9, 0.5 - 1e-9], True),
        ([0.49, 0.51], [0.51, 0.49], False),
        ([0.3, 0.4, 0.3], [0.4, 0.45, 0.15], True),
        ([0.3, 0.4, 0.3], [0.45, 0.4, 0.15], False),
        ([float("nan")] * 2, [0.4, 0.6], False),
        ("cat", "cat", True),
        ("cat", "dog", False),
        ("1.0", 1.0, True),
        (True, 1, True),
        (True, 0, False),
        ([3.5, 2.0], [3.5000001, 2.0], True),
        ([3.5, 2.0], [3.5, 2.1], False),
        ([3.5, 2.0], [3.5, 2.0, 1.0], False),
        ([3.5, float("nan")], [3.5, 2.0], False),
        ({"a": 1.5, "b": 2.0}, {"b": 2.0, "a": 1.5}, True),
        ({"a": 1.5, "b": "x"}, {"a": 1.5, "b": "y"}, False),
        ([[0.2, 0.8], [0.6, 0.4]], [[0.3, 0.7], [0.9, 0.1]], True),
        ([[0.2, 0.8], [0.6, 0.4]], [[0.3, 0.7], [0.1, 0.9]], False),
    ],
)
def test_what_flips_and_what_is_the_same_answer(logs: Logs, one: Any, other: Any, agree: bool) -> None:
    logs.both(("r-1", one, other), ("r-2", other, one))
    assert logs.compare().flips == (0 if agree else 2)


def test_differences_of_several_outputs_are_told_by_name(logs: Logs) -> None:
    logs.both(
        ("r-1", {"wait": 10.0, "delay": 1.0}, {"delay": 2.0, "wait": 10.0}),
        ("r-2", {"wait": 10.0, "delay": 1.0}, {"delay": 4.0, "wait": 10.0}),
    )
    found = logs.compare()
    assert [(each.output, each.count, each.mean_absolute) for each in found.outputs] == [
        ("delay", 2, pytest.approx(2.0)),
        ("wait", 2, 0.0),
    ]
    assert (found.flips, found.difference.mean) == (2, 2.0), "the score is that of the first name"


def test_differences_of_listed_outputs_are_told_by_place(logs: Logs) -> None:
    logs.both(("r-1", [3.0, 7.0], [3.5, 7.0]), ("r-2", [3.0, 7.0], [3.0, float("nan")]))
    found = logs.compare()
    assert [(each.output, each.count, each.mean_absolute) for each in found.outputs] == [
        ("0", 2, pytest.approx(0.25)),
        ("1", 1, 0.0),
    ]


def test_scores_that_are_no_numbers_are_counted_by_side_and_left_out_of_means(logs: Logs) -> None:
    nan, inf = float("nan"), float("inf")
    logs.both(("r-1", 1.0, nan), ("r-2", inf, 1.0), ("r-3", 1.0, 1.5), ("r-4", nan, nan))
    found = logs.compare()
    assert (found.pairs, found.flips) == (4, 3)
    assert (found.difference.count, found.difference.mean) == (1, 0.5)
    assert (found.current_log.not_finite, found.shadow_log.not_finite) == (1, 1)


def test_numbers_too_large_to_square_are_as_good_as_infinite(logs: Logs) -> None:
    logs.both(("r-1", 1e300, -1e300), ("r-2", 1.0, 1e200), ("r-3", 1.0, 2.0), ("r-4", [1.0, 1e300], [1.0, 2.0]))
    found = logs.compare(slices=["carrier"])
    assert (found.pairs, found.flips, found.difference.count, found.difference.mean) == (4, 4, 2, 0.5)
    assert (found.difference.deviation, found.shadow_log.not_finite) == (0.5, 1)
    assert report(found)["difference"]["p95"] == pytest.approx(0.95)


def test_all_equal_values_have_no_spread_and_no_distance(logs: Logs) -> None:
    logs.both(*((f"r-{n}", [0.5, 0.5], [0.5, 0.5]) for n in range(50)))
    found = logs.compare()
    assert (found.flips, found.difference.mean, found.difference.deviation) == (0, 0.0, 0.0)
    assert found.difference.quantiles == (0.0,) * 4
    assert found.scores is not None
    assert (found.scores.psi, found.scores.ks, found.scores.js) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("outputs", "probabilities"),
    [([[0.2, 0.8], [0.1, 0.9]], True), ([0.2, 0.1], False), ([[0.2, 0.8], 0.9], False)],
)
def test_differences_are_bounded_only_where_every_score_is_a_probability(
    logs: Logs, outputs: list[Any], probabilities: bool
) -> None:
    logs.both(*((f"r-{n}", output, output) for n, output in enumerate(outputs)))
    found = logs.compare()
    assert (found.probabilities, found.bound) == (probabilities, 1.0 if probabilities else None)


def test_latencies_pair_too(logs: Logs) -> None:
    logs.write(OLD, *(logs.answer(f"r-{n}", ms=10.0) for n in range(100)))
    logs.write(NEW, *(logs.answer(f"r-{n}", ms=8.0 if n < 50 else 30.0) for n in range(100)))
    found = logs.compare().latency
    assert (found.count, found.mean, found.quantile(0.05), found.quantile(0.95)) == (100, 9.0, -2.0, 20.0)
    assert [count for _, _, count in found.histogram.buckets] == [50, 50]
    (slower, _, _) = found.histogram.buckets[1]
    assert slower < 20.0 <= found.histogram.buckets[1][1]


# The window.


def test_only_the_window_counts(logs: Logs) -> None:
    for release in (OLD, NEW):
        logs.write(release, *(logs.answer(f"r-{ago}", ago=ago) for ago in (5, 15, 25, 35)))
    assert logs.compare(since=30, until=10).pairs == 2
    assert logs.compare(since=30).pairs == 3
    assert logs.compare(since=30, until=10).shadow_log.answers == 2


@pytest.mark.parametrize("ahead", [-0.9 * SLACK_S, 0.9 * SLACK_S])
def test_a_shadow_whose_clock_is_wrong_answers_the_same_requests(logs: Logs, ahead: float) -> None:
    logs.write(OLD, *(logs.answer(f"r-{n}", ago=100 + n) for n in range(10)))
    logs.write(NEW, *(logs.answer(f"r-{n}", ago=100 + n - ahead) for n in range(10)))
    found = logs.compare(since=120, until=95)
    assert (found.pairs, found.missing) == (10, 0)


def test_a_clock_that_is_off_by_more_shows_as_missing_and_not_as_an_empty_window(logs: Logs) -> None:
    logs.write(OLD, *(logs.answer(f"r-{n}", ago=400) for n in range(10)))
    logs.write(NEW, *(logs.answer(f"r-{n}", ago=20) for n in range(10)))
    found = logs.compare()
    assert (found.pairs, found.missing, found.shadow_log.answers) == (0, 10, 10)


def test_all_segments_are_read_and_torn_lines_are_skipped_and_counted(logs: Logs) -> None:
    for release in (OLD, NEW):
        logs.write(release, logs.answer("r-1"), '{"t": 17', "\x00" * 30, segment="00000001.jsonl")
        logs.write(release, logs.answer("r-2"), segment="00000002.jsonl.open")
    logs.write(NEW, "[1, 2]", '{"t": "noon", "rid": "r-9", "status": 200}', segment="00000002.jsonl.open")
    found = logs.compare()
    assert (found.pairs, found.current_log.torn, found.shadow_log.torn) == (2, 2, 4)


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
    original = reader.segments

    def closing(folder: Path) -> list[Path]:
        listed = original(folder)
        for path in listed:
            if path.suffix == ".open":
                path.rename(path.with_suffix(""))
        return listed

    monkeypatch.setattr(reader, "segments", closing)
    assert logs.compare().pairs == 1


def test_a_disk_that_cannot_be_used_is_an_unavailable_plane(logs: Logs, tmp_path: Path) -> None:
    blocked = tmp_path / "predictions"
    blocked.write_text("a file where the logs' folder should be")
    logs.root = blocked
    with pytest.raises(PlaneUnavailable, match=f"prediction logs of {FRAUD}"):
        logs.compare()


def test_logs_that_are_no_files_are_an_unavailable_plane(logs: Logs) -> None:
    logs.both(("r-1", 1.0, 1.0))
    segment = comparison.log_folder(logs.root, FRAUD, NEW) / "00000002.jsonl"
    segment.mkdir()
    with pytest.raises(PlaneUnavailable, match=str(FRAUD)):
        logs.compare()


def test_nothing_is_left_beside_the_logs(logs: Logs) -> None:
    logs.both(("r-1", 1.0, 1.0))
    left = logs.root / ".spill-killed"
    left.mkdir()
    os.utime(left, (0, 0))
    fresh = logs.root / ".spill-running"
    fresh.mkdir()
    logs.compare()
    assert sorted(path.name for path in logs.root.iterdir()) == [fresh.name, "production"]


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
    logs.told(release, ago=SILENT_S + 30)
    assert logs.compare().dropped_share == 1.0
    assert logs.compare(until=40).dropped_share == 0.0, "it spoke after that window"


def test_a_log_that_was_closed_is_not_silent(logs: Logs) -> None:
    for side in (OLD, NEW):
        logs.write(side, logs.answer("r-1"))
        logs.told(side, ago=None)
    assert logs.compare().dropped_share == 0.0
