"""The stage envelope: what log, metrics, span and ledger are told of a stage, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from airflow_provider_mlpipex import observability
from airflow_provider_mlpipex.decorators.gate import read_gates
from airflow_provider_mlpipex.domain.errors import GateFailed, InvariantBroken, LedgerUnavailable, MlpipexError
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.rollout import hash_chain
from airflow_provider_mlpipex.domain.rollout.events import Origin, StageEnded
from airflow_provider_mlpipex.observability import NoMetrics, stage, trace_id
from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform
from tests.support.factories import NOON
from tests.support.faults import Faulty, Killed
from tests.support.rollouts import ENDPOINT

TAGS = {"stage": "canary", "endpoint": str(ENDPOINT)}


class Recorder:
    """Logger and metrics in one: keeps what it was told, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []
        self.counted: list[tuple[str, dict[str, str] | None]] = []
        self.timed: list[tuple[str, float, dict[str, str] | None]] = []

    def info(self, event: str, **facts: Any) -> None:
        self.lines.append(("info", event, facts))

    def warning(self, event: str, **facts: Any) -> None:
        self.lines.append(("warning", event, facts))

    def error(self, event: str, **facts: Any) -> None:
        self.lines.append(("error", event, facts))

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, str] | None = None) -> None:
        assert count == 1
        self.counted.append((stat, tags))

    def timing(self, stat: str, dt: float, *, tags: dict[str, str] | None = None) -> None:
        self.timed.append((stat, dt, tags))


class Stopwatch:
    """Each reading is 1.5 seconds after the one before."""

    def __init__(self) -> None:
        self.shown = 0.0

    def __call__(self) -> float:
        self.shown += 1.5
        return self.shown


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Spans of this test alone, whatever tracer provider the process has otherwise."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(observability.trace, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


@pytest.fixture
def told() -> Recorder:
    return Recorder()


@pytest.fixture
def platform() -> MemoryPlatform:
    return memory_platform(origin=Origin(kind="task", dag_id="release", run_id="r1", task_id="canary_5", try_number=2))


def in_stage(platform: Any, told: Recorder, **options: Any) -> Any:
    return stage("canary", endpoint=ENDPOINT, platform=platform, log=told, metrics=told, clock=Stopwatch(), **options)


def last_entry(platform: MemoryPlatform) -> Any:
    """Of the chain, where the stage failed; else the last record beside it."""
    entries = platform.ledger.read(ENDPOINT)
    hash_chain.verify(entries)
    return [*entries, *reversed(platform.ledger.records(ENDPOINT))][-1]


def result(verdict: str = "pass") -> GateResult:
    evidence = Evidence(source="canary", metric="error_rate", value=0.25, samples=40, since=NOON, until=NOON)
    return GateResult.model_validate(
        {
            "gate": "errors",
            "verdict": verdict,
            "rule": "canary.error_rate at most 1%",
            "evidence": evidence,
            "threshold": 0.01,
            "margin": -0.24,
            "reason": "observed 25%",
        }
    )


# A stage that goes well.


def test_log_and_metrics_tell_beginning_and_end(platform: MemoryPlatform, told: Recorder) -> None:
    with in_stage(platform, told) as envelope:
        envelope.add(release="1.1.0", weight=500)
    assert told.lines == [
        ("info", "stage started", TAGS),
        ("info", "stage ended", {**TAGS, "outcome": "succeeded", "seconds": 1.5, "release": "1.1.0", "weight": 500}),
    ]
    assert told.counted == [("mlpipex.stage.ended", {**TAGS, "outcome": "succeeded"})]
    assert told.timed == [("mlpipex.stage.duration", 1500.0, TAGS)]


def test_the_ledger_keeps_who_ran_it_and_what_came_of_it(platform: MemoryPlatform, told: Recorder) -> None:
    with in_stage(platform, told) as envelope:
        envelope.add(release="1.1.0")
    entry = last_entry(platform)
    assert entry.event == StageEnded(stage="canary", outcome="succeeded", seconds=1.5, facts={"release": "1.1.0"})
    assert (entry.origin.dag_id, entry.origin.task_id, entry.origin.try_number) == ("release", "canary_5", 2)


def test_the_span_carries_the_same_facts(platform: MemoryPlatform, told: Recorder, spans: InMemorySpanExporter) -> None:
    with in_stage(platform, told) as envelope:
        envelope.add(release="1.1.0", weight=500)
        inside = trace_id()
    (span,) = spans.get_finished_spans()
    assert span.name == "mlpipex.canary"
    assert dict(span.attributes or {}) == {
        **TAGS,
        "mlpipex.release": "1.1.0",
        "mlpipex.weight": "500",
        "mlpipex.outcome": "succeeded",
    }
    assert span.status.is_unset
    assert inside == f"{span.context.trace_id:032x}"


def test_the_entry_names_the_trace_of_its_span(
    platform: MemoryPlatform, told: Recorder, spans: InMemorySpanExporter
) -> None:
    with in_stage(platform, told):
        pass
    (span,) = spans.get_finished_spans()
    assert last_entry(platform).origin.trace_id == f"{span.context.trace_id:032x}"


def test_a_trace_that_the_origin_brought_is_kept(
    platform: MemoryPlatform, told: Recorder, spans: InMemorySpanExporter
) -> None:
    brought = platform.acting_as(Origin(kind="task", trace_id="f" * 32))
    with in_stage(brought, told):
        pass
    assert last_entry(platform).origin.trace_id == "f" * 32


def test_stages_nest_under_the_span_that_is_current(
    platform: MemoryPlatform, told: Recorder, spans: InMemorySpanExporter
) -> None:
    with in_stage(platform, told), in_stage(platform, told):
        pass
    inner, outer = spans.get_finished_spans()
    assert inner.parent is not None and inner.parent.span_id == outer.context.span_id


def test_nothing_is_traced_outside_a_span() -> None:
    assert trace_id() == ""


@pytest.mark.parametrize("outcome", ["deferred", "skipped"])
def test_a_body_may_say_how_it_ended(platform: MemoryPlatform, told: Recorder, outcome: Any) -> None:
    with in_stage(platform, told) as envelope:
        envelope.outcome = outcome
    assert told.counted[-1] == ("mlpipex.stage.ended", {**TAGS, "outcome": outcome})
    assert last_entry(platform).event.outcome == outcome


def test_facts_that_a_log_line_owns_do_not_hide_its_own_and_stand_in_the_ledger(
    platform: MemoryPlatform, told: Recorder
) -> None:
    owned = {"event": 1, "stage": 2, "endpoint": 3, "outcome": 4, "seconds": 5, "task_id": 6, "level": 7}
    with in_stage(platform, told) as envelope:
        envelope.add(**owned, release="1.1.0")
    shown = {"event_": 1, "task_id_": 6, "level_": 7, "release": "1.1.0"}
    assert told.lines[-1][2] == {**TAGS, "outcome": "succeeded", "seconds": 1.5, **shown}
    assert last_entry(platform).event.facts == {**owned, "release": "1.1.0"}


def test_what_is_no_json_is_kept_as_text_and_does_not_break_the_ledger(
    platform: MemoryPlatform, told: Recorder
) -> None:
    with in_stage(platform, told) as envelope:
        envelope.add(auc=float("nan"), nested={"worst": [float("-inf"), 0.5]}, at=NOON, model=ENDPOINT, thing=Stopwatch)
    facts = last_entry(platform).event.facts
    assert (facts["auc"], facts["nested"], facts["at"]) == (
        "NaN",
        {"worst": ["-Infinity", 0.5]},
        "2026-03-01T12:00:00Z",
    )
    assert "Stopwatch" in facts["thing"]
    assert last_entry(platform).event == StageEnded.model_validate(last_entry(platform).event.to_json())


def test_gates_are_logged_and_counted_with_their_numbers(platform: MemoryPlatform, told: Recorder) -> None:
    with in_stage(platform, told) as envelope:
        envelope.gates([result("fail"), result("pass")])
    assert told.counted[:2] == [
        ("mlpipex.gate.judged", {"gate": "errors", "verdict": "fail"}),
        ("mlpipex.gate.judged", {"gate": "errors", "verdict": "pass"}),
    ]
    level, event, facts = told.lines[1]
    assert (level, event) == ("info", "gate judged")
    assert facts == {
        "gate": "errors",
        "verdict": "fail",
        "rule": "canary.error_rate at most 1%",
        "observed": "0.25",
        "threshold": "0.01",
        "margin": "-0.24",
        "samples": 40,
        "reason": "error_rate: observed 25%",
    }


#: What a log page shows of a line before it is cut.
PAGE_WIDTH = 100


def shown(line: tuple[str, str, dict[str, Any]]) -> str:
    """A line as Airflow's log page writes it: the event, then each fact."""
    return (line[1] + "".join(f" {name}={value}" for name, value in line[2].items()))[:PAGE_WIDTH]


def test_a_gate_says_in_the_width_of_a_page_what_was_observed_and_what_is_asked_for(
    platform: MemoryPlatform, told: Recorder
) -> None:
    (gate,) = read_gates(["recall at least 80% from at least 5000 samples"], where="here")
    evidence = Evidence(source="evaluation", metric="recall", value=0.01, samples=12_000, since=NOON, until=NOON)
    few = evidence.model_copy(update={"samples": 10})
    with in_stage(platform, told) as envelope:
        envelope.gates([judge(gate, evidence, now=NOON), judge(gate, few, now=NOON), judge(gate, None, now=NOON)])
    failed, undecided, unknown = [shown(line) for line in told.lines[1:4]]
    assert failed.startswith(
        "gate judged verdict=fail reason=recall: observed 1% from 12000 samples, threshold at least 80%"
    )
    assert (
        undecided
        == "gate judged verdict=inconclusive reason=recall: 10 samples, at least 5000 needed; observed 1% so far"
    )
    assert unknown.startswith("gate judged verdict=inconclusive reason=recall: no evidence of evaluation.recall gate=")


def test_a_stage_that_fails_says_so_and_by_what_first(platform: MemoryPlatform, told: Recorder) -> None:
    with pytest.raises(GateFailed), in_stage(platform, told) as envelope:
        envelope.add(release="1.1.0-rt1.0.0-3fa9c2d1", verdict="fail")
        raise gate_failed()
    assert shown(told.lines[-1]).startswith(
        "stage ended outcome=failed verdict=fail error_class=GateFailed release=1.1.0"
    )


def test_a_rollback_is_counted_and_its_cause_kept(platform: MemoryPlatform, told: Recorder) -> None:
    with in_stage(platform, told) as envelope:
        envelope.rolled_back("too slow")
    assert told.counted[0] == ("mlpipex.rollback", {"endpoint": str(ENDPOINT)})
    assert last_entry(platform).event.facts == {"rollback_cause": "too slow"}


def test_a_terminal_collects_nothing(platform: MemoryPlatform, told: Recorder) -> None:
    with stage("rollback", endpoint=ENDPOINT, platform=platform, log=told, metrics=NoMetrics()) as envelope:
        envelope.rolled_back("by hand")
    assert last_entry(platform).event.stage == "rollback"


# A stage that fails.


def gate_failed() -> GateFailed:
    return GateFailed("release 1.1.0", value="25%", limit="at most 1%", remedy="mend the model")


def test_a_failure_is_told_everywhere_with_the_errors_fields(
    platform: MemoryPlatform, told: Recorder, spans: InMemorySpanExporter
) -> None:
    with pytest.raises(GateFailed), in_stage(platform, told) as envelope:
        envelope.add(release="1.1.0")
        raise gate_failed()
    ended = last_entry(platform).event
    assert (ended.outcome, ended.facts) == ("failed", {"release": "1.1.0", "error_class": "GateFailed"})
    assert ended.error == {
        "error": "GateFailed",
        "thing": "release 1.1.0",
        "value": "25%",
        "limit": "at most 1%",
        "remedy": "mend the model",
        "runbook": "gate-failed",
    }
    assert told.lines[-1][1:] == (
        "stage ended",
        {**TAGS, "outcome": "failed", "seconds": 1.5, "release": "1.1.0", "error_class": "GateFailed"},
    )
    assert told.counted == [("mlpipex.stage.ended", {**TAGS, "outcome": "failed"})]
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None and span.attributes["mlpipex.outcome"] == "failed"
    assert span.status.status_code.name == "ERROR"
    assert [event.name for event in span.events] == ["exception"]


@pytest.mark.parametrize("error", [ZeroDivisionError("a secret may stand here"), Killed(), KeyboardInterrupt()])
def test_an_error_of_any_other_kind_is_recorded_by_its_name_alone(
    platform: MemoryPlatform, told: Recorder, error: BaseException
) -> None:
    with pytest.raises(type(error)), in_stage(platform, told):
        raise error
    ended = last_entry(platform).event
    assert (ended.outcome, ended.error, ended.facts) == ("failed", None, {"error_class": type(error).__name__})


def test_a_failed_stage_says_failed_whatever_its_body_said_before(platform: MemoryPlatform, told: Recorder) -> None:
    with pytest.raises(GateFailed), in_stage(platform, told) as envelope:
        envelope.outcome = "deferred"
        raise gate_failed()
    assert last_entry(platform).event.outcome == "failed"


def test_a_stage_that_cannot_be_recorded_has_not_succeeded(platform: MemoryPlatform, told: Recorder) -> None:
    ledger = Faulty(platform.ledger)
    ledger.once("before", "record", LedgerUnavailable("ledger", limit="a limit", remedy="a remedy"))
    with pytest.raises(LedgerUnavailable), in_stage(replace(platform, ledger=ledger), told):
        pass
    assert platform.ledger.read(ENDPOINT) == []


def test_a_ledger_that_is_away_as_well_does_not_hide_the_stages_own_error(
    platform: MemoryPlatform, told: Recorder
) -> None:
    ledger = Faulty(platform.ledger)
    ledger.once("before", "append", LedgerUnavailable("ledger", limit="a limit", remedy="a remedy"))
    with pytest.raises(GateFailed), in_stage(replace(platform, ledger=ledger), told):
        raise gate_failed()
    level, event, facts = told.lines[-1]
    assert (level, event, facts["error"]) == ("error", "stage not recorded", "LedgerUnavailable")


# Invariants.


class Checked:
    """An invariant that answers ``broken`` and notes when it was asked."""

    def __init__(self, asked: list[str], name: str, broken: str | None = None) -> None:
        self.asked, self.name, self.broken = asked, name, broken

    def __call__(self) -> str | None:
        self.asked.append(self.name)
        return self.broken


def test_invariants_are_checked_before_and_after(platform: MemoryPlatform, told: Recorder) -> None:
    asked: list[str] = []
    before = {"a": Checked(asked, "a"), "b": Checked(asked, "b")}
    with in_stage(platform, told, before=before, after={"c": Checked(asked, "c")}):
        asked.append("body")
    assert asked == ["a", "b", "body", "c"]


def test_a_broken_invariant_before_keeps_the_body_from_running(platform: MemoryPlatform, told: Recorder) -> None:
    asked: list[str] = []
    before = {"everything is ready": Checked(asked, "a", "1.1.0 is failed")}
    with pytest.raises(InvariantBroken) as broken, in_stage(platform, told, before=before):
        asked.append("body")
    assert asked == ["a"]
    assert (broken.value.thing, broken.value.value, broken.value.limit) == (
        "stage canary, before it",
        "1.1.0 is failed",
        "everything is ready",
    )
    ended = last_entry(platform).event
    assert ended.outcome == "failed" and ended.error["error"] == "InvariantBroken"


def test_a_broken_invariant_after_fails_a_stage_whose_body_went_well(platform: MemoryPlatform, told: Recorder) -> None:
    with (
        pytest.raises(InvariantBroken, match="canary, after it"),
        in_stage(platform, told, after={"the plane serves it": Checked([], "a", "another plan")}) as envelope,
    ):
        envelope.add(weight=500)
    ended = last_entry(platform).event
    assert (ended.outcome, ended.facts["weight"]) == ("failed", 500)


def test_an_invariant_after_is_not_asked_when_the_body_failed(platform: MemoryPlatform, told: Recorder) -> None:
    asked: list[str] = []
    with pytest.raises(GateFailed), in_stage(platform, told, after={"c": Checked(asked, "c", "broken, too")}):
        raise gate_failed()
    assert asked == []


def test_an_invariant_that_cannot_be_checked_is_not_one_that_holds(platform: MemoryPlatform, told: Recorder) -> None:
    def away() -> str | None:
        raise MlpipexError("plane", limit="an answer", remedy="wait")

    with pytest.raises(MlpipexError), in_stage(platform, told, after={"the plane serves it": away}):
        pass
    assert last_entry(platform).event.outcome == "failed"


def test_every_metric_stands_in_the_modules_documentation() -> None:
    constants = {name: value for name, value in vars(observability).items() if str(value).startswith("mlpipex.")}
    assert {"STAGE_DURATION", "STAGE_COUNT", "GATE_COUNT", "ROLLBACK_COUNT"} <= constants.keys()
    assert all(f"``{value}``" in str(observability.__doc__) for value in constants.values())
