"""Requests found again in prediction logs: who answered the client, and of what nobody can tell."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.adapters.embedded import plane as embedded_plane
from airflow_provider_mlpipex.domain.errors import PlaneUnavailable
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import ServedAnswers
from airflow_provider_mlpipex.serving.prediction_log.lookup import find
from tests.support.prediction_logs import FRAUD, NEW, OLD, Logs


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path)


def write(logs: Logs, release: str, *rids: str, output: Any = 0.5, **changes: Any) -> None:
    logs.write(release, *(logs.answer(rid, output, release=release, **changes) for rid in rids))


def found(logs: Logs, *rids: str) -> ServedAnswers:
    return find(logs.root, FRAUD, rids)


def releases(answers: ServedAnswers) -> dict[str, str]:
    return {row.request_id: row.release for row in answers.rows}


def test_an_endpoint_without_logs_has_served_nobody(logs: Logs) -> None:
    assert found(logs, "a") == ServedAnswers()


def test_every_row_of_every_release_is_found_by_its_id(logs: Logs) -> None:
    write(logs, OLD, "a", ago=100.0)
    write(logs, NEW, "b", ago=50.0)
    write(logs, NEW, "b", row=1, output=0.75, ago=50.0)
    seen = found(logs, "b#1", "a", "c")
    assert releases(seen) == {"b#1": NEW, "a": OLD}
    row = seen.rows[0]
    assert (row.score, row.predicted, row.kind, row.probabilities) == (0.75, "0.75", "number", None)
    assert abs((row.at - logs.now) + timedelta(seconds=50)) < timedelta(milliseconds=1)


def test_what_was_mirrored_was_served_to_nobody(logs: Logs) -> None:
    write(logs, OLD, "a")
    write(logs, NEW, "a", "only-mirrored", output=0.9, ago=9.0, shadow=True)
    seen = found(logs, "a", "only-mirrored")
    assert releases(seen) == {"a": OLD}
    assert seen.ambiguous == ()


def test_an_error_is_no_answer_and_the_release_that_stepped_in_is_who_served(logs: Logs) -> None:
    logs.write(NEW, logs.error("a"))
    write(logs, OLD, "a", ago=9.99)
    assert releases(found(logs, "a")) == {"a": OLD}


def test_an_answer_that_came_too_late_reached_nobody(logs: Logs) -> None:
    """The candidate was given up after 2 s and went on; the current release, asked then, was done before it."""
    write(logs, NEW, "a", output=0.9, ago=10.0, ms=5000.0)
    write(logs, OLD, "a", output=0.1, ago=12.99, ms=10.0)
    seen = found(logs, "a")
    assert (releases(seen), seen.rows[0].score, seen.ambiguous) == ({"a": OLD}, 0.1, ())


def test_an_id_that_a_client_used_again_is_ambiguous(logs: Logs) -> None:
    write(logs, OLD, "same-release", "another-release", ago=100.0)
    write(logs, OLD, "same-release", output=0.9, ago=10.0)
    write(logs, NEW, "another-release", ago=10.0)
    seen = found(logs, "same-release", "another-release")
    assert (seen.rows, seen.ambiguous) == ((), ("same-release", "another-release"))


def test_a_request_that_was_repeated_with_the_same_answer_is_one(logs: Logs) -> None:
    write(logs, OLD, "a", ago=100.0)
    write(logs, OLD, "a", ago=10.0)
    seen = found(logs, "a")
    assert (releases(seen), seen.ambiguous) == ({"a": OLD}, ())


def test_probabilities_of_more_than_two_classes_come_along(logs: Logs) -> None:
    write(logs, OLD, "two", output=[0.25, 0.75])
    logs.write(OLD, logs.answer("three", [0.25, 0.5, 0.25], release=OLD) | {"output": [0.25, 0.5, 0.25]})
    rows = {row.request_id: row for row in found(logs, "two", "three").rows}
    assert (rows["two"].kind, rows["two"].score, rows["two"].probabilities) == ("probability", 0.75, None)
    assert (rows["three"].predicted, rows["three"].probabilities) == ("1", (0.25, 0.5, 0.25))


def test_a_lookup_is_told_how_far_back_each_log_reaches(logs: Logs) -> None:
    logs.write(OLD, '{"torn', logs.lost(3, ago=900.0), logs.answer("a", ago=800.0, release=OLD))
    write(logs, NEW, "c", ago=50.0)
    since = found(logs, "z").log_since
    assert {release: round((logs.now - moment).total_seconds()) for release, moment in since.items()} == {
        OLD: 800,
        NEW: 50,
    }


def test_odd_lines_and_strange_ids_do_no_harm(logs: Logs) -> None:
    strange = "'; DROP TABLE log; --"
    logs.write(OLD, "[1, 2]", "null", '{"t": 1}', '{"rid": "a"', '{"rid": "b", "t": "soon", "status": 200}')
    write(logs, OLD, strange, "ünï", output=float("nan"))
    rows = found(logs, strange, "ünï").rows
    assert [(row.request_id, row.score) for row in rows] == [(strange, None), ("ünï", None)]


def test_a_log_that_cannot_be_read_is_unavailable(logs: Logs) -> None:
    write(logs, OLD, "a")
    path = next(logs.root.rglob("*.jsonl"))
    path.unlink()
    path.symlink_to(logs.root / "nowhere")
    with pytest.raises(PlaneUnavailable, match="prediction logs of production/fraud-scorer"):
        found(logs, "a")


def test_questions_fit_into_a_body_and_ask_for_every_id_once() -> None:
    rids = [f"{number:0150}" for number in range(14_000)]
    chunks = embedded_plane._in_chunks([*rids, *rids])
    assert [rid for chunk in chunks for rid in chunk] == rids
    assert len(chunks) == 3
    assert embedded_plane._in_chunks([]) == []
