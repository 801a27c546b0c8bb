"""How often a release that keeps its limits would wait for a person, said before it starts.

``false_alarms`` bounds how often such a release is *taken back*. It says nothing of how often a trial has had all its
time and is still undecided, which is what people meet. A bound of that chance is computed here for a release whose
bad requests are half, or eight tenths, of what its gates allow: binomial, at the end of the patience, for gates with a
limit of their own. A gate beside the current release is left out: nobody knows beforehand how good that one is.

The same chance says how long a trial may take. Where three times its duration would leave more fair releases undecided
than ``false_alarms`` allows, it has as much more time as brings that down (:func:`patience_at`): a person who is called
because traffic was thin is a false alarm too.
"""

from __future__ import annotations

import math

from airflow_provider_mlpipex.domain.fields.quantities import Ratio
from airflow_provider_mlpipex.domain.gates.patience import PATIENCE, excludes, largest_share
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec
from airflow_provider_mlpipex.domain.planning.live_gates import LiveGate, live_gates
from airflow_provider_mlpipex.domain.planning.synthetic_evidence import allowed_share
from airflow_provider_mlpipex.domain.statistics.binomial import more_than
from airflow_provider_mlpipex.domain.values import Value

#: What a release needs of what its gates allow, in the two cases that are told.
GOOD, FAIR = 0.5, 0.8
#: A policy is mostly wrong where more than so many good releases wait for a person.
MOSTLY = 0.5
#: Times its duration that a trial may take, the shortest first. Beyond the last one a person is asked sooner rather
#: than later: more time of that traffic would not tell either.
PATIENCES = (PATIENCE, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0)
_RATES = (1e-3, 1e6)


class Waiting(Value):
    """Chance that a rollout waits for a person, by how much of its limits the release needs.

    :param good: half of each. :param fair: eight tenths.
    :param at_most: what ``false_alarms`` allows. :param patience: times its duration that a trial may take.
    :param works_from: requests a second from which on at most so many fair releases wait; ``None``: at no rate.
    """

    good: Ratio
    fair: Ratio
    at_most: Ratio
    patience: float
    works_from: float | None


def waiting(environment: EnvironmentSpec, rate: float) -> Waiting:
    """How often honest releases wait at ``rate`` requests a second."""
    lasting = patience_at(environment, rate)
    return Waiting(
        good=waits(environment, rate, GOOD, lasting),
        fair=waits(environment, rate, FAIR, lasting),
        at_most=environment.false_alarms,
        patience=lasting,
        works_from=_works_from(environment),
    )


def patience_at(environment: EnvironmentSpec, rate: float | None) -> float:
    """How many times its duration a trial may take before a person is asked: as few as leave at most ``false_alarms``
    of fair releases undecided, and :data:`PATIENCE` where none does, or nobody knows the traffic."""
    if rate is None:
        return PATIENCE
    enough = (times for times in PATIENCES if waits(environment, rate, FAIR, times) <= environment.false_alarms)
    return next(enough, PATIENCE)


def waits(environment: EnvironmentSpec, rate: float, needs: float, lasting: float) -> float:
    """Chance that a release which needs the share ``needs`` of each limit is put before a person in some stage.

    :param lasting: times its duration that a trial may take.
    """
    goes_on = 1.0
    for live in live_gates(environment, rate):
        if live.stage != "watch" and not live.gate.advisory:
            goes_on *= 1.0 - stays_undecided(live, rate, needs, lasting)
    return 1.0 - goes_on


def stays_undecided(live: LiveGate, rate: float, needs: float, lasting: float) -> float:
    """Chance that one gate of a trial has not passed after ``lasting`` times its duration; 0 of what cannot be said
    beforehand."""
    gate, allowed = live.gate, allowed_share(live.gate)
    if math.isnan(allowed) or not 0.0 < allowed < 1.0 or gate.of_slices:
        return 0.0
    requests = math.floor(lasting * live.samples(rate))
    if requests < max(1, gate.min_samples):
        return 1.0
    share = largest_share(gate, allowed)

    def passes(bad: int) -> bool:
        return excludes(bad, requests, share) or (gate.detects is None and bad <= allowed * requests)

    if not passes(0):
        return 1.0
    low, high = 0, requests
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if passes(middle) else (low, middle - 1)
    return more_than(low, requests, needs * allowed)


def _works_from(environment: EnvironmentSpec) -> float | None:
    """Not below the rate where every gate has its samples, and beyond it the chance falls but for steps of whole
    requests, which are less than what a rate is known to."""
    longest, allowed = PATIENCES[-1], environment.false_alarms
    slow, fast = _RATES
    if waits(environment, fast, FAIR, longest) > allowed:
        return None
    while fast / slow > 1.05:
        middle = math.sqrt(slow * fast)
        slow, fast = (middle, fast) if waits(environment, middle, FAIR, longest) > allowed else (slow, middle)
    return float(f"{fast:.2g}")
