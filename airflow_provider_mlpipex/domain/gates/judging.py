"""The verdict of a gate on evidence. Fail closed: no evidence is never a pass."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from airflow_provider_mlpipex.domain.fields.quantities import format_duration
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.verdict import GateResult, VerdictName, worst_verdict
from airflow_provider_mlpipex.domain.statistics import same_rows, summaries
from airflow_provider_mlpipex.domain.statistics.confidence import Interval
from airflow_provider_mlpipex.domain.statistics.same_rows import Discordant, Estimated
from airflow_provider_mlpipex.domain.statistics.summaries import Counted

#: Relative rounding error that a threshold computed from a baseline may carry.
_ROUNDING = 1e-12
#: How sure one look at an evaluation is of each of its two ends: a gate is wrong in one case of 20 at most.
SURE = 0.95
#: More rows than anybody has.
_MAX_ROWS = 1_000_000_000


def judge(
    gate: Gate,
    evidence: Evidence | None,
    *,
    now: datetime,
    first_release: bool = False,
    alpha: float | None = None,
) -> GateResult:
    """Judge ``gate`` once.

    Missing, stale or too little evidence is ``inconclusive``, a broken measurement is ``error``. A count that has
    exceeded its maximum is a ``fail`` at once: waiting cannot take it back.

    With ``alpha`` the evidence may be looked at as often as one likes. ``fail`` then says that the confidence sequence
    lies wholly beyond the threshold, however few samples that took. ``pass`` says that the value lies within it, that
    samples and window are complete and, where the gate states what it ``detects``, that so much beyond it is excluded.
    What lies between is ``inconclusive``. The best value that was ever seen decides nothing: each look is judged by
    all of its evidence, so order and number of looks before it make no difference.

    Without ``alpha``, evidence of an evaluation that says how well it is known (``paired``, ``summary``) is judged by
    its interval: ``pass`` where the threshold is shown to be kept, ``fail`` where it is shown to be broken, each wrong
    in at most one case of 20, and between them ``inconclusive``, with the rows that would decide. Other evidence has
    its value alone, and is judged by it.

    :param first_release: there is no current release at all, so a relative gate has nothing to be worse than.
    :param alpha: chance that this gate's sequence ever fails a candidate that does not deserve it; ``None`` for one
        look at a sample whose size was fixed beforehand.
    """
    if evidence is None:
        evidence = Evidence(source=gate.source, metric=gate.metric.partition(".")[2], since=now, until=now)
    judgement = _Judgement(gate, evidence, now, first_release, None if gate.counts else alpha)
    verdict, reason = judgement.verdict()
    likely = judgement.likely or judgement.shown
    threshold, margin, likely = (
        (None, None, None) if verdict == "error" else (judgement.threshold, judgement.margin, likely)
    )
    return GateResult(
        gate=gate.name,
        verdict=verdict,
        advisory=gate.advisory,
        rule=gate.rule,
        evidence=evidence,
        threshold=None if margin is None else threshold,
        margin=margin,
        reason=reason,
        alpha=judgement.alpha if likely and not judgement.sampled else None,
        interval=(likely.lower, likely.upper) if likely else None,
        rows_that_decide=judgement.rows_that_decide if verdict == "inconclusive" else None,
    )


def verdict_of(results: Iterable[GateResult]) -> VerdictName:
    """What gates judged together say as one. Advisory gates have no say; nothing judged is ``inconclusive``."""
    return worst_verdict(result.verdict for result in results if not result.advisory)


@dataclass(frozen=True)
class _Judgement:
    """One gate, the evidence at one moment, and what follows from them."""

    gate: Gate
    evidence: Evidence
    now: datetime
    first_release: bool
    alpha: float | None

    def verdict(self) -> tuple[VerdictName, str]:
        """The verdict and its reason."""
        gate, value = self.gate, self.evidence.value
        if broken := self._broken():
            return "error", f"{gate.metric} could not be measured: {broken}"
        if value is None and self.first_release and gate.source == "baseline":
            return "pass", "first release: there is no current release to measure"
        if value is None:
            return "inconclusive", f"no evidence of {gate.metric}"
        if self._certainly_beyond():
            return "fail", self._explained()
        if missing := self._stale() or self._too_little() or self._still_counting():
            return "inconclusive", f"{missing}; observed {gate.in_unit(value)} so far"
        if self.margin is None:
            return "pass", f"first release: no baseline to compare {gate.in_unit(value)} with"
        within = self.margin >= -_ROUNDING * abs(self.threshold or 0.0)
        if self.sampled:
            return self._shown_once()
        if self.alpha is None or gate.counts:
            return ("pass" if within else "fail"), self._explained()
        if undecided := self._undecided(within):
            return "inconclusive", f"{undecided}: {self._explained()}"
        return "pass", self._explained()

    @cached_property
    def threshold(self) -> float | None:
        """What the value is compared with; ``None`` where the baseline is missing."""
        return self.gate.threshold(self.evidence.baseline)

    @cached_property
    def margin(self) -> float | None:
        if self.threshold is None or self.evidence.value is None:
            return None
        return self.gate.margin(self.evidence.value, self.threshold)

    @cached_property
    def likely(self) -> Interval | None:
        """The confidence sequence of the margin; ``None`` without ``alpha``, or without what it is computed from."""
        gate, own, base = self.gate, self.evidence.summary, self.evidence.baseline_summary
        if self.alpha is None or own is None or self.margin is None:
            return None
        if not gate.relative:
            value = summaries.interval(own, alpha=self.alpha, quantile=gate.quantile)
            beyond = value.shifted(-gate.bound)
        elif base is None:
            return None
        else:
            apart = summaries.excess(own, base, scale=gate.scale, alpha=self.alpha, quantile=gate.quantile)
            beyond = apart.shifted(-gate.offset)
        return beyond if gate.better == "higher" else -beyond

    @property
    def sampled(self) -> bool:
        """Whether it is one look at a sample that says how well it is known."""
        known = self.evidence.paired if self.gate.relative else self.evidence.summary
        return self.alpha is None and self.gate.source == "evaluation" and known is not None

    @cached_property
    def shown(self) -> Interval | None:
        """Where the true margin lies, by a sample that is looked at once; ``None`` where too few rows say nothing."""
        gate, evidence, paired, own = self.gate, self.evidence, self.evidence.paired, self.evidence.summary
        value, base, threshold = evidence.value, evidence.baseline, self.threshold
        if not self.sampled or value is None or threshold is None:
            return None
        if not gate.relative:
            likely = None
            if isinstance(own, Counted):
                likely = same_rows.share_of_rows(own.events, own.trials, level=SURE)
            elif isinstance(own, Estimated):
                likely = same_rows.estimate(value, own, level=SURE)
            beyond = likely.shifted(-threshold) if likely else None
        else:
            assert paired is not None and base is not None  # a threshold has been computed from it
            # Beside a baseline of 0 there is nothing to scale: the threshold is 0 as well.
            scale = threshold / base if base and not gate.in_points else 1.0
            apart = same_rows.excess_on_same_rows(paired, own=value, base=base, scale=scale, level=SURE)
            beyond = apart.shifted(-gate.offset) if apart else None
        return beyond if beyond is None or gate.better == "higher" else -beyond

    @property
    def rows_that_decide(self) -> int | None:
        """How many rows would, if what was observed is the truth; ``None`` where something else keeps it waiting."""
        if not self.sampled or self.margin is None or self._stale() or self._too_little():
            return None
        if self.shown is None:
            return max(same_rows.MIN_ROWS, self.evidence.samples + 1)
        half = self.margin - self.shown.lower if self.margin >= 0 else self.shown.upper - self.margin
        if not self.margin or half >= abs(self.margin) * math.sqrt(_MAX_ROWS / max(1, self.evidence.samples)):
            return _MAX_ROWS
        return math.ceil(self.evidence.samples * (half / self.margin) ** 2)

    def _shown_once(self) -> tuple[VerdictName, str]:
        shown, rows = self.shown, self.rows_that_decide
        if shown is not None and shown.lower >= -_ROUNDING * abs(self.threshold or 0.0):
            return "pass", self._explained()
        if shown is not None and shown.upper < 0:
            return "fail", self._explained()
        if shown is None:
            waits = f"{self.evidence.samples} rows, or so few of a class, show nothing"
        elif rows == _MAX_ROWS:
            waits = "it lies so near its threshold that no number of rows would decide"
        else:
            waits = f"these rows cannot tell; about {rows:,} would, if what they show is the truth"
        return "inconclusive", f"{waits}: {self._explained()}"

    def _certainly_beyond(self) -> bool:
        if self.gate.counts:
            return self.gate.max is not None and self.margin is not None and self.margin < 0
        return self.likely is not None and self.likely.upper < 0 and not self._stale()

    def _broken(self) -> str | None:
        gate, evidence = self.gate, self.evidence
        if evidence.broken:
            return evidence.broken
        if gate.relative and evidence.baseline_broken:
            return evidence.baseline_broken
        if evidence.key != gate.metric:
            return f"the evidence is of {evidence.key}"
        for what, number in (("value", evidence.value), ("baseline", evidence.baseline if gate.relative else None)):
            if number is not None and not math.isfinite(number):
                return f"the {what} is {number}"
        return None

    def _stale(self) -> str | None:
        age, limit = self.now - self.evidence.until, self.gate.max_age
        if limit is None or age <= limit:
            return None
        return f"stale: measured {format_duration(age)} ago, at most {format_duration(limit)}"

    def _too_little(self) -> str | None:
        """Why the evidence cannot carry a pass yet, or ``None``."""
        gate, evidence = self.gate, self.evidence
        if evidence.samples < gate.min_samples:
            return f"{evidence.samples} samples, at least {gate.min_samples} needed"
        covered = evidence.until - evidence.since
        if gate.window is not None and covered < gate.window:
            return f"{format_duration(covered)} covered, {format_duration(gate.window)} needed"
        if not gate.relative or self.first_release:
            return None
        if evidence.baseline is None:
            return "no baseline: the current release was not measured"
        if evidence.baseline_samples < gate.min_samples:
            return f"{evidence.baseline_samples} baseline samples, at least {gate.min_samples} needed"
        return None

    def _still_counting(self) -> str | None:
        """A count below its minimum is not a failure: it only has to grow."""
        gate, value = self.gate, self.evidence.value
        if gate.min is not None and gate.counts and value is not None and value < gate.min:
            return f"{gate.metric} still below {gate.in_unit(gate.min)}"
        return None

    def _undecided(self, within: bool) -> str | None:
        """Why a gate at an alpha can say neither yes nor no, or ``None``."""
        gate = self.gate
        if self.likely is None:
            return "the evidence lacks the counts that a gate needs which is looked at again and again"
        if not within:
            return "beyond the threshold, but by what chance may do"
        if gate.detects is not None and self.likely.lower <= -gate.detects:
            return f"{gate.apart(gate.detects)} beyond the threshold is not excluded yet"
        return None

    def _explained(self) -> str:
        gate, evidence, threshold, margin = self.gate, self.evidence, self.threshold, self.margin
        assert evidence.value is not None and threshold is not None and margin is not None  # callers have measured
        side = "at least" if gate.better == "higher" else "at most"
        about = f" of {evidence.about}" if evidence.about else ""
        baseline = ""
        if gate.relative and evidence.baseline is not None:
            baseline = f" (baseline {gate.in_unit(evidence.baseline)})"
        sentence = (
            f"observed {gate.in_unit(evidence.value)}{about} from {evidence.samples} samples{baseline}, "
            f"threshold {side} {gate.in_unit(threshold)}, {self._distance(margin)}"
        )
        if self.sampled and self.shown is not None:
            ends = [self._distance(end, digits=3) for end in (self.shown.lower, self.shown.upper)]
            return (
                f"{sentence}; in truth from {ends[0]} to {ends[1]} ({100 * SURE:.5g}% sure of each){self._differing()}"
            )
        if self.likely is None or self.alpha is None:
            return sentence
        ends = [self._distance(end, digits=3) for end in (self.likely.lower, self.likely.upper)]
        return f"{sentence}; in truth from {ends[0]} to {ends[1]} ({100 * (1 - self.alpha):.5g}% sure at every look)"

    def _differing(self) -> str:
        paired = self.evidence.paired if self.gate.relative else None
        if not isinstance(paired, Discordant):
            return ""
        ahead, behind = paired.only_candidate, paired.only_baseline
        return f"; of {paired.rows} rows {ahead} right by the new one alone, {behind} by the current one alone"

    def _distance(self, margin: float, *, digits: int = 9) -> str:
        if math.isinf(margin):
            return "far beyond it" if margin < 0 else "far within it"
        return f"{self.gate.apart(round(abs(margin), 9), digits)} {'to spare' if margin >= 0 else 'beyond it'}"
