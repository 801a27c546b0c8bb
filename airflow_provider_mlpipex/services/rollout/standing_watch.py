"""The standing watch: every endpoint of a ledger, looked at again and again, for hours.

A round costs one question to the ledger (which chains have grown), one to the plane (:meth:`ServingPlane.survey`), and
the judging of what came back; it writes nothing. It says which endpoints are *due*: only those get a look of their own
(:func:`check_health`), which reads the ledger anew and decides there. So what a watch remembers only saves work: it may
be killed, started again, or stand twice, and nobody is notified twice or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.gates import judging
from airflow_provider_mlpipex.domain.gates.evidence import Telemetry
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.verdict import VerdictName
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.planning.sampling import look_every
from airflow_provider_mlpipex.domain.rollout import incident
from airflow_provider_mlpipex.domain.rollout.plane_observation import Surveyed
from airflow_provider_mlpipex.domain.rollout.state import EndpointState
from airflow_provider_mlpipex.services import alerts
from airflow_provider_mlpipex.services.evidence.live import measured
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout.gate_monitor import GateMonitor, GateWindows
from airflow_provider_mlpipex.services.rollout.health import UNMEASURED_FOR, check_health, gate_windows
from airflow_provider_mlpipex.services.rollout.watch import WatchResult

#: What clients asked and were answered is judged this often, where the manifest expects something of it: that reads a
#: log.
LOGS_EVERY = timedelta(minutes=5)
#: Between two looks of its own at an endpoint that is known to be unhealthy.
RECHECK_EVERY = timedelta(minutes=1)
#: Whoever shifts traffic finishes by himself; for so long nobody helps. A decided rollback waits for nobody: it is
#: finished by the second round that finds it.
UNFINISHED_FOR = timedelta(minutes=1)


@dataclass(frozen=True)
class Round:
    """:param watched: endpoints that were looked at. :param due: those that need a look of their own, and why."""

    watched: int
    due: Mapping[EndpointRef, str]


@dataclass
class _Endpoint:
    """What is remembered of an endpoint between two rounds."""

    state: EndpointState
    environment: EnvironmentSpec | None = None
    #: Whether a gate asks for what was logged or counted in sketches, and not for telemetry alone.
    judges_logs: bool = False
    unfinished_since: datetime | None = None
    unmeasured_since: datetime | None = None
    unreadable: str = ""
    unreadable_notified: bool = False
    attended: datetime | None = None
    last: tuple[tuple[Telemetry, ...], VerdictName] | None = None
    #: Over which window each gate is judged in this round; none where nothing is.
    windows: Mapping[Gate, GateWindows] = field(default_factory=dict)
    #: Of ``state``, as it was parsed.
    manifest: dict[str, Any] | None = field(default=None, repr=False)

    def read(self, state: EndpointState) -> None:
        """Take note of what the ledger says now."""
        if state.current_manifest != self.manifest:
            manifest = Manifest.model_validate(state.current_manifest) if state.current_manifest else None
            self.environment = manifest.environments.get(state.endpoint.environment) if manifest else None
            rollback = self.environment.rollback if self.environment else None
            drifts = rollback is not None and any(gate.source == "drift" for gate in rollback.gates)
            self.judges_logs = drifts or bool(manifest and manifest.quality.predictions)
            self.manifest = state.current_manifest
        self.state, self.last, self.unfinished_since, self.unreadable = state, None, None, ""

    def waited(self, pause: timedelta, now: datetime) -> bool:
        """Whether its last look of its own is at least ``pause`` ago."""
        return self.attended is None or now - self.attended >= pause


class StandingWatch:
    """One watcher's memory. Its methods may run in any thread; :meth:`round` in one at a time.

    :param selection: patterns of endpoints to watch (``production/*``); all of the ledger's if empty.
    """

    def __init__(self, platform: Platform, *, selection: Sequence[str] = ()) -> None:
        self._platform = platform
        self._selection = tuple(selection)
        self._endpoints: dict[EndpointRef, _Endpoint] = {}

    def round(self) -> Round:
        """Look at every endpoint once; write nothing.

        :raises LedgerUnavailable: the ledger does not answer. :raises PlaneUnavailable: the plane does not.
        """
        self._read_ledger()
        now = self._platform.clock.now()
        asked = [self._question(endpoint, known, now) for endpoint, known in self._endpoints.items()]
        survey = self._platform.plane.survey(asked, until=now)
        due: dict[EndpointRef, str] = {}
        for endpoint, known in self._endpoints.items():
            why = self._why(known, survey.plans.get(endpoint), survey.telemetry.get(endpoint, ()), now)
            if why:
                due[endpoint] = why
        return Round(watched=len(self._endpoints), due=due)

    def attend(self, endpoint: EndpointRef) -> WatchResult:
        """The look of its own that an endpoint is due: it may notify on-call, revert, or finish what is half done."""
        known = self._endpoints.get(endpoint)
        if known is None:
            return check_health(self._platform, endpoint)
        known.attended = self._platform.clock.now()
        if known.unreadable:
            return self._tell_unreadable(endpoint, known)
        return check_health(self._platform, endpoint, unmeasured_since=known.unmeasured_since)

    def _tell_unreadable(self, endpoint: EndpointRef, known: _Endpoint) -> WatchResult:
        """Notify on-call, once a watch: what cannot be read cannot be written to, so nothing remembers it."""
        if not known.unreadable_notified:
            known.unreadable_notified = True
            self._platform.alerter.alert(
                channel=alerts.DEFAULT_CHANNEL,
                title=f"{endpoint} cannot be watched",
                body=known.unreadable,
                severity="critical",
                facts={"endpoint": str(endpoint)},
            )
        return WatchResult(status="watching", verdict="error", cause=known.unreadable)

    def _read_ledger(self) -> None:
        heads = self._platform.ledger.heads()
        watched = [endpoint for endpoint in heads if self._is_selected(endpoint)]
        for endpoint in watched:
            known = self._endpoints.get(endpoint)
            if known is None or known.state.seq != heads[endpoint]:
                known = known or self._endpoints.setdefault(endpoint, _Endpoint(EndpointState(endpoint=endpoint)))
                try:
                    known.read(self._platform.ledger.state(endpoint))
                except (MlpipexError, ValueError) as error:
                    if isinstance(error, MlpipexError) and error.transient:
                        raise
                    # What is wrong with one endpoint must not blind the watch of the others.
                    known.unreadable = str(error)
        for endpoint in self._endpoints.keys() - set(watched):
            del self._endpoints[endpoint]

    def _is_selected(self, endpoint: EndpointRef) -> bool:
        return not self._selection or any(fnmatchcase(str(endpoint), pattern) for pattern in self._selection)

    @staticmethod
    def _question(endpoint: EndpointRef, known: _Endpoint, now: datetime) -> Surveyed:
        state, environment, known.windows = known.state, known.environment, {}
        if state.current is None or state.current_since is None or environment is None or _is_watched(state):
            return Surveyed(endpoint)
        known.windows = gate_windows(environment, current_since=state.current_since, now=now)
        since = {begin: None for gate in known.windows.values() for begin in gate.begins}
        return Surveyed(endpoint, state.current.id, tuple(since))

    def _why(self, known: _Endpoint, in_force: str | None, telemetry: tuple[Telemetry, ...], now: datetime) -> str:
        """Why an endpoint is due; empty where it is not."""
        state = known.state
        if known.unreadable:
            return "its ledger cannot be read" if known.waited(RECHECK_EVERY, now) else ""
        if state.rollback is not None or not state.confirmed:
            since, known.unfinished_since = known.unfinished_since, known.unfinished_since or now
            waits = timedelta(0) if state.rollback is not None else UNFINISHED_FOR
            return "a shift of traffic was not finished" if since is not None and now - since >= waits else ""
        if state.planned is not None and in_force != state.planned.id:
            return "the plane does not serve the confirmed plan"
        if alerts.is_owing(self._platform, state):
            return "an alert is owed"
        if _is_watched(state):
            rollback = known.environment.rollback if known.environment else None
            pause = look_every(rollback.window) if rollback else RECHECK_EVERY
            return "it is inside its rollback window" if known.waited(pause, now) else ""
        return self._health(known, telemetry, now)

    def _health(self, known: _Endpoint, telemetry: tuple[Telemetry, ...], now: datetime) -> str:
        state = known.state
        if state.current is None:
            return ""
        verdict = self._verdict(known, telemetry, now)
        if verdict != "error":
            known.unmeasured_since = None
        elif known.unmeasured_since is None:
            known.unmeasured_since = now
        unmeasured = verdict == "error" and now - (known.unmeasured_since or now) >= UNMEASURED_FOR
        if (verdict == "fail" or unmeasured) and incident.is_due(state.incident, release=state.current.id, now=now):
            return f"its gates say {verdict}"
        if state.incident is not None and verdict not in ("fail", "error"):
            waited = now - state.incident.since >= incident.MIN_DURATION and known.waited(RECHECK_EVERY, now)
            return "it may have recovered" if waited else ""
        if known.judges_logs and known.waited(LOGS_EVERY, now):
            return "its predictions and their drift are judged every few minutes"
        return ""

    def _verdict(self, known: _Endpoint, telemetry: tuple[Telemetry, ...], now: datetime) -> VerdictName:
        """What the gates say by ``telemetry``, which holds a window for each that :meth:`_question` has asked for."""
        state = known.state
        if state.current is None or not known.windows or not telemetry:
            return "inconclusive"
        if known.last is not None and _same_counts(known.last[0], telemetry):
            return known.last[1]
        release = state.current.id
        monitor = GateMonitor(
            self._platform,
            state.endpoint,
            "serving",
            judged=release,
            beside=None,
            now=now,
            surveyed={each.since: measured("serving", each, judged=release) for each in telemetry},
        )
        verdict = judging.verdict_of(monitor.look(known.windows))
        known.last = (telemetry, verdict)
        return verdict


def _is_watched(state: EndpointState) -> bool:
    return state.rollout is not None and state.rollout.phase == "watching"


def _same_counts(before: tuple[Telemetry, ...], now: tuple[Telemetry, ...]) -> bool:
    """Whether nothing was counted, and nothing left a window, since."""
    return len(before) == len(now) and all(
        (left.releases, left.complete) == (right.releases, right.complete)
        for left, right in zip(before, now, strict=True)
    )
