"""Slices: the worst are named, worst first; chance names none, however many there are and however often one looks."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mlpipex.domain.shadow import slices
from airflow_provider_mlpipex.domain.shadow.slices import (
    MAX_NAMED,
    MAX_VALUES,
    MIN_PAIRS,
    Slice,
    SlicedColumn,
    WorseSlice,
    worst,
    worst_flip_rate,
)
from airflow_provider_mlpipex.domain.statistics.summaries import Counted, Summed


def part(value: str | None, pairs: int, flips: int, *, mean: float = 0.0, spread: float = 0.0) -> Slice:
    """A slice whose differences have this mean and standard deviation."""
    return Slice(
        value=value,
        pairs=pairs,
        flips=flips,
        count=pairs,
        total=pairs * mean,
        squares=pairs * (mean**2 + spread**2),
    )


def column(*parts: Slice, name: str = "carrier", large_enough: int | None = None) -> SlicedColumn:
    return SlicedColumn(
        column=name,
        slices=parts,
        large_enough=len(parts) if large_enough is None else large_enough,
        values=len(parts),
    )


def found(*columns: SlicedColumn, bound: float | None = 1.0) -> tuple[WorseSlice, ...]:
    """The worst slices, where the first column holds every pair."""
    whole = columns[0].slices
    return worst(
        columns,
        flipped=Counted(events=sum(each.flips for each in whole), trials=sum(each.pairs for each in whole)),
        mean=Summed(
            count=sum(each.count for each in whole),
            total=sum(each.total for each in whole),
            squares=sum(each.squares for each in whole),
            lower=None if bound is None else -bound,
            upper=bound,
        ),
    )


def test_a_slice_that_flips_more_often_is_named_with_its_interval() -> None:
    (named,) = found(column(part("AA", 2000, 40), part("UA", 300, 60), part("DL", 2000, 42)))
    assert (named.column, named.value, named.pairs, named.because) == ("carrier", "UA", 300, ("flip rate",))
    assert named.flip_rate == 0.2
    lower, upper = named.flip_interval
    assert named.overall_flip_rate == pytest.approx(142 / 4300)
    assert named.overall_flip_rate < lower < 0.2 < upper


def test_a_slice_that_flips_less_often_is_not_worse() -> None:
    named = found(column(part("AA", 9000, 900), part("UA", 300, 0), part("DL", 9000, 910)))
    assert named == ()


def test_a_slice_that_has_not_moved_is_not_worse_than_a_whole_that_has() -> None:
    moved = [part(name, 9000, 0, mean=0.1, spread=0.2) for name in ("AA", "DL")]
    assert found(column(*moved, part("UA", 500, 0, mean=0.0, spread=0.05))) == ()


def test_a_slice_that_has_moved_the_other_way_is_worse_if_it_has_moved_farther() -> None:
    moved = [part(name, 9000, 0, mean=0.1, spread=0.5) for name in ("AA", "DL")]
    other = part("UA", 500, 0, mean=-0.3, spread=0.05), part("B6", 500, 0, mean=-0.05, spread=0.05)
    assert [named.value for named in found(column(*moved, *other))] == ["UA"]


@pytest.mark.parametrize("shift", [0.3, -0.3])
def test_a_slice_whose_differences_lie_elsewhere_is_named_either_way(shift: float) -> None:
    quiet = [part(name, 1000, 0, mean=0.0, spread=0.05) for name in ("AA", "DL")]
    (named,) = found(column(*quiet, part("UA", 400, 0, mean=shift, spread=0.05)))
    assert (named.value, named.because) == ("UA", ("mean difference",))
    assert named.mean_difference == pytest.approx(shift)
    assert named.mean_interval is not None
    assert named.mean_interval[0] <= shift <= named.mean_interval[1]


def test_differences_without_bounds_are_compared_as_well() -> None:
    quiet = [part(name, 2000, 2000, mean=1.0, spread=30.0) for name in ("AA", "DL")]
    (named,) = found(column(*quiet, part("UA", 1000, 1000, mean=90.0, spread=30.0)), bound=None)
    assert (named.value, named.because) == ("UA", ("mean difference",))


def test_worst_comes_first_and_flips_before_differences() -> None:
    quiet = [part(name, 5000, 50, spread=0.02) for name in ("AA", "DL")]
    bad = [part("B6", 300, 90), part("UA", 300, 200), part("WN", 500, 5, mean=0.3, spread=0.02)]
    assert [named.value for named in found(column(*quiet, *bad))] == ["UA", "B6", "WN"]


def test_at_most_ten_are_named() -> None:
    parts = [part(f"good-{n}", 1000, 0) for n in range(MAX_NAMED)]
    parts += [part(f"bad-{n}", 1000, 300) for n in range(MAX_NAMED + 3)]
    assert len(found(column(*parts))) == MAX_NAMED


def test_all_equal_slices_and_no_slices_name_none() -> None:
    assert found(column(*(part(str(n), 500, 25) for n in range(MAX_VALUES)))) == ()
    assert found(column()) == ()
    assert worst((), flipped=Counted(events=0, trials=0), mean=Summed(count=0, total=0.0, squares=0.0)) == ()


def test_the_value_that_was_not_sent_is_a_slice_too() -> None:
    (named,) = found(column(part("AA", 2000, 0), part(None, 200, 100)))
    assert named.value is None


# Looking at many.


@pytest.mark.parametrize("large_enough", [1, MAX_VALUES, MAX_VALUES + 1, 1000, 10**6])
@pytest.mark.parametrize("columns", [1, 3])
def test_the_shares_of_all_slices_ever_looked_at_add_up_to_no_more_than_one(large_enough: int, columns: int) -> None:
    """The i-th value to be large enough has the share of that moment at most."""
    counts = range(1, min(large_enough, 20_000) + 1)
    shares = [column(large_enough=count).share(columns) for count in counts]
    assert shares == sorted(shares, reverse=True)
    assert columns * sum(shares) <= 1.0


def test_more_columns_and_more_values_leave_each_slice_less() -> None:
    one = column(part("UA", 100, 10))
    assert one.share(2) == one.share(1) / 2
    assert column(large_enough=1000).share(1) < one.share(1)


def test_what_stands_out_among_few_may_be_chance_among_a_million() -> None:
    parts = (part("AA", 4000, 40), part("UA", 60, 10))
    assert [named.value for named in found(column(*parts))] == ["UA"]
    assert found(column(*parts, large_enough=10**6)) == ()


def test_chance_names_no_slice_although_one_looks_again_and_again() -> None:
    """Rollouts of equal slices, looked at ten times each: fewer than alpha of them may name any."""
    chance = random.Random(7)
    alarms, rollouts = 0, 120
    for _ in range(rollouts):
        pairs, flips = [0] * 12, [0] * 12
        named = False
        for _ in range(10):
            for at in range(12):
                more = 20 + 15 * at
                pairs[at] += more
                flips[at] += sum(chance.random() < 0.05 for _ in range(more))
            named = named or bool(found(column(*(part(str(at), pairs[at], flips[at]) for at in range(12)))))
        alarms += named
    assert alarms <= slices.ALPHA * rollouts


# The worst, for a gate.


def test_the_worst_slice_is_the_one_of_which_most_is_certain() -> None:
    columns = [
        column(part("AA", 5000, 250), part("XX", MIN_PAIRS, 4)),
        column(part("EWR", 2000, 300), part("LGA", 3030, 0), name="origin"),
    ]
    name, slice_ = worst_flip_rate(columns) or ("", None)
    assert (name, slice_ and slice_.value) == ("origin", "EWR"), "4 of 30 are more, but say less"
    assert worst_flip_rate([]) is None
    assert worst_flip_rate([column()]) is None


def _parts(pairs: Sequence[tuple[int, int]]) -> tuple[Slice, ...]:
    return tuple(part(str(at), MIN_PAIRS + more, min(flips, MIN_PAIRS)) for at, (more, flips) in enumerate(pairs))


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, MIN_PAIRS)), min_size=1, max_size=8))
def test_what_is_named_excludes_the_whole(pairs: list[tuple[int, int]]) -> None:
    for named in found(column(*_parts(pairs))):
        assert named.flip_interval[0] > named.overall_flip_rate
