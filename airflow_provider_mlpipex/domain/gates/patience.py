"""What a gate says of a trial that has had all its time: the last word, at a moment that was fixed beforehand.

Until then a gate is looked at again and again, and must never be wrong at any look; a value a hair beyond its limit
stays ``inconclusive`` for ever. When the patience is over it is asked once more, and otherwise: is an excess excluded
that matters? That is one look at a sample whose end was fixed, so it has a budget of its own (:data:`BUDGET`) and takes
no sequence (group-sequential non-inferiority, Jennison & Turnbull 2000). What it does not exclude is for a person.

An excess matters that is larger than the gate ``detects``. Where it does not say, that is as much again as it allows:
2 % errors of a limit of 1 %, one in ten slower than the limit of a p95, 40 % more than the baseline of ``within: 20%``.
"""

from __future__ import annotations

import math

from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.statistics import summaries
from airflow_provider_mlpipex.domain.statistics.binomial import at_most
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Timed

#: A trial that is still undecided after this many times its planned duration is put before a person; where traffic is
#: thin, after more of them (``honest_release.patience_at``).
PATIENCE = 3.0
#: Chance that a release passes at the end of the patience which exceeds its limit by more than matters.
BUDGET = 0.05
#: Expected bad ones from which Chernoff's bound is taken for the binomial tail: by then they differ by next to nothing.
_MANY = 10_000.0


def settle(gate: Gate, result: GateResult) -> GateResult:
    """``result`` as a pass, if it is undecided, not excused, and an excess that matters is excluded."""
    evidence = result.evidence
    covered = evidence.until - evidence.since
    enough = evidence.samples >= gate.min_samples and (gate.window is None or covered >= gate.window)
    if result.verdict != "inconclusive" or result.excused or not enough or not _is_excluded(gate, result):
        return result
    reason = f"at the end of its time, {matters(gate)} is excluded ({100 * (1 - BUDGET):g}% sure): {result.reason}"
    return result.model_copy(update={"verdict": "pass", "reason": reason})


def matters(gate: Gate) -> str:
    """The excess that matters, in words."""
    if gate.detects is not None:
        return f"{gate.apart(gate.detects)} beyond the threshold"
    if gate.relative:
        return "twice the difference that it allows"
    return f"twice the {'slow ones' if gate.quantile is not None else 'share'} that it allows"


def excludes(bad: int, trials: int, share: float) -> bool:
    """Whether ``bad`` of ``trials`` exclude that ``share`` or more are bad, at one look: so few of them would come by
    chance at most as often as :data:`BUDGET` says, by the exact binomial test (the upper end of Clopper and Pearson's
    interval)."""
    if trials == 0 or not 0.0 < share < 1.0 or bad >= share * trials:
        return trials > 0 and share >= 1.0
    rate = bad / trials
    apart = (rate * math.log(rate / share) if bad else 0.0) + (1.0 - rate) * math.log((1.0 - rate) / (1.0 - share))
    if trials * apart >= math.log(1.0 / BUDGET):
        return True  # Chernoff's bound is enough, and spares the sum
    return share * trials <= _MANY and at_most(bad, trials, share) <= BUDGET


def largest_share(gate: Gate, allowed: float) -> float:
    """The share of bad requests that must be excluded, of a gate on a share that allows ``allowed`` of them."""
    by_share = gate.detects is not None and gate.in_ratio
    return allowed + (gate.detects or 0.0) if by_share else 2.0 * allowed


def _is_excluded(gate: Gate, result: GateResult) -> bool:
    own, base = result.evidence.summary, result.evidence.baseline_summary
    if gate.counts or gate.of_slices:
        return False
    if gate.relative:
        if gate.within is None or own is None or base is None or gate.better == "higher" or gate.detects is not None:
            return False
        # By twice as much as it allows: of the baseline, or in points.
        scale, offset = (1.0, 2.0 * gate.within) if gate.in_points else (1.0 + 2.0 * gate.within, 0.0)
        return summaries.excess(own, base, scale=scale, alpha=BUDGET, quantile=gate.quantile).upper <= offset
    if isinstance(own, Timed) and gate.quantile is not None and gate.better == "lower":
        allowed = 1.0 - gate.quantile
        _, slow = own.slower_than(gate.bound + (gate.detects or 0.0))
        return excludes(slow, own.total, allowed if gate.detects is not None else largest_share(gate, allowed))
    if isinstance(own, Counted) and gate.in_ratio:
        lower = gate.better == "lower"
        allowed = gate.bound if lower else 1.0 - gate.bound
        return excludes(own.events if lower else own.trials - own.events, own.trials, largest_share(gate, allowed))
    return False
