"""The tail of Envoy's attempts log: what it counts, and for whom, and when it says that it does not know."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.errors import PlaneUnavailable
from airflow_provider_mlpipex.domain.gates.evidence import ReleaseTelemetry, Split
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import slug_of
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.serving.envoy import attempts, refusals
from airflow_provider_mlpipex.serving.envoy.attempt_counts import COARSE_S, KEPT_S
from airflow_provider_mlpipex.serving.envoy.attempts import AttemptTail
from airflow_provider_mlpipex.serving.envoy.config import cluster_name
from airflow_provider_mlpipex.serving.steady_clock import SteadyClock
from tests.support.factories import make_release

FRAUD = EndpointRef.parse("production/fraud-scorer")
OLD, NEW = make_release("1.0.0"), make_release("1.1.0")
SOON = timedelta(seconds=5)


class Log:
    """Envoy's side of the attempts log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # A test that sets the time means that so much of it has passed.
        clock = SteadyClock(wall=lambda: time.time(), uptime=lambda: time.time())
        self.tail = AttemptTail({path: self.reopen}, clock=clock)
        self.reopened = 0
        self.away = False

    def reopen(self) -> None:
        if self.away:
            raise PlaneUnavailable("Envoy")
        self.reopened += 1
        self.path.touch()

    def write(self, *lines: str | dict[str, Any], end: str = "\n") -> None:
        with self.path.open("a") as stream:
            stream.writelines((line if isinstance(line, str) else json.dumps(line)) + end for line in lines)

    def seen(self, release: str = OLD.id, *, since: datetime | None = None) -> ReleaseTelemetry:
        self.tail.poll()
        window = self.tail.telemetry(FRAUD, [OLD.id, NEW.id], since=since or ago(60), until=now() + SOON)
        return window.releases[release]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "attempts.jsonl")


def now() -> datetime:
    return datetime.now(UTC)


def ago(seconds: float) -> datetime:
    return now() - timedelta(seconds=seconds)


def attempt(release: str = OLD.id, **changes: Any) -> dict[str, Any]:
    return {
        "ts": f"{ago(2).timestamp():.6f}",
        "rid": "r-1",
        "code": 200,
        "flags": None,
        "cluster": cluster_name(FRAUD, release),
        "host": "/state/sock/unknown.sock",
        "us": 1500,
        "ms": 2,
    } | changes


def test_attempts_are_counted_by_what_came_back(log: Log) -> None:
    codes = [200, 201, 302, 400, 404, 499, 500, 503, 504, 0, None]
    log.write(*(attempt(code=code, flags=None if code else "UC") for code in codes))
    seen = log.seen()
    assert (seen.requests, seen.client_errors, seen.errors) == (len(codes), 3, 5)
    assert log.seen(NEW.id).requests == 0


@pytest.mark.parametrize("flags", [None, "", "-"])
def test_nobody_is_blamed_for_an_attempt_that_nothing_went_wrong_with(log: Log, flags: str | None) -> None:
    # What Envoy writes where the client hung up, and where current was asked beside a slow candidate and was slower.
    log.write(attempt(code=0, us=None, flags=flags), attempt(code=0, us=None, flags="UT"), attempt())
    seen = log.seen()
    assert (seen.requests, seen.errors, seen.client_errors, seen.unfinished) == (2, 1, 0, 1)
    assert seen.latency.total == 2


def test_a_slow_answer_is_an_answer(log: Log) -> None:
    # Its limit had passed (``UT``), current was asked beside it, and it was first all the same.
    log.write(attempt(code=200, flags="UT", us=2_500_000))
    assert (log.seen().requests, log.seen().errors) == (1, 0)


def test_a_model_that_raised_is_an_error_of_the_release_whatever_the_contract_answers(log: Log) -> None:
    log.write(attempt(code=400, fault="model"), attempt(code=400, fault=None), attempt(code=200, fault="model"))
    seen = log.seen()
    assert (seen.requests, seen.errors, seen.client_errors) == (3, 2, 1)


def composite(release: str, *behind: str) -> str:
    return cluster_name(FRAUD, release) + "".join(f"--over--{slug_of(other)}" for other in behind)


def tried(request: str, code: int, **more: Any) -> list[dict[str, Any]]:
    """The two attempts of a request that the candidate has refused; ``code`` is what current said."""
    shared = {"rid": request, "cluster": composite(NEW.id, OLD.id)}
    return [
        attempt(**shared, host="/sock/new.sock", code=400, fault="refused"),
        attempt(**shared, host="/sock/old.sock", code=code, **more),
    ]


@pytest.mark.parametrize("order", [1, -1], ids=["as-asked", "the-other-way-round"])
@pytest.mark.parametrize(
    ("code", "fault", "errors"), [(200, None, 1), (400, None, 0), (500, None, 0), (200, "model", 0), (0, None, 0)]
)
def test_a_refusal_is_the_candidates_error_only_where_another_release_answers(
    log: Log, code: int, fault: str | None, errors: int, order: int
) -> None:
    log.tail.owners = {"new.sock": (str(FRAUD), NEW.slug), "old.sock": (str(FRAUD), OLD.slug)}
    log.write(*tried("r-1", code, fault=fault)[::order], attempt(rid="r-2", cluster=composite(OLD.id)))
    seen = log.seen(NEW.id)
    assert (seen.requests, seen.errors, seen.client_errors) == (1, errors, 1 - errors)


def test_a_refusal_is_not_blamed_twice_and_not_by_another_request(log: Log) -> None:
    log.tail.owners = {"new.sock": (str(FRAUD), NEW.slug), "old.sock": (str(FRAUD), OLD.slug)}
    refused, answered = tried("r-1", 200)
    log.write(refused, tried("r-2", 200)[1], attempt(rid="r-1", host="/sock/old.sock"))
    assert log.seen(NEW.id).errors == 0
    log.write(answered, answered)
    assert (log.seen(NEW.id).errors, log.seen(NEW.id).client_errors) == (1, 0)


def test_a_counter_never_falls_whatever_turns_out_later(log: Log) -> None:
    log.tail.owners = {"new.sock": (str(FRAUD), NEW.slug), "old.sock": (str(FRAUD), OLD.slug)}
    log.tail.split(TrafficPlan(endpoint=FRAUD, current=OLD.id, candidate=NEW.id, candidate_weight=500, lease_s=60))
    refused, answered = tried("r-1", 200)
    log.write(refused)
    log.tail.poll()
    before = log.tail.totals()[str(FRAUD), "candidate"]
    log.write(answered)
    log.tail.poll()
    after = log.tail.totals()[str(FRAUD), "candidate"]
    assert (before.client_errors, before.errors) == (1, 0)
    assert (after.client_errors, after.errors) == (1, 1)


def test_refusals_that_nobody_answers_hold_no_memory(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_MAX_REMEMBERED", 3)
    log.tail.owners = {"new.sock": (str(FRAUD), NEW.slug), "old.sock": (str(FRAUD), OLD.slug)}
    pairs = [tried(f"r-{at}", 200) for at in range(10)]
    log.write(*(refused for refused, _ in pairs), *(answered for _, answered in pairs))
    assert (log.seen(NEW.id).errors, log.seen(NEW.id).client_errors) == (3, 7)


def test_a_mirrored_attempt_counts_for_the_shadow(log: Log) -> None:
    log.write(attempt(cluster=f"{cluster_name(FRAUD, NEW.id)}--shadow", code=500))
    assert (log.seen(NEW.id).requests, log.seen(NEW.id).errors, log.seen().requests) == (1, 1, 0)


def test_the_socket_says_who_answered_whatever_the_cluster_says(log: Log) -> None:
    composite = f"{cluster_name(FRAUD, NEW.id)}--over--{OLD.slug}"
    log.tail.owners |= {"old.sock": (str(FRAUD), OLD.slug), "new.sock": (str(FRAUD), NEW.slug)}
    log.write(
        attempt(cluster=composite, host="/state/sock/new.sock", code=503),
        attempt(cluster=composite, host="/state/sock/old.sock", code=200),
    )
    assert (log.seen(NEW.id).requests, log.seen(NEW.id).errors) == (1, 1)
    assert (log.seen().requests, log.seen().errors) == (1, 0)


def test_a_composite_without_a_host_was_the_candidates(log: Log) -> None:
    log.write(attempt(cluster=f"{cluster_name(FRAUD, NEW.id)}--over--{OLD.slug}", host=None, code=0, flags="UF"))
    assert (log.seen(NEW.id).errors, log.seen().requests) == (1, 0)


def test_our_own_cap_on_copies_says_nothing_about_the_release(log: Log) -> None:
    log.write(attempt(code=503, flags="UO"), attempt(code=503, flags="UF,UO"), attempt(code=503, flags="UF"))
    assert (log.seen().requests, log.seen().errors) == (1, 1)


def test_strangers_are_left_out(log: Log) -> None:
    log.write(attempt(cluster="somebody-elses", host=None), attempt(cluster=None, host=None))
    assert log.seen().requests == 0
    assert log.tail.unreadable == 0


def test_latency_is_of_the_attempt_in_microseconds_where_envoy_knows_it(log: Log) -> None:
    log.write(*(attempt(us=8_750, ms=900) for _ in range(99)), attempt(us=None, ms=40), attempt(us="-", ms=40))
    latency = log.seen().latency
    assert latency.total == 101
    assert latency.quantile(0.5) == pytest.approx(8.75, rel=0.06), "bounds stand 5 % apart"
    assert latency.quantile(1.0) == pytest.approx(40, rel=0.06)


def test_latency_beyond_every_bound_is_still_counted(log: Log) -> None:
    log.write(attempt(us=10**9, ms=10**6))
    assert log.seen(since=ago(3600)).latency.total == log.seen(since=ago(3600)).requests


def test_a_line_is_counted_once_it_is_whole(log: Log) -> None:
    line = json.dumps(attempt())
    log.write(line[:40], end="")
    assert log.seen().requests == 0
    log.write(line[40:])
    assert log.seen().requests == 1
    assert log.tail.unreadable == 0


@pytest.mark.parametrize(
    "spoilt",
    [
        "{",
        "[]",
        "7",
        "{}",
        json.dumps({key: value for key, value in attempt().items() if key != "code"}),
        json.dumps({key: value for key, value in attempt().items() if key != "flags"}),
        json.dumps({key: value for key, value in attempt().items() if key != "us"}),
        json.dumps(attempt(code="abc")),
        json.dumps(attempt(host=7)),
        json.dumps(attempt(cluster={"a": 1})),
        json.dumps(attempt(flags=["UO"])),
        json.dumps(attempt(ts="1e999")),
        json.dumps(attempt(us="soon")),
        json.dumps(attempt())[:60] + json.dumps(attempt()),
        "\x00" * 50,
    ],
)
def test_a_spoilt_line_costs_itself_and_nothing_else(log: Log, spoilt: str) -> None:
    log.write(attempt(), spoilt, attempt())
    assert log.seen().requests == 2
    assert log.tail.unreadable == 1


def test_seconds_that_begin_in_the_window_are_counted(log: Log) -> None:
    begin = now().replace(microsecond=0) - timedelta(seconds=30)
    for second in range(10):
        at = (begin + timedelta(seconds=second, milliseconds=500)).timestamp()
        log.write(attempt(ts=f"{at:.6f}", ms=0))
    log.tail.recover()

    def requests(since: float, until: float) -> int:
        window = (begin + timedelta(seconds=since), begin + timedelta(seconds=until))
        return log.tail.telemetry(FRAUD, [OLD.id], since=window[0], until=window[1]).releases[OLD.id].requests

    assert requests(0, 10) == 10
    assert requests(0, 4) + requests(4, 10) == 10, "windows that meet share nothing and lose nothing"
    assert requests(2.5, 4) == 1
    assert requests(10, 20) == 0


# Files that go and come.


def test_no_log_yet_is_no_requests(log: Log) -> None:
    assert log.seen().requests == 0


def test_a_large_log_is_put_aside_and_nothing_is_lost(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "ROTATE_BYTES", 1000)
    log.write(*(attempt() for _ in range(10)))
    log.tail.poll()
    assert log.reopened == 1
    log.write(*(attempt() for _ in range(3)))
    assert log.seen().requests == 13
    assert log.path.with_suffix(".1.jsonl").exists()
    assert log.tail.unreadable == 0


def test_what_comes_into_the_old_file_after_its_renaming_counts(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "ROTATE_BYTES", 1000)
    rotated = log.path.with_suffix(".1.jsonl")

    def late() -> None:
        # Envoy's writer still holds the old file while it is being told.
        with rotated.open("a") as stream:
            stream.write(json.dumps(attempt()) + "\n")

    monkeypatch.setattr(log.tail._followers[0], "_reopen", late)
    log.write(*(attempt() for _ in range(10)))
    assert log.seen().requests == 10
    late()
    assert log.seen().requests == 12
    late()
    log.write(attempt())  # only now has it opened the new one
    assert log.seen().requests == 14


def test_what_comes_into_the_old_file_while_the_new_one_appears_counts(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write(attempt())
    assert log.seen().requests == 1
    rotated = log.path.with_suffix(".1.jsonl")
    log.path.rename(rotated)
    log.write(attempt())
    original = attempts._Follower._was_replaced

    def last_words(follower: attempts._Follower, stream: Any) -> bool:
        with rotated.open("a") as old:
            old.write(json.dumps(attempt()) + "\n")
        return original(follower, stream)

    monkeypatch.setattr(attempts._Follower, "_was_replaced", last_words)
    assert log.seen().requests == 3


def test_a_rotation_while_envoy_is_away_is_finished_when_it_is_back(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "ROTATE_BYTES", 1000)
    log.away = True
    log.write(*(attempt() for _ in range(10)))
    for _ in range(2):
        with pytest.raises(PlaneUnavailable):
            log.tail.poll()
    log.away = False
    log.write(attempt())  # it opens its logs when it starts
    assert log.seen().requests == 11
    assert log.reopened == 1


def test_a_log_that_was_cut_short_is_read_from_its_beginning(log: Log) -> None:
    log.write(*(attempt() for _ in range(5)))
    assert log.seen().requests == 5
    os.truncate(log.path, 0)
    log.write(attempt())
    assert log.seen().requests == 6


def test_a_log_that_somebody_removed_is_opened_anew(log: Log) -> None:
    """Envoy would go on writing into a file that has no name, that no rotation bounds and no restart reads."""
    log.write(*(attempt() for _ in range(5)))
    assert log.seen().requests == 5
    log.path.unlink()
    log.tail.poll()
    assert log.reopened == 1
    log.write(attempt())
    assert log.seen().requests == 6
    assert log.reopened == 1, "once is enough"


def test_a_torn_line_of_a_killed_writer_spoils_no_line_of_the_next_file(log: Log) -> None:
    log.write(attempt())
    log.write(json.dumps(attempt())[:30], end="")
    assert log.seen().requests == 1
    log.path.rename(log.path.with_suffix(".1.jsonl"))
    log.write(attempt())
    assert log.seen().requests == 2
    assert log.tail.unreadable == 1


def test_after_a_restart_both_logs_count_again(log: Log) -> None:
    log.write(*(attempt() for _ in range(4)))
    log.path.rename(log.path.with_suffix(".1.jsonl"))
    log.write(*(attempt() for _ in range(3)))
    log.tail.recover()
    assert log.seen().requests == 7


def test_the_logs_of_two_envoys_are_one_count_and_each_is_put_aside_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "ROTATE_BYTES", 1000)
    told: list[str] = []
    first, second = Log(tmp_path / "attempts.jsonl"), Log(tmp_path / "attempts-2.jsonl")
    tail = AttemptTail({log.path: partial(told.append, log.path.name) for log in (first, second)})
    first.tail = tail
    first.write(*(attempt() for _ in range(20)))
    second.write(attempt(), attempt(code=500))
    seen = first.seen()
    assert (seen.requests, seen.errors, told) == (22, 1, ["attempts.jsonl"])
    assert second.path.exists() and not first.path.exists()
    # What was put aside of one log says nothing of how far back the other one reaches.
    again = AttemptTail({log.path: partial(told.append, log.path.name) for log in (first, second)})
    first.tail = again
    again.recover()
    assert first.seen().requests == 22


@pytest.mark.parametrize("ahead", [3600.0, 365 * 86_400.0])
def test_a_clock_that_was_wrong_for_a_while_loses_nothing_and_leaves_no_window_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    real, begun = time.time, time.time()
    off, up = [0.0], [1000.0]
    monkeypatch.setattr(attempts.time, "time", lambda: real() + off[0])
    log = Log(tmp_path / "attempts.jsonl")
    log.tail = AttemptTail(
        {log.path: log.reopen}, clock=SteadyClock(wall=lambda: real() + off[0], uptime=lambda: up[0] + real() - begun)
    )

    def seen() -> tuple[int, bool]:
        window = log.tail.telemetry(FRAUD, [OLD.id], since=ago(60), until=now() + SOON)
        return window.releases[OLD.id].requests, window.complete

    log.tail.recover()
    log.write(attempt(), attempt())
    log.tail.poll()
    off[0] = ahead
    log.write(attempt(ts=f"{real() - 2 + ahead:.6f}"))
    log.tail.poll()
    off[0] = 0.0
    log.tail.poll()
    assert seen() == (3, True)


# Completeness.


def complete(log: Log, since: datetime, until: datetime) -> bool:
    found = log.tail.telemetry(FRAUD, [OLD.id], since=since, until=until)
    assert found.complete == (not found.detail)
    return found.complete


def test_a_log_that_was_just_read_is_complete(log: Log) -> None:
    log.tail.recover()
    assert complete(log, ago(60), now())
    assert complete(log, ago(60), now() + timedelta(hours=1)), "nothing can be missing from the future"


def test_a_log_that_nobody_reads_is_incomplete(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.tail.recover()
    later = now().timestamp() + 60
    monkeypatch.setattr(attempts.time, "time", lambda: later)
    assert not complete(log, ago(60), now() + timedelta(seconds=59))
    assert complete(log, ago(60), now()), "the window had ended before"


def test_without_a_rotated_log_nothing_was_ever_put_away(log: Log) -> None:
    # A supervisor that starts again in the middle of a quiet trial must not call the trial's window broken.
    log.write(attempt())
    log.tail.recover()
    assert complete(log, ago(3600), now())


def test_with_a_rotated_log_the_window_must_begin_in_it(log: Log) -> None:
    log.write(attempt(ts=f"{ago(600).timestamp():.6f}"))
    log.path.rename(log.path.with_suffix(".1.jsonl"))
    log.write(attempt())
    log.tail.recover()
    assert complete(log, ago(590), now())
    assert not complete(log, ago(700), now())


def test_a_stage_of_many_hours_is_still_counted_as_a_whole(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """An excess that takes hours to see: seconds become ten minutes, and their sum stays what it was."""
    began = int(time.time()) // COARSE_S * COARSE_S
    for hours in range(9):
        at = began + hours * 3600 + 7
        for offset in (0, 1, 500):
            log.write(
                attempt(ts=f"{at + offset:.6f}", us=1000 * (1 + offset)), attempt(ts=f"{at + offset:.6f}", code=503)
            )
        monkeypatch.setattr(time, "time", lambda now=at + 505: float(now))
        log.tail.poll()
    since = datetime.fromtimestamp(began, UTC)
    found = log.tail.telemetry(FRAUD, [OLD.id], since=since, until=datetime.fromtimestamp(at + 505, UTC))
    seen = found.releases[OLD.id]
    assert (seen.requests, seen.errors, seen.latency.total) == (9 * 6, 9 * 3, 9 * 6)
    assert seen.latency.quantile(0.99) == pytest.approx(501, rel=0.06)
    later = log.tail.telemetry(
        FRAUD, [OLD.id], since=since + timedelta(hours=4), until=datetime.fromtimestamp(at + 505, UTC)
    )
    assert later.releases[OLD.id].requests == 5 * 6
    held = sum(len(counts) for counts in log.tail._counts.values())
    assert held < 9 * 3 + 2 * 3, "six hours are one bucket each"


def test_what_is_older_than_is_kept_is_forgotten_and_said(log: Log) -> None:
    log.write(attempt(ts=f"{ago(KEPT_S + 60).timestamp():.6f}"), attempt())
    log.tail.recover()
    assert log.seen(since=ago(KEPT_S + 600)).requests == 1
    assert not complete(log, ago(KEPT_S + 600), now())
    assert complete(log, ago(KEPT_S - 60), now())


# Who was sent where.


def canary(weight: int = 500) -> TrafficPlan:
    return TrafficPlan(endpoint=FRAUD, current=OLD.id, candidate=NEW.id, candidate_weight=weight, lease_s=60)


@pytest.fixture
def split(log: Log, monkeypatch: pytest.MonkeyPatch) -> Log:
    """A canary is in force, and its requests settle at once."""
    monkeypatch.setattr(attempts, "request_limit_s", lambda _: -1.0)
    log.tail.poll()
    log.tail.split(canary())
    return log


def sent(log: Log) -> Split | None:
    log.tail.poll()
    return log.tail.telemetry(FRAUD, [OLD.id, NEW.id], since=ago(1), until=now() + SOON).split


def over(release: str, other: str) -> str:
    return f"{cluster_name(FRAUD, release)}--over--{slug_of(other)}"


def test_users_and_requests_without_one_are_units_of_the_split_and_nobody_else_is(split: Log) -> None:
    soon = {"ts": f"{time.time() + 0.01:.6f}", "ms": 0}
    split.write(
        # One user, three times, of whom the candidate fails one: current answers, and he was the candidate's.
        *(attempt(cluster=over(NEW.id, OLD.id), rid=f"a-{n}", unit="1f" * 8, **soon) for n in range(3)),
        attempt(cluster=over(NEW.id, OLD.id), host="/state/sock/old.sock", rid="a-2", unit="1f" * 8, **soon),
        attempt(rid="b-1", unit="2e" * 8, **soon),
        *(attempt(rid=f"c-{n}", unit="by-chance", **soon) for n in (1, 2, 2)),
        # A tester's, a copy for a shadow, and what an older Envoy wrote.
        attempt(NEW.id, rid="d-1", unit=None, **soon),
        attempt(NEW.id, cluster=f"{cluster_name(FRAUD, NEW.id)}--shadow", rid="c-1", unit="by-chance", **soon),
        attempt(rid="e-1", **soon),
    )
    counted = sent(split)
    assert counted is not None
    assert (counted.units, counted.users) == ({OLD.id: 3, NEW.id: 1}, 2)
    assert counted.weights == {OLD.id: 9_500, NEW.id: 500}


def test_what_became_of_users_is_counted_for_whoever_answered_them(split: Log) -> None:
    """The candidate fails somebody, and current answers him: a failure of one and an answer of the other."""
    soon = {"ts": f"{time.time() + 0.01:.6f}", "ms": 0}
    split.tail.owners = {"new.sock": (str(FRAUD), NEW.slug), "old.sock": (str(FRAUD), OLD.slug)}
    split.write(
        attempt(cluster=over(NEW.id, OLD.id), host="/state/sock/new.sock", code=503, unit="1f" * 8, **soon),
        attempt(cluster=over(NEW.id, OLD.id), host="/state/sock/old.sock", unit="1f" * 8, **soon),
        attempt(unit="2e" * 8, **soon),
        attempt(unit="by-chance", **soon),
        attempt(unit="3d" * 8, code=0, **soon),
    )
    counted = sent(split)
    assert counted is not None and counted.groups is not None
    assert [group for group in counted.groups[NEW.id] if group[1]] == [(1, 1)]
    assert sorted(group for group in counted.groups[OLD.id] if group[1]) in ([(0, 1), (0, 1)], [(0, 2)])


def test_without_users_there_are_no_groups(split: Log) -> None:
    split.write(attempt(unit="by-chance", ts=f"{time.time() + 0.01:.6f}", ms=0))
    counted = sent(split)
    assert counted is not None and counted.groups is None and "groups" not in counted.to_json()


def test_the_count_begins_anew_with_other_shares_and_only_then(split: Log) -> None:
    split.write(attempt(unit="1f" * 8, ts=f"{time.time() + 0.01:.6f}", ms=0))
    first = sent(split)
    split.tail.split(canary())
    assert sent(split) == first and first is not None and sum(first.units.values()) == 1
    split.tail.split(canary(2500))
    again = sent(split)
    assert again is not None and again.weights[NEW.id] == 2500 and sum(again.units.values()) == 0
    split.tail.split(canary().only_current())
    assert sent(split) is None


def test_what_still_may_be_under_way_at_a_slow_release_is_not_counted_yet(log: Log) -> None:
    log.tail.split(canary())
    log.write(attempt(unit="1f" * 8, ts=f"{time.time() + 0.01:.6f}", ms=0))
    counted = sent(log)
    assert counted is not None and sum(counted.units.values()) == 0
