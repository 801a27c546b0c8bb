"""Names of every event, metric and span, and the stage envelope that emits them. Nothing else invents names.

Metrics (low-cardinality tags only: ``stage``, ``endpoint``, ``outcome``):

- ``mlpipex.stage.duration``: of one run of a stage, in milliseconds like Airflow's own timers
- ``mlpipex.stage.ended``: count, by outcome
- ``mlpipex.gate.judged``: count, tags ``gate`` and ``verdict``
- ``mlpipex.quality.judged``: count of judged tables, tags ``stage``, ``endpoint`` and ``verdict``
- ``mlpipex.drift.judged``: count of looks at drift, tags ``endpoint`` and ``verdict``
- ``mlpipex.rollback``: count of decided rollbacks
- ``mlpipex.watch.endpoints``, ``mlpipex.watch.round``, ``mlpipex.watch.lag``: of one round of the standing watch, how
  many endpoints it looked at, what it took, and how late it began, in milliseconds

Spans are named ``mlpipex.<stage>`` and nest under whatever span is current (Airflow's task span in a worker).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

from opentelemetry import trace
from pydantic_core import to_json

from airflow_provider_mlpipex.domain.errors import InvariantBroken, MlpipexError
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.quality.report import QualityReport
from airflow_provider_mlpipex.domain.rollout.events import StageEnded, StageName
from airflow_provider_mlpipex.domain.shadow.report import tell_slice
from airflow_provider_mlpipex.log_fields import Log, ReadableLog, on_lines
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform

if TYPE_CHECKING:
    # It needs numpy, which whoever parses a Dag file has no use for.
    from airflow_provider_mlpipex.services.drift.check import DriftCheck

STAGE_STARTED = "stage started"
STAGE_FAILED = "stage failed"
STAGE_ENDED = "stage ended"
GATE_JUDGED = "gate judged"
QUALITY_JUDGED = "quality judged"
EXPECTATION_BROKEN = "expectation broken"
SHADOW_COMPARED = "shadow compared"
SLICE_WORSE = "slice worse than the whole"
LOOK_FAILED = "look failed"
ENDPOINT_LOOKED = "endpoint looked at"
STILL_WATCHING = "still watching"
RECORDS_PRUNED = "routine records pruned"
DRIFT_LOOKED = "drift looked at"
DRIFT_JUDGED = "drift judged"
COLUMN_DRIFTED = "column drifted"
BATCH_CARRIES = "batch carries drift"
BATCH_FAULTY = "batch is unlike the others"
DRIFTED_ROW = "drifted row"
#: Faulty batches that a stage's record names.
MAX_FAULTY = 10
STAGE_NOT_RECORDED = "stage not recorded"
STAGE_DURATION = "mlpipex.stage.duration"
STAGE_COUNT = "mlpipex.stage.ended"
GATE_COUNT = "mlpipex.gate.judged"
QUALITY_COUNT = "mlpipex.quality.judged"
DRIFT_COUNT = "mlpipex.drift.judged"
ROLLBACK_COUNT = "mlpipex.rollback"
WATCHED_ENDPOINTS = "mlpipex.watch.endpoints"
WATCH_ROUND = "mlpipex.watch.round"
WATCH_LAG = "mlpipex.watch.lag"

StageResult = Literal["succeeded", "failed", "deferred", "skipped"]


class Metrics(Protocol):
    """The part of Airflow's ``Stats`` that the provider uses."""

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, str] | None = None) -> Any: ...
    def timing(self, stat: str, dt: float, *, tags: dict[str, str] | None = None) -> Any: ...


class NoMetrics:
    """For a terminal, where nobody collects."""

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, str] | None = None) -> None: ...
    def timing(self, stat: str, dt: float, *, tags: dict[str, str] | None = None) -> None: ...


class Invariant(Protocol):
    """Something that must hold while a stage is healthy; answers with what is wrong, or ``None``."""

    def __call__(self) -> str | None: ...


class Envelope:
    """Handed to the stage's body: facts added here go into log, span and ledger alike."""

    def __init__(self, *, stage: StageName, endpoint: EndpointRef, log: ReadableLog, metrics: Metrics) -> None:
        self.stage = stage
        self.endpoint = endpoint
        self.outcome: StageResult = "succeeded"
        self.facts: dict[str, Any] = {}
        self.log = log
        self.metrics = metrics

    def add(self, **facts: Any) -> None:
        """Facts as JSON, because the ledger keeps them; what is no JSON (NaN, a path, an object) is kept as text."""
        self.facts.update(json.loads(to_json(facts, inf_nan_mode="strings", fallback=str)))

    def gates(self, results: Sequence[GateResult]) -> None:
        """Log and count every gate with observed value, threshold and margin.

        A log page is about a hundred characters wide and cuts the rest, so the verdict comes first, and then, in one
        sentence, what was observed beside what is asked for.
        """
        for result in results:
            self.metrics.incr(GATE_COUNT, tags={"gate": result.gate, "verdict": result.verdict})
            self.log.info(
                GATE_JUDGED,
                verdict=result.verdict,
                reason=f"{result.evidence.metric}: {result.reason}",
                gate=result.gate,
                rule=result.rule,
                observed=str(result.evidence.value),
                threshold=str(result.threshold),
                margin=str(result.margin),
                samples=result.evidence.samples,
            )

    def quality(self, report: QualityReport) -> None:
        """Log and count the judgement of one table, and every expectation that does not hold."""
        verdict = "fail" if report.critical else "pass" if report.judged else "inconclusive"
        self.metrics.incr(QUALITY_COUNT, tags={"stage": self.stage, "endpoint": str(self.endpoint), "verdict": verdict})
        for broken in report.broken:
            self.log.warning(
                EXPECTATION_BROKEN,
                severity=broken.severity,
                column=broken.column or "",
                observed=broken.observed,
                expected=broken.expected,
                expectation=broken.expectation,
                sample=", ".join(broken.sample),
                rows=", ".join(broken.keys),
            )
        counts = {"judged": report.judged, "broken": len(report.critical), "warnings": len(report.warnings)}
        self.log.info(
            QUALITY_JUDGED,
            verdict=verdict,
            subject=report.subject,
            **counts,
            page=report.results,
            trouble=report.trouble,
        )
        self.add(**{f"quality_{name}": count for name, count in counts.items()})
        if report.results or report.trouble:
            self.add(quality_page=report.results, quality_trouble=report.trouble)

    def compared(self, facts: Mapping[str, Any]) -> None:
        """Log the paired comparison of a shadow (``shadow_report``), and every slice that is worse than the whole."""
        numbers = {name: value for name, value in facts.items() if not isinstance(value, (dict, list))}
        self.log.info(SHADOW_COMPARED, **numbers, worse_slices=len(facts["slices"]))
        for worse in facts["slices"]:
            self.log.warning(SLICE_WORSE, sentence=tell_slice(worse), column=worse["column"], pairs=worse["pairs"])
        self.add(**{name: facts[name] for name in ("pairs", "flips", "missing")}, worse_slices=len(facts["slices"]))

    def drift(self, check: DriftCheck) -> None:
        """Log and count one look at drift: every drifted column, every batch that carries it, a few of its rows."""
        self.metrics.incr(DRIFT_COUNT, tags={"endpoint": str(self.endpoint), "verdict": check.verdict})
        numbers = {
            "release": check.release,
            "rows": check.rows,
            "dropped_share": check.dropped_share,
            "entry": check.seq,
        }
        page = {"page": check.page.address, "trouble": check.page.trouble}
        self.log.info(DRIFT_JUDGED, verdict=check.verdict, reason=check.reason, **numbers, **page)
        damage = {ranked.column: ranked.damage for ranked in check.ranking}
        for column in check.drifted:
            drift = check.report.of(column) if check.report else None
            reason = drift.reason if drift else ""
            self.log.warning(COLUMN_DRIFTED, column=column, damage=str(damage.get(column)), reason=reason)
        for batch in check.traced.batches if check.traced else ():
            self.log.warning(
                BATCH_FAULTY if batch.faults and not batch.shares else BATCH_CARRIES,
                batch=batch.batch,
                shares=str(batch.shares),
                faults="; ".join(fault.reason for fault in batch.faults),
                rows=batch.rows,
                sentence=batch.message,
            )
            for row in batch.sample:
                self.log.info(DRIFTED_ROW, batch=batch.batch, request=row.request_id, inputs=str(row.inputs))
        self.add(
            verdict=check.verdict, release=check.release, rows=check.rows, columns=list(check.raising), entry=check.seq
        )
        if check.faulty_batches:
            self.add(faulty_batches=list(check.faulty_batches[:MAX_FAULTY]))
        if any(page.values()):
            self.add(drift_page=check.page.address, drift_page_trouble=check.page.trouble)

    def skipped(self) -> None:
        """There was nothing to do."""
        self.outcome = "skipped"

    def rolled_back(self, cause: str) -> None:
        self.metrics.incr(ROLLBACK_COUNT, tags={"endpoint": str(self.endpoint)})
        self.add(rollback_cause=cause)


@contextmanager
def stage(
    name: StageName,
    *,
    endpoint: EndpointRef,
    platform: Platform,
    log: Log,
    metrics: Metrics,
    before: Mapping[str, Invariant] | None = None,
    after: Mapping[str, Invariant] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Envelope]:
    """The envelope that every operator and sensor runs its verb in.

    :param before: invariants checked before the body; a broken one means that the body does not run.
    :param after: invariants checked after it; a broken one fails the stage.
    :raises InvariantBroken: naming the invariant and what was found.
    """
    lines = ReadableLog(log)
    envelope = Envelope(stage=name, endpoint=endpoint, log=lines, metrics=metrics)
    tags = {"stage": name, "endpoint": str(endpoint)}
    started = clock()
    lines.info(STAGE_STARTED, stage=name, endpoint=str(endpoint))
    with trace.get_tracer(__name__).start_as_current_span(f"mlpipex.{name}", attributes=dict(tags)):
        try:
            _check(name, before or {}, when="before")
            yield envelope
            _check(name, after or {}, when="after")
        except BaseException as error:
            envelope.outcome = "failed"
            envelope.add(error_class=type(error).__name__)
            if isinstance(error, MlpipexError):
                lines.error(STAGE_FAILED, why=on_lines(error))
            ended = _emit(envelope, seconds=round(clock() - started, 6), error=error)
            try:
                _record(platform, endpoint, ended)
            except MlpipexError as lost:
                # The stage's own error says more than that the ledger is away as well.
                lines.error(STAGE_NOT_RECORDED, stage=name, endpoint=str(endpoint), **lost.as_dict())
            raise
        _record(platform, endpoint, _emit(envelope, seconds=round(clock() - started, 6)))


@contextmanager
def unstaged(name: StageName, *, log: Log, metrics: Metrics) -> Iterator[None]:
    """Around what a stage needs before its envelope: which endpoint, which ledger. An error there is told to log and
    metrics as the stage's own; it can stand in no ledger, since nobody knows in which one."""
    try:
        yield
    except MlpipexError as error:
        lines, failed = ReadableLog(log), {"outcome": "failed", "error_class": type(error).__name__}
        lines.error(STAGE_FAILED, why=on_lines(error))
        lines.info(STAGE_ENDED, **failed, stage=name, endpoint="")
        metrics.incr(STAGE_COUNT, tags={"stage": name, "endpoint": "", "outcome": "failed"})
        raise


def _emit(envelope: Envelope, *, seconds: float, error: BaseException | None = None) -> StageEnded:
    """Tell metrics, span and log how a stage ended; return the same for the ledger."""
    tags = {"stage": envelope.stage, "endpoint": str(envelope.endpoint)}
    envelope.metrics.timing(STAGE_DURATION, seconds * 1000.0, tags=tags)
    envelope.metrics.incr(STAGE_COUNT, tags={**tags, "outcome": envelope.outcome})
    span = trace.get_current_span()
    span.set_attributes({f"mlpipex.{key}": str(value) for key, value in envelope.facts.items()})
    span.set_attribute("mlpipex.outcome", envelope.outcome)
    facts = {key: value for key, value in envelope.facts.items() if key not in _ON_EVERY_LINE}
    # What a person looks for first stands first: how it ended, and by which error.
    facts = {**{name: facts.pop(name) for name in ("verdict", "error_class") if name in facts}, **facts}
    envelope.log.info(STAGE_ENDED, outcome=envelope.outcome, **facts, seconds=seconds, **tags)
    return StageEnded(
        stage=envelope.stage,
        outcome=envelope.outcome,
        seconds=seconds,
        facts=envelope.facts,
        error=error.as_dict() if isinstance(error, MlpipexError) else None,
    )


def _record(platform: Platform, endpoint: EndpointRef, ended: StageEnded) -> None:
    origin = platform.origin
    if not origin.trace_id:
        origin = origin.model_copy(update={"trace_id": trace_id()})
    if ended.outcome == "failed":
        journal.note(platform.acting_as(origin), endpoint, ended)
    else:
        # What a stage decided stands in the chain already: that it went well is bookkeeping.
        platform.ledger.record(endpoint, ended, origin=origin)


#: Fields of the line at a stage's end that the envelope writes itself.
_ON_EVERY_LINE = {"stage", "endpoint", "outcome", "seconds"}


def trace_id() -> str:
    """The current trace as 32 hex digits; empty where nothing is traced."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def _check(stage_name: str, invariants: Mapping[str, Invariant], *, when: str) -> None:
    for name, holds in invariants.items():
        broken = holds()
        if broken:
            raise InvariantBroken(
                f"stage {stage_name}, {when} it",
                value=broken,
                limit=name,
                remedy="the stage did not go on; see what the endpoint serves with: mlpipex status",
            )
