"""Chaos: what clients lose while processes of the plane are killed (SIGKILL), at 30 requests a second.

Each request is begun when it is due, whatever became of the one before, over a connection of its own: a client that
waits would hide how long nothing answers. A failure counts as *in flight* where its request was begun before the kill
and not answered by then; every other failure is one that a client met afterwards. *Away* is how long after the kill
requests were begun that failed, *silent* the longest time in which none was answered.
"""

from __future__ import annotations

import http.client
import json
import math
import operator
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.serving.state_dir import Places
from airflow_provider_mlpipex.serving.turns import whose_turn
from benchmarks.table import Bar, Table
from tests.support.plane import RealPlane, invocation, path_of
from tests.support.polling import until

ENDPOINT = EndpointRef.parse("production/chaos")
PREVIOUS, CURRENT = 1, 2
A_SECOND, SEEDS = 30, (1, 2, 3)
BODY = json.dumps(invocation()).encode()
#: Seconds of requests before a kill, and after it at least; a request is given up after ``PATIENCE_S``.
BEFORE_S, AFTER_S, PATIENCE_S = 2.0, 6.0, 15.0


@dataclass(frozen=True)
class Request:
    """Moments on the monotonic clock; ``status`` 0 where no answer came."""

    begun: float
    ended: float
    status: int


class Clients:
    """Thirty requests a second while the ``with`` block runs."""

    def __init__(self, plane: RealPlane) -> None:
        self._port = plane.ingress_port
        self._headers = {"content-type": "application/json", "authorization": f"Bearer {plane.client_token}"}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._go_on)
        self.requests: list[Request] = []

    def _go_on(self) -> None:
        due = time.monotonic()
        with ThreadPoolExecutor(A_SECOND * 20) as pool:
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                pool.submit(self._ask)
                due += 1.0 / A_SECOND

    def _ask(self) -> None:
        begun, status = time.monotonic(), 0
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        try:
            connection.request("POST", path_of(ENDPOINT), body=BODY, headers=self._headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        self.requests.append(Request(begun, time.monotonic(), status))

    def __enter__(self) -> Clients:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()


@dataclass
class Toll:
    """What one kind of fault has cost, over all its times."""

    times: int = 0
    requests: int = 0
    in_flight: int = 0
    afterwards: int = 0
    away_s: list[float] = field(default_factory=list)
    silent_s: list[float] = field(default_factory=list)

    def add(self, requests: Sequence[Request], killed_at: float) -> None:
        failed = [request for request in requests if request.status != 200]
        later = [request for request in failed if request.begun >= killed_at]
        self.times += 1
        self.requests += len(requests)
        self.in_flight += sum(request.begun < killed_at for request in failed)
        self.afterwards += len(later)
        # From the kill until the last request was begun that failed.
        self.away_s.append(max((request.begun - killed_at for request in later), default=0.0))
        # A request that waits fails nobody, and is not answered either.
        answered = sorted(r.ended for r in requests if r.status == 200 and r.ended >= killed_at)
        self.silent_s.append(max(map(operator.sub, answered, [killed_at, *answered]), default=math.inf))


class Plane:
    """The plane under attack: previous and current release, each with whatever stands behind it."""

    def __init__(self, plane: RealPlane) -> None:
        self.plane = plane
        self.current, self.previous = plane.release(CURRENT), plane.release(PREVIOUS)
        self._turn = Places(plane.state_dir).socket(ENDPOINT, self.current.id)

    def serving(self) -> list[int]:
        pid = whose_turn(self._turn)
        return [] if pid is None else [pid]

    def current_processes(self) -> list[int]:
        return [pid for pid in self.plane.processes() if self._is_of(pid, self.current.slug)]

    def previous_processes(self) -> list[int]:
        return [pid for pid in self.plane.processes() if self._is_of(pid, self.previous.slug)]

    def envoys(self) -> list[int]:
        return [self.plane.child(name).pid for name in ("envoy", "envoy-2")]

    @staticmethod
    def _is_of(pid: int, slug: str) -> bool:
        try:
            return any(slug in word for word in psutil.Process(pid).cmdline())
        except psutil.NoSuchProcess:
            return False

    def whole_again(self) -> None:
        """Return when two Envoys, current with its standby loaded, and previous are there."""

        def is_whole() -> bool:
            holders = {p for p in self.current_processes() if self._has_loaded(p)}
            observed = self.plane.port.observe(ENDPOINT)
            ready = all(observed.releases[r.id].state == "ready" for r in (self.current, self.previous))
            return ready and len(holders) == 2 and all(map(psutil.pid_exists, self.envoys()))

        until(is_whole, within_s=240.0, what="the plane is whole again")

    def _has_loaded(self, pid: int) -> bool:
        try:
            return any(self._turn.stem in opened.path for opened in psutil.Process(pid).open_files())
        except psutil.NoSuchProcess:
            return False


FAULTS: dict[str, Callable[[Plane], list[int]]] = {
    "current's worker": Plane.serving,
    "current, its standby too": Plane.current_processes,
    "previous": Plane.previous_processes,
    "one Envoy": lambda plane: plane.envoys()[:1],
    "both Envoys": Plane.envoys,
    "everything at once": lambda plane: [*plane.plane.processes()],
}


def run(*, quick: bool = False) -> Table:
    tolls = {fault: Toll() for fault in FAULTS}
    with tempfile.TemporaryDirectory(prefix="mlpipex-bench-") as folder:
        plane = RealPlane(Path(folder))
        plane.start()
        try:
            attacked = _served(plane)
            for seed in SEEDS[:1] if quick else SEEDS:
                chance = random.Random(seed)
                for fault in chance.sample(list(FAULTS), len(FAULTS)):
                    attacked.whole_again()
                    tolls[fault].add(*_strike(attacked, FAULTS[fault], chance))
        finally:
            plane.stop()
    return _table(tolls)


def _served(plane: RealPlane) -> Plane:
    attacked = Plane(plane)
    plane.ensure(ENDPOINT, PREVIOUS, CURRENT)
    plan = TrafficPlan(endpoint=ENDPOINT, current=attacked.current.id, fallback=attacked.previous.id)
    plane.port.apply(plan)
    return attacked


def _strike(
    attacked: Plane, victims: Callable[[Plane], list[int]], chance: random.Random
) -> tuple[list[Request], float]:
    """Requests around one kill, and its moment."""
    with Clients(attacked.plane) as clients:
        time.sleep(BEFORE_S + chance.random() / A_SECOND)
        killed = [psutil.Process(pid) for pid in victims(attacked)]
        for process in killed:
            process.kill()
        # The last of them: until then a request may have been begun at one that was still to be killed.
        killed_at = time.monotonic()
        deadline = time.monotonic() + 60.0
        time.sleep(AFTER_S)
        # Until a second of requests has been answered, so that a long outage is measured to its end.
        while time.monotonic() < deadline:
            recent = [r for r in clients.requests if r.begun > time.monotonic() - 2.0]
            if len(recent) >= A_SECOND and all(r.status == 200 for r in recent):
                break
            time.sleep(0.2)
    return clients.requests, killed_at


def _table(tolls: dict[str, Toll]) -> Table:
    table = Table(
        ("killed", "times", "requests", "failed in flight", "failed afterwards", "away s, longest", "silent s, longest")
    )
    for fault, toll in tolls.items():
        longest = (f"{max(toll.away_s):.2f}", f"{max(toll.silent_s):.2f}")
        table.rows.append((fault, toll.times, toll.requests, toll.in_flight, toll.afterwards, *longest))
    worker, both, everything = tolls["current's worker"], tolls["both Envoys"], tolls["everything at once"]
    table.bars = [
        Bar("requests that fail when current's worker is killed", worker.in_flight + worker.afterwards, 0),
        Bar("requests that fail after one Envoy was killed, beyond those in flight", tolls["one Envoy"].afterwards, 0),
        Bar("requests that fail after both Envoys were killed, beyond those in flight", both.afterwards, 0),
        Bar("seconds without an answer after everything was killed", max(everything.silent_s), 3.0),
    ]
    return table
