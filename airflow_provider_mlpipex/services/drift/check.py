"""Looking at drift: what a release was asked and answered in a window, beside what it was trained on.

One look is one call. It judges from counts, attributes what has drifted to batches, writes down what it found, and
tells on-call once of the same drift. Fails closed: whatever cannot be measured is ``inconclusive`` or ``error``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from airflow_provider_mlpipex.domain.drift.report import (
    DEFAULT_LIMITS,
    BatchFault,
    BatchFaults,
    DriftPage,
    DriftReport,
    Measure,
    RankedDrift,
    Season,
)
from airflow_provider_mlpipex.domain.errors import (
    DriftFound,
    DriftUndecided,
    InvalidQuantity,
    SketchUnusable,
)
from airflow_provider_mlpipex.domain.gates.verdict import VerdictName
from airflow_provider_mlpipex.domain.manifest.drift_block import DriftSpec
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import DriftJudged
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.services import alerts, journal
from airflow_provider_mlpipex.services.drift.attribution import Traced, batch_name, trace
from airflow_provider_mlpipex.services.drift.demand import current_release, demanded
from airflow_provider_mlpipex.services.drift.news import away_at, is_history, is_news, is_routine
from airflow_provider_mlpipex.services.drift.notification import notify
from airflow_provider_mlpipex.services.drift.page import draw
from airflow_provider_mlpipex.services.evidence.served_drift import rows_of, why_unmeasured
from airflow_provider_mlpipex.services.platform import Platform

#: Features that are attributed to batches in one look, the most damaging first, beside the score.
MAX_TRACED = 3
#: Columns and batches of each that the ledger keeps.
MAX_KEPT = 20
#: Batches that a reason names.
MAX_NAMED = 3


class DriftCheck(Value):
    """What one look found.

    :param release: identifier. :param since: first minute, ``until`` is past the last.
    :param rows: that were answered. :param dropped_share: part of all rows that is missing from the counts.
    :param season: of whose rows of the reference the window was compared with; ``None``: all of them.
    :param report: every column; ``None`` where nothing could be measured.
    :param ranking: features by the damage that their drift does, largest first.
    :param raising: columns whose drift raises the alarm.
    :param faults: batches that are not like the others of the window, whether or not the window drifts.
    :param traced: where the drift came from; ``None`` where nothing drifted.
    :param page: for people; of drift that raises the alarm, where there is a folder for such pages.
    :param news: a drift that the same task has not found before, in an earlier Dag run, since there was none.
    :param seq: of the ledger entry; 0 where there is none, because the look was routine and had no news.
    """

    endpoint: EndpointRef
    release: str
    since: datetime
    until: datetime
    verdict: VerdictName
    reason: str
    demand: DriftSpec
    rows: int = 0
    dropped_share: float = 0.0
    season: Season | None = None
    report: DriftReport | None = None
    ranking: tuple[RankedDrift, ...] = ()
    raising: tuple[str, ...] = ()
    faults: BatchFaults = BatchFaults()
    traced: Traced | None = None
    page: DriftPage = DriftPage()
    news: bool = False
    seq: int = 0

    @property
    def message(self) -> str:
        """The whole finding in words: what drifts, which batch carries it, and who sent that."""
        return "; ".join((self.reason, *(self.traced.messages if self.traced else ())))

    @property
    def drifted(self) -> dict[str, Measure]:
        """Columns worth attributing -> the measure of their drift: the score, then features by their damage.

        A broken column is among them: whose rows broke it is the first thing to know.
        """
        from airflow_provider_mlpipex.domain.drift.references import SCORE

        if self.report is None:
            return {}
        verdicts = {column.column: column.verdict for column in self.report.columns}
        ranked = [drift.column for drift in self.ranking if drift.verdict in ("fail", "error")]
        # Whatever raises the alarm comes before what drifts without harm.
        features = sorted(ranked, key=lambda column: column not in self.raising and verdicts[column] == "fail")
        score = [SCORE] if verdicts.get(SCORE) in ("fail", "error") else []
        return {column: _measure_of(self.report, column) for column in (*score, *features[:MAX_TRACED])}

    @property
    def faulty(self) -> tuple[BatchFault, ...]:
        """What raises the alarm about single batches, the most certain first. A column that is broken as a whole is
        told as that."""
        broken = set(self.broken)
        return tuple(
            fault
            for fault in self.faults.faults
            if fault.column not in broken and (fault.damage is None or fault.damage >= self.demand.damage)
        )

    @property
    def faulty_batches(self) -> tuple[str, ...]:
        """Batches with at least one such fault, the most certain first."""
        return tuple(dict.fromkeys(fault.batch for fault in self.faulty))

    @property
    def broken(self) -> tuple[str, ...]:
        """Columns that cannot be compared with what the release was trained on."""
        return tuple(
            column.column for column in (self.report.columns if self.report else ()) if column.verdict == "error"
        )

    def facts(self) -> dict[str, Any]:
        """What the ledger keeps; values of rows are not among it, for a ledger forgets nothing."""
        traced = self.traced or Traced()
        columns = [item for item in (self.report.columns if self.report else ()) if item.verdict != "pass"]
        return {
            "demand": self.demand.to_json(),
            "season": self.season,
            "rows": self.rows,
            "dropped_share": self.dropped_share,
            "raising": list(self.raising),
            "drifted": self.drifted,
            "links": {"report": self.page.address} if self.page.address else {},
            "columns": [column.to_json() for column in columns[:MAX_KEPT]],
            "ranking": [item.to_json() for item in self.ranking[:MAX_KEPT]],
            "faults": [item.to_json() for item in self.faulty[:MAX_KEPT]],
            "attribution": [
                item.model_copy(update={"batches": item.batches[:MAX_KEPT]}).to_json() for item in traced.attributions
            ],
            "batches": [
                {
                    **batch.model_copy(update={"sample": ()}).to_json(),
                    "requests": [row.request_id for row in batch.sample],
                }
                for batch in traced.batches
            ],
        }


def look(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    manifest: Manifest | None = None,
    release: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> DriftCheck:
    """:func:`measure`, attribute, write down, and tell on-call.

    On-call hears of drift, and of what is broken so that nobody can tell; not of too few rows. What on-call has been
    told of, and what has not been away since, is not told again; nor is anything of a window that ended longer ago than
    it is long: that is history, which somebody wants to read.

    What :func:`measure` raises, this raises too; nothing was looked at then, and nothing is written.
    """
    check = measure(platform, endpoint, manifest=manifest, release=release, since=since, until=until)
    if check.drifted or check.faulty:
        traced = trace(
            platform,
            endpoint,
            check.release,
            check.drifted,
            faults=check.faulty,
            season=check.season,
            since=check.since,
            until=check.until,
        )
        check = check.model_copy(update={"traced": traced})
    if check.verdict == "fail":
        columns = [column.column for column in check.report.columns] if check.report else []
        page = draw(platform, endpoint, check.release, columns=columns, since=check.since, until=check.until)
        check = check.model_copy(update={"page": page})
    event = DriftJudged(
        release=check.release,
        since=check.since,
        until=check.until,
        verdict=check.verdict,
        reason=check.reason,
        facts=check.facts(),
    )
    last_well = away_at(platform, check)
    before = platform.ledger.read(endpoint, after_seq=last_well, types=("drift-judged",), subject=check.release)
    history = is_history(check.since, check.until, at=platform.clock.now())
    if is_routine(check, before, history=history):
        platform.ledger.record(endpoint, event, origin=platform.origin)
        return check
    state = journal.decide(platform, endpoint, lambda _: [event])
    alerts.deliver_owed(platform, state)
    check = check.model_copy(update={"seq": state.seq, "news": is_news(check, before, platform.origin)})
    if check.verdict in ("fail", "error") and check.demand.alert and not history:
        notify(platform, check, last_well, channel=alerts.channel_of(state.current_manifest, endpoint))
    return check


def require(check: DriftCheck) -> None:
    """:raises DriftFound: there is drift that moves the score. :raises DriftUndecided: nobody knows."""
    if check.verdict == "fail":
        raise DriftFound(
            f"drift of {check.endpoint}, release {check.release}",
            value=check.message,
            limit="what is served looks like what the release was trained on, wherever that moves its score",
            remedy=f"repair the batch at its source, or retrain; mlpipex drift attribute {check.endpoint}",
        )
    if check.verdict != "pass":
        raise DriftUndecided(
            f"drift of {check.endpoint}, release {check.release}",
            value=check.message,
            limit="enough rows, counted in whole, of columns that can be compared with the training rows",
            remedy=f"see what was found: mlpipex drift check {check.endpoint}",
        )


def measure(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    manifest: Manifest | None = None,
    release: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> DriftCheck:
    """Judge a window of what a release was asked and answered; nothing is written and nobody told.

    No reference, no or too few rows, and too many that were not counted are ``inconclusive``; a broken column and
    counts that cannot be compared are ``error``.

    :param manifest: by whose numbers; those that the current release was promoted under if not given, and defaults
        where these have no ``drift`` block.
    :param release: identifier; the current release if not given.
    :param since: beginning of the window; as long before ``until`` as the manifest says if not given.
    :param until: its end; now if not given.
    :raises DriftUndecided: no release is current. :raises InvalidQuantity: a window of no time.
    :raises ManifestInvalid: ``manifest`` does not say by what numbers to judge.
    :raises PlaneUnavailable: the plane does not answer.
    """
    state = journal.load(platform, endpoint)
    demand = demanded(state, manifest)
    until = until or platform.clock.now()
    since = since or until - demand.window
    if since >= until:
        raise InvalidQuantity(
            "window of a look at drift",
            value=f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}",
            limit="an end after its beginning",
            remedy="correct since or until",
        )
    release = release or current_release(state)
    blank = DriftCheck(
        endpoint=endpoint,
        release=release,
        since=since,
        until=until,
        verdict="inconclusive",
        reason="",
        demand=demand,
    )
    try:
        return _compared(platform, blank)
    except SketchUnusable as error:
        return blank.model_copy(update={"verdict": "error", "reason": str(error)})


def _compared(platform: Platform, blank: DriftCheck) -> DriftCheck:
    from airflow_provider_mlpipex.domain.drift import attribution, judging
    from airflow_provider_mlpipex.domain.drift.chunks import Window
    from airflow_provider_mlpipex.domain.drift.references import SCORE
    from airflow_provider_mlpipex.domain.drift.season import chosen, in_season

    demand = blank.demand
    served = platform.plane.sketches(blank.endpoint, blank.release, since=blank.since, until=blank.until)
    check = blank.model_copy(
        update={
            "since": served.since,
            "until": served.until,
            "rows": rows_of(served),
            "dropped_share": served.dropped_share,
        }
    )
    why = why_unmeasured(served, max_dropped=demand.max_dropped)
    if why or served.reference is None:
        return check.model_copy(update={"verdict": "inconclusive", "reason": why})
    looked_at = Window(since=check.since, until=check.until, season=demand.named_season)
    chosen_season = chosen(served.reference, looked_at) if demand.chooses_season else None
    if chosen_season is not None:
        looked_at = replace(looked_at, season=chosen_season.season)
    reference = in_season(served.reference, looked_at)
    if reference is None:
        why = f"season: {looked_at.season}, and the reference does not know the times of its rows"
        return check.model_copy(update={"verdict": "inconclusive", "reason": why})
    report = judging.check(
        reference,
        served.columns,
        limits=demand.limits,
        alpha=demand.alpha,
        window=None if demand.cycle is False else looked_at,
    )
    ranking = attribution.rank(reference, served.columns, report)
    verdict, reason = attribution.alarm(report, ranking, damage=demand.damage)
    score = report.of(SCORE)
    raising = [SCORE] if score and score.verdict == "fail" else []
    raising += [drift.column for drift in attribution.harmful(ranking, damage=demand.damage)]
    check = check.model_copy(
        update={
            "season": looked_at.season,
            "report": report,
            "ranking": ranking,
            "raising": tuple(raising),
            "faults": _faults(platform, blank),
        }
    )
    verdict, reason = _with_faults(check, verdict, reason)
    if chosen_season is not None:
        explains = f"it explains {100 * chosen_season.part:.0f}% of how those of {chosen_season.column} differ"
        stretches = "same weekday and hours" if chosen_season.season == "week" else "same hours of the day"
        reason = f"{reason}; compared with the reference of the {stretches}: {explains}"
    return check.model_copy(update={"verdict": verdict, "reason": reason})


def _faults(platform: Platform, blank: DriftCheck) -> BatchFaults:
    demand = blank.demand
    if not demand.tests_batches:
        return BatchFaults()
    return platform.plane.batch_faults(
        blank.endpoint,
        blank.release,
        since=blank.since,
        until=blank.until,
        psi=demand.limits.get("psi", DEFAULT_LIMITS["psi"]),
        alpha=demand.alpha,
    )


def _with_faults(check: DriftCheck, verdict: VerdictName, reason: str) -> tuple[VerdictName, str]:
    """A faulty batch raises the alarm although the window as a whole is well, or has too few rows to tell."""
    batches = check.faulty_batches
    if not batches:
        harmless = dict.fromkeys(f"{fault.column} of {batch_name(fault.batch)}" for fault in check.faults.faults)
        named = ", ".join(list(harmless)[:MAX_NAMED]) if verdict == "pass" else ""
        return verdict, f"{reason}; unlike other batches without harm: {named}" if named else reason
    sentences = []
    for batch in batches[:MAX_NAMED]:
        reasons = "; ".join(fault.reason for fault in check.faulty if fault.batch == batch)
        sentences.append(f"{batch_name(batch)} is faulty: {reasons}")
    more = [f"and {len(batches) - MAX_NAMED} more batches"] if len(batches) > MAX_NAMED else []
    return "fail", "; ".join([*([reason] if verdict != "pass" else []), *sentences, *more])


def _measure_of(report: DriftReport, column: str) -> Measure:
    drift = report.of(column)
    failed = [measure.measure for measure in drift.measures if measure.verdict == "fail"] if drift else []
    return failed[0] if failed else "psi"
