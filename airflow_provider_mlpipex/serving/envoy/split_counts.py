"""Who was sent to which release: users and requests, each counted once, in a bounded sketch that holds no name. And
what became of the requests of users, by groups of them: a few who fail all day make many failures, and are few.

Whether one was counted before is asked of a Bloom filter. It may take a new one for one that it knows, the more so the
fuller it is, but whoever it overlooks does not depend on where that one was sent: what is counted stays a fair sample
of the split, and memory does not grow with users.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Mapping

#: 128 KiB. At 200,000 users and requests one in twelve new ones is overlooked.
_BITS = 1 << 20
_HASHES = 4
#: Groups that users are put into, by a hash that has nothing to do with where they are sent.
GROUPS = 64
#: Seconds that are kept apart, so that a window may end before the last of them.
_FINE_S = 120


class SplitCounts:
    """Of one plan. Not safe among threads.

    :param weights: slug of a release -> its share.
    :param since: seconds since 1970; requests that began earlier were sent by another plan.
    :param settles_s: after which a request has surely ended, and stands in the log. Until then one that was sent to a
        slow release is not known of, and the slow one would seem to get less.
    """

    def __init__(self, weights: Mapping[str, int], *, since: float, settles_s: float) -> None:
        self.weights, self.since, self.settles_s = dict(weights), since, settles_s
        self._known = bytearray(_BITS // 8)
        self._by_second: dict[int, Counter[tuple[str, bool]]] = {}
        self._before: Counter[tuple[str, bool]] = Counter()
        self._folded_until = 0
        self._failed = {slug: [0] * GROUPS for slug in weights}
        self._answered = {slug: [0] * GROUPS for slug in weights}

    def answered(self, slug: str, user: str, *, failed: bool, began: float) -> None:
        """``slug`` has answered a request of ``user``, or failed it."""
        if began < self.since or slug not in self.weights:
            return
        group = zlib.crc32(user.encode()) % GROUPS
        self._answered[slug][group] += 1
        self._failed[slug][group] += failed

    def groups(self, slug: str) -> tuple[tuple[int, int], ...]:
        """Failed ones and requests of each group of users that ``slug`` has answered; empty without any."""
        counted = zip(self._failed[slug], self._answered[slug], strict=True)
        return tuple(counted) if any(self._answered[slug]) else ()

    def add(self, slug: str, unit: str, *, is_user: bool, began: float) -> None:
        """A request of ``unit`` was sent to ``slug``."""
        if began < self.since or slug not in self.weights or not self._is_new(unit):
            return
        second = int(began)
        if second < self._folded_until:
            self._before[slug, is_user] += 1
        else:
            self._by_second.setdefault(second, Counter())[slug, is_user] += 1

    def until(self, moment: float) -> tuple[dict[str, int], int]:
        """Units of each release that came before ``moment`` and have settled, and how many of them are users."""
        ends = int(moment - self.settles_s)
        self._fold(ends - _FINE_S)
        counted = Counter(self._before)
        for second, counts in self._by_second.items():
            if second < ends:
                counted.update(counts)
        units = dict.fromkeys(self.weights, 0)
        for (slug, _), count in counted.items():
            units[slug] += count
        return units, sum(count for (_, is_user), count in counted.items() if is_user)

    def _fold(self, before: int) -> None:
        self._folded_until = max(self._folded_until, before)
        for second in [second for second in self._by_second if second < self._folded_until]:
            self._before.update(self._by_second.pop(second))

    def _is_new(self, unit: str) -> bool:
        digest = hashlib.blake2b(unit.encode(), digest_size=4 * _HASHES).digest()
        is_new = False
        for at in range(0, len(digest), 4):
            place = int.from_bytes(digest[at : at + 4], "big") % _BITS
            byte, bit = divmod(place, 8)
            is_new = is_new or not self._known[byte] >> bit & 1
            self._known[byte] |= 1 << bit
        return is_new
