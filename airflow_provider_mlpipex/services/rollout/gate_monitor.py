"""One look at the gates of a live stage: what is measured, since when, at which alpha, and beside whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from airflow_provider_mlpipex.domain.gates import watch_windows
from airflow_provider_mlpipex.domain.gates.concurrent_baseline import Standing, after_promotion, in_trial
from airflow_provider_mlpipex.domain.gates.evidence import Evidence, Source
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.shadow.comparison import ShadowComparison
from airflow_provider_mlpipex.services.evidence.live import Measurement, measure
from airflow_provider_mlpipex.services.platform import Platform


@dataclass(frozen=True)
class GateWindows:
    """How one gate is looked at.

    :param begins: when its open windows began, the oldest first; each is judged at ``alpha``.
    :param compared: since when the candidate is compared with the other release, should the gate fail; empty where
        there is none.
    :param broken_since: when the window began in which its limit was broken, while nobody can tell by what. A failure
        that was seen is not unseen because a better second follows.
    :param excused_at: when both releases were last shown to break its limit.
    """

    begins: tuple[datetime, ...]
    alpha: float
    compared: tuple[datetime, ...] = ()
    broken_since: datetime | None = None
    excused_at: datetime | None = None


@dataclass(frozen=True)
class GateMonitor:
    """Measures and judges at one moment. One measurement serves all windows that began together.

    :param judged: release id.
    :param beside: release id that it is compared with over the same minutes.
    :param beside_share: of both releases' requests, that ``beside`` is meant to get; 0 where it gets none.
    :param slices: model inputs by whose values a shadow's pairs are grouped.
    """

    platform: Platform
    endpoint: EndpointRef
    source: Source
    judged: str
    beside: str | None
    now: datetime
    beside_share: float = 0.0
    slices: tuple[str, ...] = ()
    _measured: dict[datetime, Measurement] = field(default_factory=dict)
    #: How the release stands by each gate of a watch whose limit is broken.
    standings: dict[str, Standing] = field(default_factory=dict)

    def look(self, gates: Mapping[Gate, GateWindows]) -> tuple[GateResult, ...]:
        """What each gate says, in their order."""
        return tuple(self._result(gate, windows) for gate, windows in gates.items())

    @property
    def comparison(self) -> ShadowComparison | None:
        """The paired comparison of the longest window that was looked at; ``None`` where none could be made."""
        made = [measured.comparison for _, measured in sorted(self._measured.items(), key=lambda each: each[0])]
        return next((comparison for comparison in made if comparison is not None), None)

    def _result(self, gate: Gate, windows: GateWindows) -> GateResult:
        of_each = [
            judge(gate, self._evidence(gate, since), now=self.now, alpha=windows.alpha) for since in windows.begins
        ]
        decisive = watch_windows.decisive(of_each)
        if decisive.verdict != "fail" and windows.broken_since is not None:
            again = judge(gate, self._evidence(gate, windows.broken_since), now=self.now, alpha=windows.alpha)
            reason = f"the limit was broken before: {again.reason}"
            decisive = again.model_copy(update={"verdict": "fail", "reason": reason})
        if decisive.verdict != "fail" or not windows.compared:
            return decisive
        each = [self._evidence(gate, since) for since in windows.compared]
        compared = [evidence for evidence in each if evidence is not None]
        alpha, share = windows.alpha, self.beside_share
        if self.source != "serving":
            return in_trial(gate, decisive, compared[0] if compared else None, alpha=alpha, share=share)
        result, stands = after_promotion(
            gate, decisive, compared, alpha=alpha, share=share, excused_at=windows.excused_at
        )
        if stands is not None:
            self.standings[gate.name] = stands
        return result

    def _evidence(self, gate: Gate, since: datetime) -> Evidence | None:
        if since not in self._measured:
            self._measured[since] = measure(
                self.platform,
                self.endpoint,
                source=self.source,
                judged=self.judged,
                beside=self.beside,
                since=since,
                until=self.now,
                slices=self.slices,
            )
        return self._measured[since].evidence.get(gate.metric)
