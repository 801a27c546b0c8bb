"""The concurrent baseline: a broken limit is judged beside another release that answers over the same minutes.

An absolute limit can be broken for two reasons. A slow machine or a dead upstream takes every release down, and taking
one of them back changes nothing. A bad release is worse than the other one *over the same minutes*. In a shadow and a
canary the other one is the current release; after promotion it is the previous one, where the manifest lets it keep a
share (a control arm). Comparing says one of four things (:data:`Standing`):

- ``worse``: beyond what chance does at the gate's alpha. The limit counts.
- ``as-broken``: the other release is shown to break the limit too. Excused, and on-call is told.
- ``no-worse``: an excess that matters is excluded by the same joint region. Excused, and on-call is told.
- ``undecided``: too few requests. *Not shown to be worse is not shown to be no worse*: after promotion, where all users
  have the release, it goes back unless the control arm, grown to half of the requests, tells in time. A trial has few
  users and patience, and waits.
- ``uneven``: slower, and with more of the requests than the other release. Whoever answers more of them waits longer
  for its processors, however good it is, so slowness counts only beside a release that has at least as many (Kayenta's
  equally large baseline). Both get half of the requests, and it is asked again.
- ``overloaded``: as fast as the previous release with half of the requests each, and too slow with more, which the
  previous one, when it had them all, was not. The limit counts.

``worse`` and the broken limit must both hold, so no more false alarms come of comparing. An excuse that chance has made
is of little harm: it is asked for again at every look, and what is worse is soon shown to be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal

from airflow_provider_mlpipex.domain.gates import watch_windows
from airflow_provider_mlpipex.domain.gates.evidence import Evidence, Groups
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.statistics import clumps
from airflow_provider_mlpipex.domain.statistics.confidence import difference_exceeds, proportion
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Timed

Standing = Literal["worse", "uneven", "overloaded", "as-broken", "no-worse", "excused-before", "undecided"]
#: Chance that a good baseline is taken for a broken one, and a bad release excused until more requests have come.
EXCUSE_ALPHA = 0.05
#: An excess of less than this part of what a gate allows is none that matters, where the gate does not say what it
#: detects.
_MATTERS = 0.5
#: Between two beginnings of comparisons, of a gate without windows of its own.
_PACE = timedelta(seconds=30)
#: Metrics that are counted for every release that answers.
_OF_TRAFFIC = ("error_rate", "critical_errors", "latency_p50", "latency_p95", "latency_p99")


def is_compared(gate: Gate) -> bool:
    """Whether a broken limit of ``gate`` can be held against another release. Relative gates compare already."""
    return not gate.relative and gate.max is not None and gate.metric.partition(".")[2] in _OF_TRAFFIC


def compared_since(
    began: datetime, now: datetime, *, window: timedelta | None, watch: timedelta, shares_since: datetime | None = None
) -> tuple[datetime, ...]:
    """Beginnings from which candidate and control are compared at ``now``, the latest first.

    They stand on the grid of the gate's windows, whose alphas they share, but stay open: a small arm needs longer than
    one window. Of a gate that is judged over the whole watch they stand half a minute apart: an outage of half a minute
    is soon outweighed for a small arm by the good minutes before it, and what both releases did in it would not be
    known. Every beginning could be asked; each time twice as far back is enough, because then one of them holds at most
    as much of the good past as of the failure.

    :param shares_since: when the arms' shares last changed. Nothing is compared across a change: a bad minute in which
        one arm had more of the requests than in a good one would make equal arms look unequal (Simpson's paradox).
    """
    pace, last = watch_windows.pace(window, watch), watch_windows.beginnings(window, watch) - 1
    if pace is None:
        pace, last = _PACE, max(0, watch // _PACE - 1)
    newest = min(last, max(0, (now - began) // pace))
    back = [0, *(2**power for power in range(newest.bit_length())), newest]
    begins = sorted({began + (newest - step) * pace for step in back if step <= newest}, reverse=True)
    if shares_since is None or shares_since <= began:
        return tuple(begins)
    return tuple(dict.fromkeys([*(begin for begin in begins if begin > shares_since), shares_since]))


def is_even(gate: Gate, *, share: float) -> bool:
    """Whether the candidate's part of the requests cannot be what makes it worse: a latency grows with it.

    :param share: of both arms' requests, that the other release is meant to get.
    """
    return gate.quantile is None or share >= 0.5


def standing(gate: Gate, evidence: Evidence, *, alpha: float, share: float) -> Standing:
    """How the candidate stands beside the other release over the same requests.

    :param share: of both arms' requests, that the other release is meant to get.
    """
    if is_worse(gate, evidence, alpha=alpha, share=share):
        return "worse" if is_even(gate, share=share) else "uneven"
    if breaks_too(gate, evidence):
        return "as-broken"
    return "no-worse" if is_no_worse(gate, evidence) else "undecided"


def is_worse(gate: Gate, evidence: Evidence, *, alpha: float, share: float) -> bool:
    """Whether the candidate is worse than the other release over the same requests, whatever the limit is.

    :param share: of the requests that the other one is meant to get. If it got none, although so many came that this is
        no chance, there is nothing to compare with, and a broken limit counts as it would without.
    """
    if not evidence.baseline_samples or evidence.baseline_summary is None:
        return evidence.samples * share / (1.0 - share) > math.log(1.0 / alpha) if share < 1.0 else False
    arms = _arms(gate, evidence, excuse=False)
    if arms is None:
        return False
    own, base = arms
    return difference_exceeds(0.0, own.events, own.trials, base.events, base.trials, alpha=alpha)


def breaks_too(gate: Gate, evidence: Evidence) -> bool:
    """Whether the other release is shown to break the limit itself."""
    arms = _arms(gate, evidence, excuse=True)
    if arms is None or not evidence.baseline_samples:
        return False
    _, base = arms
    if gate.counts:
        return base.events > gate.bound
    return proportion(base.events, base.trials, alpha=EXCUSE_ALPHA).lower > _allowed(gate)


def is_no_worse(gate: Gate, evidence: Evidence) -> bool:
    """Whether an excess over the other release that matters is excluded."""
    arms = _arms(gate, evidence, excuse=True)
    if arms is None or not evidence.baseline_samples or gate.counts:
        return False
    allowed = _allowed(gate)
    matters = gate.detects if gate.detects is not None and gate.quantile is None else _MATTERS * allowed
    own, base = arms
    # The other way round: the baseline's share minus the candidate's lies wholly above what matters, negative.
    return difference_exceeds(-matters, base.events, base.trials, own.events, own.trials, alpha=EXCUSE_ALPHA)


def _arms(gate: Gate, evidence: Evidence, *, excuse: bool) -> tuple[Counted, Counted] | None:
    """Bad ones and requests of candidate and baseline. Of a latency the bad ones are those beyond the limit: which arm
    has more of them is known far sooner, of a small arm, than where its quantile lies.

    :param excuse: whether it is an excuse that is looked for. A bucket that holds the limit says nothing, so what is in
        it counts against what is looked for.
    """
    own, base = evidence.summary, evidence.baseline_summary
    if isinstance(own, Counted) and isinstance(base, Counted):
        return own, base
    if isinstance(own, Timed) and isinstance(base, Timed):
        slower, slower_beside = own.slower_than(gate.bound)[excuse], base.slower_than(gate.bound)[not excuse]
        return Counted(events=slower, trials=own.total), Counted(events=slower_beside, trials=base.total)
    return None


def _allowed(gate: Gate) -> float:
    """The share of bad requests that the limit allows."""
    return 1.0 - gate.quantile if gate.quantile is not None else gate.bound


def in_trial(
    gate: Gate, failed: GateResult, compared: Evidence | None, *, alpha: float, share: float
) -> tuple[GateResult, Standing | None]:
    """What a gate of a shadow or canary says whose limit is broken, and how the candidate stands; ``None``: nothing is
    compared. Still ``fail`` if it is worse than the current release. Otherwise nobody knows better yet, and the trial
    goes on as it is.

    :param failed: the gate by itself.
    :param compared: both releases since the shares of the requests last changed.
    """
    if failed.verdict != "fail" or not is_compared(gate) or compared is None:
        return failed, None
    stands, whose = standing(gate, compared, alpha=alpha, share=share), "current release"
    if stands == "uneven":
        return _uneven(gate, failed, compared, whose=whose, share=share), stands
    # A count is exact: it is held against the candidate unless the current release has broken it in the same minutes.
    if stands == "worse" or (gate.counts and stands == "undecided"):
        return _counts(gate, failed, compared, whose=whose), stands
    if stands == "undecided":
        waits = f"not shown to be worse than the current release yet: {_shown(gate, compared, whose=whose)}"
        return failed.model_copy(update={"verdict": "inconclusive", "reason": f"{waits}; {failed.reason}"}), stands
    return _excused(gate, failed, compared, whose=whose), stands


def in_clumps(
    gate: Gate, failed: GateResult, blocks: Sequence[Evidence], before: Sequence[Evidence], *, alpha: float
) -> GateResult:
    """What a gate of a trial says whose limit is broken, where the current release fails in clumps: still ``fail`` if
    the candidate's blocks of time, and not only its requests, show it.

    :param blocks: of the stage, one after the other; ``before`` those of the current release before it.
    """
    of_current = [bad for each in (*before, *blocks) if (bad := _bad(gate, each, of_baseline=True)) is not None]
    allowed = _allowed(gate)
    if failed.verdict != "fail" or gate.counts or not 0.0 < allowed < 1.0 or not clumps.are_clumped(of_current):
        return failed
    own = [bad for each in blocks if (bad := _bad(gate, each, of_baseline=False)) is not None]
    if clumps.mean_exceeds([events / trials for events, trials in own], allowed, alpha=alpha):
        return failed
    waits = f"failures come in clumps, so {len(own)} blocks of time are counted, and do not show it yet"
    return failed.model_copy(update={"verdict": "inconclusive", "reason": f"{waits}: {failed.reason}"})


def in_users(gate: Gate, failed: GateResult, own: Groups, beside: Groups, *, alpha: float) -> GateResult:
    """What a gate on errors says whose limit is broken, where failures come from few users: still ``fail`` if groups of
    users, and not only requests, show it. A user stays with a release, so one who fails all day whatever he is answered
    by makes that release look bad, in every minute.

    :param own: of the candidate, ``beside`` of the current release.
    """
    allowed, summary = _allowed(gate), failed.evidence.summary
    if failed.verdict != "fail" or gate.counts or gate.quantile is not None or not 0.0 < allowed < 1.0:
        return failed
    # Groups that hold less than half of it say nothing of the rest: users who are not named, refusals told of later.
    bad, asked = sum(events for events, _ in own), sum(trials for _, trials in own)
    if not isinstance(summary, Counted) or 2 * asked < summary.trials or 2 * bad < summary.events:
        return failed
    if not (clumps.are_clumped(own) or clumps.are_clumped(beside)):
        return failed
    shares = [events / trials for events, trials in own if trials]
    if clumps.mean_exceeds(shares, allowed, alpha=alpha):
        return failed
    waits = f"failures come from few users, so {len(shares)} groups of users are counted, and do not show it yet"
    return failed.model_copy(update={"verdict": "inconclusive", "reason": f"{waits}: {failed.reason}"})


def _bad(gate: Gate, evidence: Evidence, *, of_baseline: bool) -> tuple[int, int] | None:
    """Bad ones and requests of one release in one block; ``None`` where it had none."""
    summary = evidence.baseline_summary if of_baseline else evidence.summary
    if isinstance(summary, Timed):
        slow, _ = summary.slower_than(gate.bound)
        return (slow, summary.total) if summary.total else None
    return (summary.events, summary.trials) if isinstance(summary, Counted) and summary.trials else None


def after_promotion(
    gate: Gate,
    failed: GateResult,
    compared: Sequence[Evidence],
    *,
    alpha: float,
    share: float,
    excused_at: datetime | None = None,
    before: Callable[[], Evidence | None] | None = None,
) -> tuple[GateResult, Standing | None]:
    """What a gate of a watch says whose limit is broken, and how the release stands; ``None``: nothing is compared.

    :param failed: the gate by itself, in its decisive window.
    :param compared: evidence of both arms since each of :func:`compared_since`.
    :param excused_at: when both were last shown to break the limit. A window that had begun by then holds those
        minutes, and what was shown of them stays shown, however they are outweighed by better ones since.
    :param before: what the previous release showed while it had all requests; given where the arms are even only since
        the limit was broken.
    """
    if failed.verdict != "fail" or not is_compared(gate):
        return failed, None
    whose = "previous release"
    worse = next((each for each in compared if is_worse(gate, each, alpha=alpha, share=share)), None)
    if worse is not None and is_even(gate, share=share):
        return _counts(gate, failed, worse, whose=whose), "worse"
    if worse is not None:
        return _uneven(gate, failed, worse, whose=whose, share=share), "uneven"
    # Whether the previous release breaks the limit as well is asked of the minutes in which the new one does.
    broken = next((each for each in _since(failed, compared) if breaks_too(gate, each)), None)
    if broken is not None:
        return _excused(gate, failed, broken, whose=whose), "as-broken"
    carried = before() if before is not None else None
    if carried is not None and breaks_too(gate, carried):
        return _excused(gate, failed, carried, whose=f"{whose}, with all requests,"), "as-broken"
    equal = next((each for each in compared if is_no_worse(gate, each)), None)
    if equal is not None and before is not None and _keeps(gate, equal):
        alone = "with half of the requests each it is no slower, and the previous release kept the limit with all"
        return failed.model_copy(update={"reason": f"{failed.reason}; {alone}"}), "overloaded"
    if equal is not None:
        return _excused(gate, failed, equal, whose=whose), "no-worse"
    if excused_at is not None and failed.evidence.since <= excused_at:
        return _excused(gate, failed, failed.evidence, whose=whose), "excused-before"
    reason = f"{failed.reason}; not told from an outage: {_shown(gate, failed.evidence, whose=whose)}"
    return failed.model_copy(update={"reason": reason}), "undecided"


def _keeps(gate: Gate, evidence: Evidence) -> bool:
    """Whether a latency of the candidate itself is within its limit."""
    bad = _bad(gate, evidence, of_baseline=False) if gate.quantile is not None else None
    return bad is not None and bad[0] <= _allowed(gate) * bad[1]


def _since(failed: GateResult, compared: Iterable[Evidence]) -> list[Evidence]:
    return [failed.evidence, *(each for each in compared if each.since >= failed.evidence.since)]


def _counts(gate: Gate, failed: GateResult, compared: Evidence, *, whose: str) -> GateResult:
    return failed.model_copy(update={"reason": f"{failed.reason}; beside it {_shown(gate, compared, whose=whose)}"})


def _uneven(gate: Gate, failed: GateResult, compared: Evidence, *, whose: str, share: float) -> GateResult:
    shares = f"with {100 * (1 - share):g} % of the requests, against {100 * share:g} %"
    observed = f"{shares}: {_shown(gate, compared, whose=whose)}"
    return failed.model_copy(update={"reason": f"{failed.reason}; not told from its load, {observed}"})


def _excused(gate: Gate, failed: GateResult, compared: Evidence, *, whose: str) -> GateResult:
    excused = f"the {whose} is no better: {_shown(gate, compared, whose=whose)}"
    return failed.model_copy(
        update={"verdict": "inconclusive", "reason": f"{excused}; {failed.reason}", "excused": excused}
    )


def _shown(gate: Gate, evidence: Evidence, *, whose: str) -> str:
    if evidence.baseline is None or not evidence.baseline_samples:
        return f"the {whose} answered nobody"
    minutes = f"since {evidence.since:%H:%M:%S}"
    if gate.counts:
        rates = [evidence.baseline, evidence.value or 0.0]
        sizes = [evidence.baseline_samples, evidence.samples]
        shown = [f"{rate:g} of {size}" for rate, size in zip(rates, sizes, strict=True)]
        return f"{minutes} the {whose} had {shown[0]}, the new one {shown[1]}"
    own = gate.in_unit(evidence.value or 0.0, 3)
    return f"{minutes} the {whose} showed {gate.in_unit(evidence.baseline, 3)}, the new one {own}"
