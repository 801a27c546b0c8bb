"""Sample-ratio mismatch: whether units came to their arms by the shares that were planned.

The Dirichlet-multinomial mixture martingale of Lindon & Malek (2022, arXiv:2011.03567): under the planned shares the
likelihood ratio of a mixture over all shares is a martingale with mean 1, so by Ville's inequality it ever exceeds
``1 / alpha`` with probability at most ``alpha``, however often it is looked at. It speaks of *units that are assigned
independently of one another*: users where a user stays on one arm, requests where each is assigned by itself. Requests
of users who stay are neither: one who asks a lot moves the share of requests, and nothing is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

#: Prior of each arm. One half costs about half a log-count, also of small shares.
_PRIOR = 0.5


def log_evidence_against_shares(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Logarithm of the martingale against "units come by ``shares``"; more than ``log(1 / alpha)`` rejects that.

    >>> round(log_evidence_against_shares([40, 1960], [0.05, 0.95]), 1)
    20.3

    :param counts: units of each arm. :param shares: planned, each above 0, in all 1.
    :raises ValueError: shares that are none, or another number of them.
    """
    if len(counts) != len(shares) or len(shares) < 2:
        raise ValueError(f"as many counts as shares, and at least two: got {len(counts)} and {len(shares)}")
    if min(counts) < 0 or min(shares) <= 0.0 or abs(math.fsum(shares) - 1.0) > 1e-9:
        raise ValueError(f"counts from 0 on, and shares above 0 that add up to 1: got {counts} and {shares}")
    arms, units = len(counts), sum(counts)
    mixture = math.lgamma(arms * _PRIOR) - math.lgamma(arms * _PRIOR + units)
    mixture += math.fsum(math.lgamma(_PRIOR + count) - math.lgamma(_PRIOR) for count in counts)
    return mixture - math.fsum(count * math.log(share) for count, share in zip(counts, shares, strict=True))


def is_mismatch(counts: Sequence[int], shares: Sequence[float], *, alpha: float) -> bool:
    """Whether units are shown not to come by ``shares``; wrongly at any look but with probability ``alpha``."""
    return log_evidence_against_shares(counts, shares) > math.log(1.0 / alpha)
