"""One look at the gates of a live stage: what is measured, since when, at which alpha, and beside whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from airflow_provider_mlpipex.domain.gates import watch_windows
from airflow_provider_mlpipex.domain.gates.concurrent_baseline import (
    Standing,
    after_promotion,
    in_clumps,
    in_trial,
    in_users,
)
from airflow_provider_mlpipex.domain.gates.evidence import Evidence, Source
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.shadow.comparison import ShadowComparison
from airflow_provider_mlpipex.services.evidence.live import Measurement, measure, measure_blocks
from airflow_provider_mlpipex.services.platform import Platform

#: Blocks of time before a stage in which the current release is asked whether it fails in clumps.
_BLOCKS_BEFORE = 30


@dataclass(frozen=True)
class GateWindows:
    """How one gate is looked at.

    :param begins: when its open windows began, the oldest first; each is judged at ``alpha``.
    :param compared: since when the candidate is compared with the other release, should the gate fail; empty where
        there is none.
    :param block: of time, that is good or bad as a whole where requests fail in clumps.
    :param broken_since: when the window began in which its limit was broken, while nobody can tell by what. A failure
        that was seen is not unseen because a better second follows.
    :param excused_at: when both releases were last shown to break its limit.
    :param alone: from when to when the other release had all requests, where the arms are even only since the limit
        was broken.
    """

    begins: tuple[datetime, ...]
    alpha: float
    compared: tuple[datetime, ...] = ()
    block: timedelta | None = None
    broken_since: datetime | None = None
    excused_at: datetime | None = None
    alone: tuple[datetime, datetime] | None = None


@dataclass(frozen=True)
class GateMonitor:
    """Measures and judges at one moment. One measurement serves all windows that began together.

    :param judged: release id.
    :param beside: release id that it is compared with over the same minutes.
    :param beside_share: of both releases' requests, that ``beside`` is meant to get; 0 where it gets none.
    :param slices: model inputs by whose values a shadow's pairs are grouped.
    :param surveyed: measurements up to ``now`` that are there already, by when their window began.
    """

    platform: Platform
    endpoint: EndpointRef
    source: Source
    judged: str
    beside: str | None
    now: datetime
    beside_share: float = 0.0
    slices: tuple[str, ...] = ()
    surveyed: Mapping[datetime, Measurement] = field(default_factory=dict)
    _measured: dict[datetime, Measurement] = field(default_factory=dict)
    #: How the release stands by each gate whose limit is broken and that is compared.
    standings: dict[str, Standing] = field(default_factory=dict)

    def look(self, gates: Mapping[Gate, GateWindows]) -> tuple[GateResult, ...]:
        """What each gate says, in their order."""
        return tuple(self._result(gate, windows) for gate, windows in gates.items())

    @property
    def comparison(self) -> ShadowComparison | None:
        """The paired comparison of the longest window that was looked at; ``None`` where none could be made."""
        made = [measured.comparison for _, measured in sorted(self._measured.items(), key=lambda each: each[0])]
        return next((comparison for comparison in made if comparison is not None), None)

    @property
    def wrong_split(self) -> str | None:
        """What is wrong with the split of the requests, by any of the windows that were looked at."""
        return next((measured.wrong_split for measured in self._measured.values() if measured.wrong_split), None)

    def _result(self, gate: Gate, windows: GateWindows) -> GateResult:
        of_each = [
            judge(gate, self._evidence(gate, since), now=self.now, alpha=windows.alpha) for since in windows.begins
        ]
        decisive = watch_windows.decisive(of_each)
        if decisive.verdict != "fail" and windows.broken_since is not None:
            again = judge(gate, self._evidence(gate, windows.broken_since), now=self.now, alpha=windows.alpha)
            reason = f"the limit was broken before: {again.reason}"
            decisive = again.model_copy(update={"verdict": "fail", "reason": reason})
        if self.wrong_split:
            return self._without_comparing(gate, decisive, self.wrong_split)
        if decisive.verdict != "fail" or not windows.compared:
            return decisive
        each = [self._evidence(gate, since) for since in windows.compared]
        compared = [evidence for evidence in each if evidence is not None]
        alpha, share = windows.alpha, self.beside_share
        if self.source != "serving":
            result, stands = in_trial(gate, decisive, compared[0] if compared else None, alpha=alpha, share=share)
            result = self._in_clumps(gate, result, windows) if result.verdict == "fail" else result
            result = self._in_users(gate, result, windows) if result.verdict == "fail" else result
        else:
            alone = windows.alone
            result, stands = after_promotion(
                gate,
                decisive,
                compared,
                alpha=alpha,
                share=share,
                excused_at=windows.excused_at,
                before=partial(self._alone, gate, alone) if alone else None,
            )
        if stands is not None:
            self.standings[gate.name] = stands
        return result

    def _without_comparing(self, gate: Gate, result: GateResult, wrong_split: str) -> GateResult:
        """``result`` where users did not come to the releases as planned. A broken limit stays one: nothing is left to
        excuse it by. Whatever else the gate says is of users whom nobody has chosen, and a measurement that is broken.
        """
        if result.verdict == "fail" and not gate.relative:
            return result.model_copy(update={"reason": f"{result.reason}; {wrong_split}"})
        broken = result.evidence.model_copy(update={"broken": result.evidence.broken or wrong_split})
        return judge(gate, broken, now=self.now)

    def _alone(self, gate: Gate, minutes: tuple[datetime, datetime]) -> Evidence | None:
        """What the other release showed over these minutes, in which it answered all requests."""
        return self._measure(*minutes).evidence.get(gate.metric)

    def _in_clumps(self, gate: Gate, failed: GateResult, windows: GateWindows) -> GateResult:
        """A failure is held against the blocks of time that it came in, those of the current release before the stage
        included: only they tell whether requests fail by themselves."""
        block, since = windows.block, windows.compared[0]
        if block is None or self.beside is None:
            return failed
        ended = (self.now - since) // block
        earlier = [since - k * block for k in range(_BLOCKS_BEFORE, 0, -1)]
        parts = [
            measure_blocks(
                self.platform,
                self.endpoint,
                source=self.source,
                judged=self.judged,
                beside=self.beside,
                begins=begins,
                length=block,
            )
            for begins in (earlier, [since + k * block for k in range(ended)])
        ]
        before, blocks = ([each[gate.metric] for each in part if gate.metric in each] for part in parts)
        return in_clumps(gate, failed, blocks, before, alpha=windows.alpha)

    def _in_users(self, gate: Gate, failed: GateResult, windows: GateWindows) -> GateResult:
        """A failure is held against the users whom it hit, where requests say whose they are."""
        groups = next((measured.groups for measured in self._measured.values() if measured.groups), None) or {}
        own, beside = groups.get(self.judged, ()), groups.get(self.beside or "", ())
        return in_users(gate, failed, own, beside, alpha=windows.alpha)

    def _evidence(self, gate: Gate, since: datetime) -> Evidence | None:
        if since in self.surveyed:
            return self.surveyed[since].evidence.get(gate.metric)
        if since not in self._measured:
            self._measured[since] = self._measure(since, self.now)
        return self._measured[since].evidence.get(gate.metric)

    def _measure(self, since: datetime, until: datetime) -> Measurement:
        return measure(
            self.platform,
            self.endpoint,
            source=self.source,
            judged=self.judged,
            beside=self.beside,
            since=since,
            until=until,
            slices=self.slices,
        )
