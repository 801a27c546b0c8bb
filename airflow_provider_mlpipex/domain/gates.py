"""Gates: numeric criteria on evidence, and the verdicts they give. Fail closed: no evidence is never a pass."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_serializer, field_validator, model_validator

from airflow_provider_mlpipex.domain.errors import InvalidQuantity
from airflow_provider_mlpipex.domain.events import GateResult, VerdictName
from airflow_provider_mlpipex.domain.evidence import Evidence, Source
from airflow_provider_mlpipex.domain.metrics import METRICS, Direction, Metric, Unit, find_metric
from airflow_provider_mlpipex.domain.names import Name
from airflow_provider_mlpipex.domain.quantities import (
    Duration,
    Ratio,
    format_duration,
    format_ratio,
    parse_duration,
    parse_ratio,
)
from airflow_provider_mlpipex.domain.refusal import Refusal
from airflow_provider_mlpipex.domain.values import Value

Criterion = Literal["max", "min", "within", "improves"]
CRITERIA: tuple[Criterion, ...] = ("max", "min", "within", "improves")
#: Relative rounding error that a threshold computed from a baseline may carry.
_ROUNDING = 1e-12


class Gate(Value):
    """One criterion on one metric.

    :param metric: ``source.metric``, one of :data:`~airflow_provider_mlpipex.domain.metrics.METRICS`.
    :param max: highest value that passes, in the metric's unit (latency in milliseconds); ``min`` the lowest.
    :param within: passes while not worse than the baseline by more than this fraction *of the baseline*.
    :param improves: passes if better than the baseline by at least this fraction of the baseline.
    :param direction: which way is better, for relative gates on metrics where it is not known.
    :param window: time that the evidence must cover before the gate can pass.
    :param min_samples: observations below which the verdict is ``inconclusive``.
    :param max_age: evidence that ended longer ago than this is stale.
    :param advisory: judged and recorded, but stops nothing.
    """

    name: Name
    metric: str
    max: float | None = None
    min: float | None = None
    within: Ratio | None = Field(default=None, ge=0)
    improves: Ratio | None = Field(default=None, ge=0)
    direction: Direction | None = None
    window: Duration | None = None
    min_samples: int = Field(default=1, ge=1)
    max_age: Duration | None = None
    advisory: bool = False

    @field_validator("metric")
    @classmethod
    def _measured(cls, key: str) -> str:
        known_metric(key)
        return key

    @field_validator("max", "min", mode="before")
    @classmethod
    def _read_threshold(cls, raw: Any, info: ValidationInfo) -> float | None:
        key = info.data.get("metric")
        return None if raw is None or key is None else read_threshold(raw, known_metric(key).unit)

    @model_validator(mode="after")
    def _one_criterion(self) -> Gate:
        stated = [criterion for criterion in CRITERIA if getattr(self, criterion) is not None]
        if len(stated) != 1:
            raise Refusal(
                f"exactly one of {', '.join(CRITERIA)}",
                value=", ".join(stated) or "none of them",
                remedy="split it into one gate a criterion",
            )
        if not self.relative:
            if self.direction is not None:
                raise Refusal(
                    "direction belongs to within and improves",
                    value=f"direction: {self.direction}",
                    remedy="leave it out: max and min say which way is better",
                )
        elif not self._metric.compared:
            raise Refusal(
                f"{self.metric} has no baseline to be {self.criterion} of",
                value=f"{self.criterion}: {format_ratio(self.bound)}",
                remedy="state max or min, or compare in evaluation, shadow or canary",
            )
        elif self.direction is None and self._metric.better is None:
            raise Refusal(
                f"which way {self.metric} gets better is not known",
                value=f"{self.criterion}: {format_ratio(self.bound)}",
                remedy="add direction: higher or direction: lower",
            )
        elif self.direction and self._metric.better and self.direction != self._metric.better:
            raise Refusal(
                f"{self.metric} gets better when {self._metric.better}",
                value=f"direction: {self.direction}",
                remedy="leave direction out",
            )
        return self

    @field_serializer("max", "min")
    def _write_threshold(self, bound: float | None) -> str | float | None:
        if bound is None:
            return None
        match self._metric.unit:
            case "ms":
                return format_duration(timedelta(milliseconds=bound))
            case "ratio":
                return format_ratio(bound)
            case _:
                return bound

    @property
    def source(self) -> Source:
        """Who measures the evidence."""
        return next(source for source in METRICS if source == self.metric.partition(".")[0])

    @property
    def criterion(self) -> Criterion:
        return next(criterion for criterion in CRITERIA if getattr(self, criterion) is not None)

    @property
    def bound(self) -> float:
        """The number that was written: a threshold, or a fraction of the baseline."""
        return float(getattr(self, self.criterion))

    @property
    def relative(self) -> bool:
        """Whether it compares the candidate with the current release."""
        return self.within is not None or self.improves is not None

    @property
    def needs_current(self) -> bool:
        """Whether it can only be judged where a current release exists."""
        return self.relative or self.source == "baseline"

    @property
    def better(self) -> Direction:
        """Which way the value has to move to pass."""
        if not self.relative:
            return "lower" if self.max is not None else "higher"
        better = self.direction or self._metric.better
        assert better is not None  # a validator has refused the gate otherwise
        return better

    @property
    def rule(self) -> str:
        """The gate as people read it: ``evaluation.accuracy within 0.5% of the baseline``."""
        words = {
            "max": f"at most {self.in_unit(self.bound)}",
            "min": f"at least {self.in_unit(self.bound)}",
            "within": f"within {format_ratio(self.bound)} of the baseline",
            "improves": f"improves on the baseline by at least {format_ratio(self.bound)}",
        }
        parts = [f"{self.metric} {words[self.criterion]}"]
        if self.window:
            parts.append(f"over {format_duration(self.window)}")
        if self.min_samples > 1:
            parts.append(f"from at least {self.min_samples} samples")
        return " ".join(parts)

    def threshold(self, baseline: float | None) -> float | None:
        """What the value is compared with; ``None`` for a relative gate without a baseline."""
        if not self.relative:
            return self.bound
        if baseline is None:
            return None
        allowed = self.bound * abs(baseline)
        towards_better = allowed if self.criterion == "improves" else -allowed
        return baseline + towards_better if self.better == "higher" else baseline - towards_better

    def margin(self, value: float, threshold: float) -> float:
        """Signed distance to the threshold in the better direction; negative: beyond it."""
        return value - threshold if self.better == "higher" else threshold - value

    @property
    def _metric(self) -> Metric:
        return known_metric(self.metric)

    def in_unit(self, value: float) -> str:
        """``value`` as people read this gate's metric: ``120ms``, ``0.5%``, ``3``; nine digits are enough for eyes."""
        scale, unit = {"ms": (1, "ms"), "ratio": (100, "%")}.get(self._metric.unit, (1, ""))
        return f"{value * scale:.9g}{unit}"


def known_metric(key: str) -> Metric:
    """The metric written ``source.metric``.

    :raises Refusal: no source yields it, so a gate on it could never pass.
    """
    metric = find_metric(key)
    if metric is not None:
        return metric
    source, dot, _ = key.partition(".")
    yielded = next((list(names) for known, names in METRICS.items() if known == source), [])
    if not dot or not yielded:
        measuring = ", ".join(known for known, names in METRICS.items() if names)
        raise Refusal(
            f"source.metric, measured by one of {measuring}", value=key, remedy="write for example canary.error_rate"
        )
    raise Refusal(f"a metric that {source} yields", value=key, remedy=f"use one of {', '.join(yielded)}")


def read_threshold(raw: Any, unit: Unit) -> float:
    """A bound of ``max`` or ``min`` as written, in the unit of its metric.

    :raises Refusal: a number without its unit, a percentage of something that is no share, infinity.
    """
    try:
        if unit == "ms":
            return parse_duration(raw) / timedelta(milliseconds=1)
        if unit == "ratio":
            return parse_ratio(raw)
    except InvalidQuantity as error:
        raise Refusal.of(error) from None
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not math.isfinite(raw):
        raise Refusal("a plain number", value=raw, remedy="write for example 0.25, without unit or quotes")
    if unit == "count" and (raw < 0 or raw != int(raw)):
        raise Refusal("a count: a whole number from 0 up", value=raw, remedy="write for example 0")
    return float(raw)


def judge(gate: Gate, evidence: Evidence | None, *, now: datetime, first_release: bool = False) -> GateResult:
    """Judge ``gate`` once.

    Missing, stale or too little evidence is ``inconclusive``, a broken measurement is ``error``. A count that has
    exceeded its maximum is a ``fail`` at once: waiting cannot take it back.

    :param first_release: there is no current release at all, so a relative gate has nothing to be worse than.
    """
    if evidence is None:
        evidence = Evidence(source=gate.source, metric=gate.metric.partition(".")[2], since=now, until=now)
    verdict, reason, threshold, margin = _judge(gate, evidence, now, first_release)
    return GateResult(
        gate=gate.name,
        verdict=verdict,
        advisory=gate.advisory,
        rule=gate.rule,
        evidence=evidence,
        threshold=threshold,
        margin=margin,
        reason=reason,
    )


def _judge(
    gate: Gate, evidence: Evidence, now: datetime, first_release: bool
) -> tuple[VerdictName, str, float | None, float | None]:
    broken = _broken(gate, evidence)
    if broken:
        return "error", f"{gate.metric} could not be measured: {broken}", None, None
    value = evidence.value
    if value is None and first_release and gate.source == "baseline":
        return "pass", "first release: there is no current release to measure", None, None
    if value is None:
        return "inconclusive", f"no evidence of {gate.metric}", None, None
    threshold = gate.threshold(evidence.baseline)
    margin = None if threshold is None else gate.margin(value, threshold)
    if margin is not None and margin < 0 and gate.max is not None and known_metric(gate.metric).only_grows:
        return "fail", _explain(gate, evidence, threshold, margin), threshold, margin
    missing = _too_little(gate, evidence, now, first_release) or _still_counting(gate, value)
    if missing:
        return "inconclusive", f"{missing}; observed {gate.in_unit(value)} so far", threshold, margin
    if threshold is None or margin is None:
        return "pass", f"first release: no baseline to compare {gate.in_unit(value)} with", None, None
    verdict: VerdictName = "pass" if margin >= -_ROUNDING * abs(threshold) else "fail"
    return verdict, _explain(gate, evidence, threshold, margin), threshold, margin


def overall(results: Iterable[GateResult]) -> VerdictName:
    """What gates judged together say as one. Advisory gates have no say; nothing judged is ``inconclusive``."""
    verdicts = {result.verdict for result in results if not result.advisory}
    order: tuple[VerdictName, ...] = ("fail", "error", "inconclusive", "pass")
    return next((verdict for verdict in order if verdict in verdicts), "inconclusive")


def _broken(gate: Gate, evidence: Evidence) -> str | None:
    if evidence.broken:
        return evidence.broken
    if evidence.key != gate.metric:
        return f"the evidence is of {evidence.key}"
    for what, number in (("value", evidence.value), ("baseline", evidence.baseline if gate.relative else None)):
        if number is not None and not math.isfinite(number):
            return f"the {what} is {number}"
    return None


def _too_little(gate: Gate, evidence: Evidence, now: datetime, first_release: bool) -> str | None:
    """Why the evidence does not carry a verdict yet, or ``None``."""
    age = now - evidence.until
    if gate.max_age is not None and age > gate.max_age:
        return f"stale: measured {format_duration(age)} ago, at most {format_duration(gate.max_age)}"
    if evidence.samples < gate.min_samples:
        return f"{evidence.samples} samples, at least {gate.min_samples} needed"
    covered = evidence.until - evidence.since
    if gate.window is not None and covered < gate.window:
        return f"{format_duration(covered)} covered, {format_duration(gate.window)} needed"
    if not gate.relative or first_release:
        return None
    if evidence.baseline is None:
        return "no baseline: the current release was not measured"
    if evidence.baseline_samples < gate.min_samples:
        return f"{evidence.baseline_samples} baseline samples, at least {gate.min_samples} needed"
    return None


def _still_counting(gate: Gate, value: float) -> str | None:
    """A count below its minimum is not a failure: it only has to grow."""
    if gate.min is not None and known_metric(gate.metric).only_grows and value < gate.min:
        return f"{gate.metric} still below {gate.in_unit(gate.min)}"
    return None


def _explain(gate: Gate, evidence: Evidence, threshold: float | None, margin: float | None) -> str:
    assert evidence.value is not None and threshold is not None and margin is not None  # callers have measured
    side = "at least" if gate.better == "higher" else "at most"
    baseline = ""
    if gate.relative and evidence.baseline is not None:
        baseline = f" (baseline {gate.in_unit(evidence.baseline)})"
    room = "to spare" if margin >= 0 else "beyond it"
    return (
        f"observed {gate.in_unit(evidence.value)} from {evidence.samples} samples{baseline}, "
        f"threshold {side} {gate.in_unit(threshold)}, {gate.in_unit(abs(margin))} {room}"
    )
