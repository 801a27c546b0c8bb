"""The ``drift`` block of an environment: how far what is served may move from what its release was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from airflow_provider_mlpipex.domain.changes import Change
from airflow_provider_mlpipex.domain.drift.report import (
    DEFAULT_ALPHA,
    DEFAULT_LIMITS,
    MEASURES,
    MIN_CHUNKS,
    WORTH_AN_ALARM,
    Measure,
    Season,
)
from airflow_provider_mlpipex.domain.fields.quantities import (
    Duration,
    Ratio,
    format_duration,
    format_ratio,
    parse_duration,
)
from airflow_provider_mlpipex.domain.fields.yaml_text import FieldPath, Problem
from airflow_provider_mlpipex.domain.manifest.gates_diff import NONE, Strictness, compare, loosened, tightened
from airflow_provider_mlpipex.domain.values import Recorded

#: Requests are counted by the minute.
MIN_WINDOW = timedelta(minutes=1)
#: Measures that are distances from 0 to 1: nothing could be beyond a limit of 1.
_DISTANCES: tuple[Measure, ...] = ("ks", "jensen_shannon")

Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class DriftSpec(Recorded):
    """How one look at drift judges. Every field has a default, so ``drift: {}`` is a whole block.

    :param window: how much of the past one look sees.
    :param limits: measure -> drift that is allowed, in the measure's own unit; what is not named is measured and not
        judged.
    :param damage: a drifted feature raises no alarm while its drift moves the score by less than this many standard
        deviations.
    :param alpha: chance of a false alarm in one look, all columns together, and again of all batches together.
    :param max_dropped: share of the rows that may be missing from the counts; above it a look is ``inconclusive``.
    :param alert: whether on-call is told of a drift, of a column that is broken, and of a faulty batch.
    :param season: ``day``: a window is compared with the reference rows of the same hours of the day; ``week``: with
        those of the same weekday and hours; ``none``: with all of them. If not given, the reference itself says which
        (``drift.season.chosen``).
    :param cycle: whether what columns do by themselves over day and week is no drift; false where rows are not of the
        time at which they are served, as a week of rows that is scored at once. It is if not given.
    :param batches: whether each batch is tested against the others of the window; they are if not given.
    """

    added_later = frozenset({"batches", "season", "cycle"})

    window: Duration = parse_duration("1d")
    limits: dict[Measure, Limit] = Field(default=dict(DEFAULT_LIMITS), min_length=1)
    damage: float = Field(default=WORTH_AN_ALARM, ge=0, allow_inf_nan=False)
    alpha: Ratio = Field(default=DEFAULT_ALPHA, gt=0, lt=1)
    max_dropped: Ratio = Field(default=0.01, ge=0, lt=1)
    alert: bool = True
    season: Literal["day", "week", "none"] | None = None
    cycle: bool | None = None
    batches: bool | None = None

    @property
    def named_season(self) -> Season | None:
        """The season that somebody has named."""
        return None if self.season == "none" else self.season

    @property
    def chooses_season(self) -> bool:
        """Whether the reference says which season there is."""
        return self.season is None and self.cycle is not False

    @property
    def compares(self) -> str:
        """What is compared with what, in words."""
        seasons = {"day": "the same hours", "week": "the same weekday and hours", "none": "all rows"}
        if self.cycle is False:
            beside = "all rows of the reference, whatever their time"
        elif self.season is not None:
            beside = f"{seasons[self.season]} of the reference"
        else:
            beside = "the reference; its weekdays and hours apart, where its rows say that they matter"
        return f"windows of {format_duration(self.window)} beside {beside}"

    @property
    def tests_batches(self) -> bool:
        return self.batches is not False


#: How much of the reference a season needs: each of its hours twice, or nobody knows how far one lies from another.
SEASONS: Mapping[Season, timedelta] = {"day": timedelta(days=1), "week": timedelta(days=7)}
_TIMES_A_SEASON = 2
#: From this length on the reference itself says whether hours matter.
_CHOSEN_FROM = timedelta(days=7)


def broken_seasons(
    drift: DriftSpec | None, path: FieldPath, *, reference: timedelta | None, timed: bool
) -> Iterator[Problem]:
    """Why the season of a block at ``path`` could never be compared with.

    :param reference: for how long the rows were collected that the reference is made of; ``None`` where nobody knows.
    :param timed: whether they know when each was.
    """
    if drift is None or drift.named_season is None:
        return
    if drift.cycle is False:
        yield Problem(
            (*path, "season"),
            drift.season,
            "cycle: false says that rows are not of the time at which they are served, so they have no season",
            "remove one of the two",
        )
    period, where = SEASONS[drift.named_season], (*path, "season")
    if not timed:
        yield Problem(
            where,
            drift.season,
            "rows that know when they were: evaluation.time_column is missing",
            "name evaluation.time_column, or leave season out",
        )
    elif reference is not None and reference < _TIMES_A_SEASON * period:
        yield Problem(
            where,
            drift.season,
            f"a reference of at least {format_duration(_TIMES_A_SEASON * period)}: data.window.evaluate is "
            f"{format_duration(reference)}",
            "write a longer data.window.evaluate, or leave season out",
        )


def cautions(
    drift: DriftSpec | None, path: FieldPath, *, reference: timedelta | None, timed: bool
) -> Iterator[Problem]:
    """What works, and sees less, or more, than somebody may think.

    :param reference: as of :func:`broken_seasons`, and so is ``timed``.
    """
    if drift is None or drift.cycle is False:
        return
    if not timed:
        yield Problem(
            path,
            "judged",
            "blind to the time of day: the reference rows do not know when they were, and what columns do over day and "
            "week may be called drift",
            "name evaluation.time_column",
        )
    chooses = drift.chooses_season and timed and reference is not None and reference >= _CHOSEN_FROM
    if drift.window < SEASONS["day"] and drift.named_season is None and not chooses:
        yield Problem(
            (*path, "window"),
            format_duration(drift.window),
            "shorter than a day, and what columns do over a day is not taken off: a fault that makes the night look "
            "like the day is not seen",
            "write window: 1d, season: day, or a data.window.evaluate of a week at least",
        )
    if reference is not None and reference < MIN_CHUNKS * drift.window and drift.named_season is None:
        yield Problem(
            (*path, "window"),
            format_duration(drift.window),
            f"longer than a quarter of the reference ({format_duration(reference)}): how far such windows lie apart by "
            "themselves is not known, and the week or the weather may be called drift",
            "write a longer data.window.evaluate, or a shorter window",
        )


def broken_rules(drift: DriftSpec | None, path: FieldPath, *, serve: bool) -> Iterator[Problem]:
    """Every rule that a block at ``path`` breaks.

    :param serve: whether its environment runs releases at all.
    """
    if drift is None:
        return
    if not serve:
        yield Problem(path, "given", "serve: false serves nobody", "remove it, or write serve: true")
    if drift.window < MIN_WINDOW:
        yield Problem(
            (*path, "window"),
            format_duration(drift.window),
            f"at least {format_duration(MIN_WINDOW)}: requests are counted by the minute",
            "write for example 1d",
        )
    for measure in _DISTANCES:
        if drift.limits.get(measure, 0.0) >= 1:
            yield Problem(
                (*path, "limits", measure),
                drift.limits[measure],
                f"below 1: {measure} is a distance from 0 to 1, and nothing could be beyond this",
                "write for example 0.1",
            )


def diff_drift(what: str, before: DriftSpec | None, after: DriftSpec | None) -> Iterator[Change]:
    """Changes of what counts as drift, and of who is told."""
    if before is None or after is None:
        if before is not after:
            change = tightened if before is None else loosened
            yield change(what, NONE if before is None else "declared", NONE if after is None else "declared")
        return
    yield from compare(what, _strictness(before), _strictness(after))
    if before.window != after.window:
        # A longer one sees drift later, a shorter one has fewer rows to see it by: neither is only stricter.
        yield loosened(f"{what} window", format_duration(before.window), format_duration(after.window))
    if before.season != after.season:
        # Neither is only stricter: other rows to compare with.
        yield loosened(f"{what} season", before.season or _CHOSEN, after.season or _CHOSEN)
    if (before.cycle is False) != (after.cycle is False):
        # A reference that moves by itself hides as much as it explains.
        yield loosened(f"{what} cycle", _said(before.cycle), _said(after.cycle))


#: What a season is that nobody has named.
_CHOSEN = "as the reference says"


def _said(flag: bool | None) -> str:
    return str(flag is not False).lower()


def _strictness(drift: DriftSpec) -> tuple[Strictness, ...]:
    return (
        *(_limit(measure, drift.limits) for measure in MEASURES),
        Strictness("damage", -drift.damage, repr(drift.damage)),
        # The fewer false alarms may be, the more it takes before there is one.
        Strictness("alpha", drift.alpha, format_ratio(drift.alpha)),
        Strictness("max_dropped", -drift.max_dropped, format_ratio(drift.max_dropped)),
        Strictness("alert", float(drift.alert), str(drift.alert).lower()),
        Strictness("batches", float(drift.tests_batches), str(drift.tests_batches).lower()),
    )


def _limit(measure: Measure, limits: Mapping[Measure, float]) -> Strictness:
    limit = limits.get(measure)
    return Strictness(
        f"limit of {measure}", float("-inf") if limit is None else -limit, NONE if limit is None else repr(limit)
    )
