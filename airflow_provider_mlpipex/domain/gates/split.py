"""Whether the split of the requests is the planned one: what a canary says rests on who was sent to it.

A candidate that gets 2 % where 5 % were planned is not judged by one in twenty users but by those whom something has
let through. Nothing that it shows beside another release can be held for the release then, nor against it.
"""

from __future__ import annotations

from airflow_provider_mlpipex.domain.gates.evidence import Split
from airflow_provider_mlpipex.domain.statistics.splits import is_mismatch

#: Chance that an honest split of one plan is ever taken for a wrong one.
SPLIT_ALPHA = 1e-4


def mismatch(split: Split) -> str | None:
    """What is wrong with the split, in words; ``None`` while it may be the planned one."""
    weights = {release: weight for release, weight in split.weights.items() if weight}
    total, units = sum(weights.values()), sum(split.units.values())
    if len(weights) < 2 or not units:
        return None
    # Who was sent to a release that has no share was not split at all.
    counts = [split.units.get(release, 0) for release in weights]
    shares = [weight / total for weight in weights.values()]
    if not is_mismatch(counts, shares, alpha=SPLIT_ALPHA):
        return None
    what = "users" if split.users == units else "requests" if not split.users else "users and requests without one"
    each = ", ".join(
        f"{release} got {100 * count / units:.2g}% where {100 * share:.3g}% were planned"
        for release, count, share in zip(weights, counts, shares, strict=True)
    )
    return f"the split is not the planned one: of {units:,} {what} since {split.since:%H:%M:%S}, {each}"
