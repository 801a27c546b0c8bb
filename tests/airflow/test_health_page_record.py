"""Rollouts, gates, series and the record over the API: held against what the ledger and the plane themselves say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from airflow_provider_mlpipex.domain.errors import LedgerTampered
from airflow_provider_mlpipex.domain.rollout.events import BatchServed, DriftJudged, Origin, OutcomesJudged
from airflow_provider_mlpipex.domain.rollout.hash_chain import verify
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.operators.base import ROLLOUT_ID
from airflow_provider_mlpipex.plugins.api import routes_rollouts
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.rollout.tenures import tenures
from airflow_provider_mlpipex.testing import use_platform
from tests.support.api_server import API, client_of
from tests.support.factories import NOON, make_gate_result
from tests.support.rollouts import ENDPOINT, World

HERE = f"{API}/endpoints/{ENDPOINT}"
RUN = "manual__2026-03-02T00:00:00+00:00/x y"


@pytest.fixture
def world() -> Any:
    played = World()
    with use_platform(played.memory):
        yield played


@pytest.fixture(autouse=True)
def nothing_shared() -> None:
    """Worlds of two tests are alike to the entry."""
    routes_rollouts.views.clear()
    routes_rollouts.series_of_looks.clear()


@pytest.fixture
def served(world: World) -> World:
    world.bring("run-1", "1.0.0", to="promoted")
    world.bring("run-2", "1.1.0", to="promoted")
    return world


@pytest.fixture
def viewer(airflow_db: None) -> TestClient:
    return client_of("viewer")


def ask(client: TestClient, what: str, **query: Any) -> Any:
    answer = client.get(f"{HERE}/{what}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_pages_of_rollouts_follow_one_another(served: World, viewer: TestClient) -> None:
    served.bring(RUN, "1.2.0", to="canary-1")
    first = ask(viewer, "rollouts", limit=2)
    second = ask(viewer, "rollouts", limit=2, before=first["next"])
    assert [each["id"] for each in [*first["items"], *second["items"]]] == [RUN, "run-2", "run-1"]
    assert second["next"] is None
    assert [each["ending"] for each in first["items"]] == [None, "promoted"]
    assert (first["items"][0]["phase"], first["items"][0]["step"], first["items"][1]["phase"]) == ("canary", 1, "ended")


@pytest.mark.parametrize("phase", ["opened", "review", "shadow", "canary-0", "canary-2", "watching", "promoted"])
def test_the_stages_of_a_rollout_are_where_its_state_is(served: World, viewer: TestClient, phase: Any) -> None:
    served.bring(RUN, "1.2.0", to=phase)
    detail = ask(viewer, "rollout", id=RUN)
    states = [(stage["stage"], stage["step"], stage["state"]) for stage in detail["stages"]]
    begun = [state for *_, state in states if state != "ahead"]
    assert begun[:-1] == ["done"] * (len(begun) - 1)
    assert begun[-1] == ("done" if phase == "promoted" else "now")
    now = {"opened": "gate", "watching": "watch", "promoted": "watch"}.get(phase, phase.partition("-")[0])
    assert states[len(begun) - 1][0] == now
    if phase.startswith("canary"):
        assert states[len(begun) - 1][1] == int(phase[-1])
    assert (
        detail["baseline"] == (served.state.previous if phase in ("watching", "promoted") else served.state.current).id
    )
    assert {change["kind"] for change in detail["changes"]} >= {"model"}


def test_gates_under_way_say_what_they_would_decide_and_when(served: World, viewer: TestClient) -> None:
    """The oracle is the watcher's own look at the same moment."""
    served.bring(RUN, "1.2.0", to="canary-0")
    served.serve(50)
    served.clock.advance(50)
    detail = ask(viewer, "rollout", id=RUN)
    (now,) = [stage for stage in detail["stages"] if stage["state"] == "now"]
    seq = served.state.seq
    looked = {result.gate: result for result in served.look(RUN, "canary", 0).results}
    assert seq == served.state.seq, "a look without news is not written down"
    assert {gate["gate"] for gate in now["gates"]} <= looked.keys()
    for gate in now["gates"]:
        result = looked[gate["gate"]]
        assert (gate["verdict"], gate["samples"], gate["value"]) == (
            result.verdict,
            result.evidence.samples,
            result.evidence.value,
        )
        assert gate["alpha"] == result.alpha
    waiting = [gate for gate in now["gates"] if gate["verdict"] == "inconclusive"]
    assert waiting and all(gate["why_not_yet"] and gate["decidable_in_s"] == 850 for gate in waiting)
    series = ask(viewer, "looks", rollout=RUN, gate=waiting[0]["gate"])["items"]
    assert [each["seq"] for each in series] == [0] * len(series)
    assert len(series) > 5 and series[-1]["samples"] == waiting[0]["samples"]
    assert [each["samples"] for each in series] == sorted(each["samples"] for each in series)


def test_ten_people_on_a_rollout_ask_the_plane_once_and_miss_nothing(
    served: World, viewer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.bring(RUN, "1.2.0", to="canary-0")
    calls: list[str] = []
    telemetry = served.memory.plane.telemetry

    def counted(endpoint: Any, **window: Any) -> Any:
        calls.append(str(endpoint))
        return telemetry(endpoint, **window)

    monkeypatch.setattr(served.memory.plane, "telemetry", counted)
    first = ask(viewer, "rollout", id=RUN)
    asked = len(calls)
    assert asked and all(ask(viewer, "rollout", id=RUN) == first for _ in range(9)) and len(calls) == asked
    served.roll_back("bad")
    assert ask(viewer, "rollout", id=RUN)["summary"]["ending"] == "rolled-back", "what was written since is there"


def test_false_alarms_are_spent_from_all_of_them_to_none(served: World, viewer: TestClient) -> None:
    budget, left = served.manifest.environments["production"].false_alarms, []
    for number, phase in enumerate(("opened", "shadow", "canary-0", "canary-1", "canary-2", "watching")):
        served.bring(f"run + {number}", f"1.{number + 2}.0", to=phase)  # type: ignore[arg-type]
        stages = ask(viewer, "rollout", id=f"run + {number}")["stages"]
        left.append({gate["alpha_left"] for stage in stages for gate in stage["gates"]}.pop())
        served.roll_back("the next one, please", rollout_id=f"run + {number}")
    assert left[0] == pytest.approx(budget)
    assert left == sorted(left, reverse=True) and len(set(left)) == len(left)
    assert left[-1] == pytest.approx(0.0, abs=1e-9)


def test_a_rollout_that_was_taken_back_says_where_and_why(served: World, viewer: TestClient) -> None:
    served.bring(RUN, "1.2.0", to="canary-0")
    assert served.watch(RUN, "canary", 0, seconds=900, failing=0.5).ending == "rolled-back"
    detail = ask(viewer, "rollout", id=RUN)
    (failed,) = [stage for stage in detail["stages"] if stage["state"] == "failed"]
    assert (failed["stage"], failed["step"], failed["verdict"]) == ("canary", 0, "fail")
    assert any(gate["verdict"] == "fail" and gate["margin"] < 0 for gate in failed["gates"])
    assert detail["summary"]["ending"] == "rolled-back" and detail["summary"]["cause"]
    assert all(stage["state"] == "ahead" for stage in detail["stages"][detail["stages"].index(failed) + 1 :])


def test_a_plane_that_is_away_costs_the_gates_and_not_the_rollout(served: World, viewer: TestClient) -> None:
    served.bring(RUN, "1.2.0", to="shadow")
    served.memory.plane.away = True
    detail = ask(viewer, "rollout", id=RUN)
    (now,) = [stage for stage in detail["stages"] if stage["state"] == "now"]
    assert all(gate["verdict"] in ("error", "inconclusive") for gate in now["gates"])
    assert detail["trouble"] or now["gates"]


@pytest.mark.parametrize("rollout_id", [f"release/{RUN}", RUN])
def test_a_dag_run_finds_its_rollouts(served: World, viewer: TestClient, rollout_id: str) -> None:
    """By the id that operators give them (``ROLLOUT_ID``), and by the run's own."""
    assert ROLLOUT_ID == "{{ dag.dag_id }}/{{ run_id }}"
    task = Origin(kind="task", dag_id="release", run_id=RUN, task_id="gates")
    World(memory=served.memory.acting_as(task)).bring(rollout_id, "1.2.0", to="opened")  # type: ignore[arg-type]
    listed = viewer.get(f"{API}/rollouts", params={"dag": "release", "run": RUN}).json()["items"]
    assert listed == [{"endpoint": str(ENDPOINT), "id": rollout_id}]
    assert viewer.get(f"{API}/rollouts", params={"dag": "other", "run": RUN}).json()["items"] == []
    (line,) = ask(viewer, "rollouts", limit=1)["items"]
    assert line["origin"]["href"] == "/dags/release/runs/manual__2026-03-02T00%3A00%3A00%2B00%3A00%2Fx%20y/tasks/gates"


def test_a_series_adds_up_to_the_telemetry_of_its_window(served: World, viewer: TestClient) -> None:
    state, since = served.state, served.clock.now()
    assert state.current and state.previous
    for errors, latency in ((0, 10.0), (250, 200.0), (0, 10.0)):
        for release, requests in ((state.current.id, 1000), (state.previous.id, 0)):
            served.memory.plane.serve(
                ENDPOINT, release, requests=requests, errors=min(errors, requests), latency_ms=latency
            )
        served.clock.advance(600)
    whole = served.memory.plane.telemetry(ENDPOINT, since=since, until=served.clock.now())
    found = ask(viewer, "telemetry", since=since.isoformat(), points=3)
    assert (found["step_s"], found["complete"]) == (600, True)
    of = {each["release"]: each for each in found["releases"]}
    current = of[state.current.id]
    assert (current["role"], of[state.previous.id]["role"]) == ("current", "previous")
    for release, each in of.items():
        side = whole.releases.get(release)
        assert sum(point["requests"] for point in each["points"]) == (side.requests if side else 0)
        assert sum(point["errors"] for point in each["points"]) == (side.errors if side else 0)
    assert [point["error_rate"] for point in current["points"]] == [0.0, 0.25, 0.0]
    slow = [point["p95_ms"] for point in current["points"]]
    assert slow[1] > 10 * slow[0] and slow[2] == slow[0]


def test_no_requests_make_no_rate_and_no_latency(served: World, viewer: TestClient) -> None:
    served.clock.advance(7200)
    found = ask(viewer, "telemetry", points=4)
    assert [point["error_rate"] for each in found["releases"] for point in each["points"]] == [None] * 8
    assert [point["p99_ms"] for each in found["releases"] for point in each["points"]] == [None] * 8
    served.memory.plane.away = True
    away = ask(viewer, "telemetry", points=4)
    assert (away["releases"], away["complete"]) == ([], False) and away["detail"]


@pytest.mark.parametrize(
    "query",
    [{"since": "yesterday"}, {"points": 97}, {"since": "2020-01-01"}, {"until": "2020-01-01", "since": "2020-01-02"}],
)
def test_a_window_that_is_none_is_refused(served: World, viewer: TestClient, query: dict[str, Any]) -> None:
    assert viewer.get(f"{HERE}/telemetry", params=query).status_code == 422


def test_events_stand_on_the_axis_of_the_series(served: World, viewer: TestClient) -> None:
    served.roll_back("wrong scores")
    marks = ask(viewer, "telemetry", since=(served.clock.now() - timedelta(hours=2)).isoformat())["events"]
    assert [mark["type"] for mark in marks][-2:] == ["rollback-decided", "rolled-back"]
    assert "wrong scores" in marks[-2]["summary"]


def test_the_last_shadow_is_the_one_that_the_ledger_keeps(served: World, viewer: TestClient) -> None:
    found = ask(viewer, "shadow")
    assert (found["rollout"], found["report"]["flips"]) == ("run-2", 0) and found["gates"]
    assert ask(viewer, "shadow", rollout="nobody")["report"] is None


def test_what_served_when(served: World, viewer: TestClient) -> None:
    served.roll_back("bad")
    kept = tenures(served.memory, ENDPOINT)
    first = ask(viewer, "history", limit=2)
    second = ask(viewer, "history", limit=2, before=first["next"])
    shown = [*first["items"], *second["items"]]
    assert [each["release"] for each in shown] == [tenure.release for tenure in reversed(kept)]
    for tenure in kept:
        then = ask(viewer, "as-of", at=tenure.since.isoformat())
        assert then["current"]["id"] == tenure.release
    assert ask(viewer, "as-of", at=(kept[1].since + timedelta(seconds=1)).isoformat())["approved_by"] == "ada"
    before = ask(viewer, "as-of", at="2020-01-01T00:00:00Z")
    assert (before["seq"], before["current"], before["traffic"]) == (0, None, [])


def test_every_entry_can_be_read_in_pages_and_by_what_it_is_about(served: World, viewer: TestClient) -> None:
    chain = served.memory.ledger.read(ENDPOINT)
    shown, before = [], None
    while True:
        page = ask(viewer, "entries", limit=7, **({} if before is None else {"before": before}))
        shown += page["items"]
        before = page["next"]
        if before is None:
            break
    assert [(each["seq"], each["hash"]) for each in shown] == [(each.seq, each.hash) for each in reversed(chain)]
    assert all(each["summary"] for each in shown)
    promoted = ask(viewer, "entries", types="promoted", rollout="run-2")["items"]
    assert [each["type"] for each in promoted] == ["promoted"]


def test_decisions_say_who_why_and_on_what_evidence(served: World, viewer: TestClient) -> None:
    served.roll_back("wrong scores")
    back, second, first = ask(viewer, "decisions")["items"]
    assert (back["kind"], back["cause"], second["kind"]) == ("rolled-back", "wrong scores", "promoted")
    assert second["approved_by"] == "ada" and second["evidence"]
    state = served.state
    assert state.current and first["release"] == state.current.id
    assert first["artifact_digest"] == state.current.model.artifact_digest


def test_alerts_say_whether_they_reached_anybody(served: World, viewer: TestClient) -> None:
    served.memory.alerter.trouble = "the pager is away"
    served.roll_back("wrong scores")
    (alert, *_) = ask(viewer, "alerts")["items"]
    assert (alert["state"], alert["tries"], alert["severity"]) == ("owed", 1, "critical")
    assert "the pager is away" in alert["failures"][0]
    served.memory.alerter.trouble = ""
    served.clock.advance(3600)
    journal.load(served.memory, ENDPOINT)
    from airflow_provider_mlpipex.services import alerts

    alerts.deliver_owed(served.memory, served.state)
    (alert, *_) = ask(viewer, "alerts")["items"]
    assert (alert["state"], alert["tries"]) == ("delivered", 2) and alert["notified"]


def test_the_audit_reads_two_entries_and_finds_a_chain_that_was_written_anew(served: World, viewer: TestClient) -> None:
    served.roll_back("bad")
    found = ask(viewer, "audit")
    chain = served.memory.ledger.read(ENDPOINT)
    assert (found["entries"], found["head"], found["agrees"]) == (len(chain), chain[-1].hash, True)
    noted = served.memory.plane.noted[str(ENDPOINT)]
    served.memory.plane.noted[str(ENDPOINT)] = noted.model_copy(update={"hash": "0" * 64})
    assert ask(viewer, "audit")["agrees"] is False
    served.memory.plane.away = True
    assert ask(viewer, "audit")["agrees"] is None


def test_a_chain_is_verified_page_by_page_up_to_the_entry_that_is_forged(served: World, viewer: TestClient) -> None:
    chain, after = served.memory.ledger.read(ENDPOINT), 0
    while after is not None:
        page = ask(viewer, "audit/verify", after=after, limit=10)
        after = page["next"]
    assert page["verified_until"] == page["head"] == len(chain)
    kept = served.memory.ledger._chains[ENDPOINT]
    forged = kept[20].event.model_copy(update={"reason": "x"} if hasattr(kept[20].event, "reason") else {})
    kept[20] = kept[20].model_copy(update={"event": forged, "hash": "f" * 64})
    with pytest.raises(LedgerTampered):
        verify(kept)
    refused = viewer.get(f"{HERE}/audit/verify", params={"after": 10, "limit": 50})
    assert (refused.status_code, refused.json()["runbook"]) == (409, "ledger-tampered")
    assert "entry 21" in refused.json()["thing"]
    assert viewer.get(f"{HERE}/audit/verify", params={"after": 10**6}).status_code == 404


def test_drift_leads_to_its_batches_and_the_run_that_sent_them(served: World, viewer: TestClient) -> None:
    state = served.state
    assert state.current
    task = Origin(kind="task", dag_id="score", run_id=RUN, task_id="send")
    sent = BatchServed(batch="2026-03-01", rows=500, digest=digest_of("rows"), answered={state.current.id: 500})
    journal.note(served.memory.acting_as(task), ENDPOINT, sent)
    facts = {
        "ranking": [{"column": "amount", "verdict": "fail", "psi": 0.4, "damage": "Infinity"}],
        "columns": [{"column": "amount", "verdict": "fail"}],
        "batches": [
            {"batch": "2026-03-01", "rows": 480, "shares": {"amount": 0.9}},
            {"batch": "", "rows": 20, "shares": {"amount": 0.1}},
        ],
    }
    window = {"since": NOON - timedelta(days=1), "until": NOON}
    drift = {"release": state.current.id, "verdict": "fail", "reason": "amount moved", "facts": facts, **window}
    journal.note(served.memory, ENDPOINT, DriftJudged.model_validate(drift))
    (line,) = ask(viewer, "drift")["items"]
    assert line["features"] == [{"column": "amount", "psi": 0.4, "damage": None}]
    event = ask(viewer, "drift-event", seq=line["seq"])
    assert [(each["id"], each["share"], each["rows"]) for each in event["batches"]] == [
        ("2026-03-01", 0.9, 480),
        ("", 0.1, 20),
    ]
    assert event["batches"][0]["origin"]["run_id"] == RUN and event["batches"][1]["origin"] is None
    assert ask(viewer, "batch", id="2026-03-01")["share"] == 0.9
    assert [each["id"] for each in ask(viewer, "batches")["items"]] == ["2026-03-01"]
    assert viewer.get(f"{HERE}/batch", params={"id": "nobody"}).status_code == 404
    assert viewer.get(f"{HERE}/drift-event", params={"seq": 1}).status_code == 404


def test_rows_are_for_those_who_may_act_and_for_nobody_else(served: World, viewer: TestClient) -> None:
    state = served.state
    assert state.current
    served.memory.plane.answer(
        ENDPOINT,
        "r-1",
        {state.current.id: float("nan")},
        labels={state.current.id: "1"},
        inputs={"amount": float("inf")},
    )
    served.clock.advance(1)
    query = {"release": state.current.id}
    assert viewer.get(f"{HERE}/rows", params=query).status_code == 403
    rows = ask(client_of("user"), "rows", **query)
    assert rows["sampled"] >= 1 and rows["columns"][:3] == ["request_id", "at", "batch"]


def test_late_labels_and_checks_of_tables(served: World, viewer: TestClient) -> None:
    state = served.state
    assert state.current
    judged = OutcomesJudged(
        release=state.current.id,
        since=NOON - timedelta(days=1),
        until=NOON,
        rows=40,
        verdict="fail",
        results=(make_gate_result("recall", "fail"),),
    )
    journal.note(served.memory, ENDPOINT, judged)
    (line,) = ask(viewer, "outcomes")["items"]
    assert (line["rows"], line["gates"][0]["verdict"]) == (40, "fail")
    assert ask(viewer, "quality")["items"] == []
