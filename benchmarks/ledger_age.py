"""Age of a ledger: what a verb takes on a chain of 100 entries and on one of 100,000, side by side.

Looks and ``status`` are measured on a plane in memory, so that nothing but the ledger is; rollbacks on a real plane
under steady traffic, from the call to the last request that the bad release was sent. The old chain is what years leave
behind: rollouts that were rejected, batches, drift, alerts, failed stages. Memory is the peak of what Python allocates
in a call. Looks, ``status`` and ``as of`` are one thread and wait for nothing, so what they take beside each other is
of CPU: other programs on the machine are not their fault. The audit is held to the wall clock.
"""

from __future__ import annotations

import itertools
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from airflow_provider_mlpipex.adapters.sql.ledger import SqlLedger
from airflow_provider_mlpipex.composition import Settings, build_platform
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import (
    AlertRaised,
    BatchServed,
    DriftJudged,
    Event,
    Origin,
    RolloutOpened,
    RolloutRejected,
    StageEnded,
)
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import history, status, watch
from airflow_provider_mlpipex.services.rollout.rollback import roll_back
from airflow_provider_mlpipex.testing.platform import memory_platform
from benchmarks.rollback import POLICY, Client, promote_release
from benchmarks.table import Bar, Table, quantile
from tests.support.factories import NOON, ORIGIN, make_release
from tests.support.ledgers import make_old_ledger
from tests.support.manifests import make_manifest
from tests.support.plane import RealPlane
from tests.support.postgres import postgres_server
from tests.support.rollouts import ENDPOINT, World

YOUNG, MIDDLE, OLD = 100, 10_000, 100_000
READY_S = 120.0


def run(*, quick: bool = False) -> Table:
    old, middle = (OLD // 10, MIDDLE // 10) if quick else (OLD, MIDDLE)
    table = Table(("what", "entries", "p50 ms", "peak MiB"))
    with tempfile.TemporaryDirectory(prefix="mlpipex-bench-") as folder:
        aged = {entries: _aged(Path(folder), entries) for entries in (YOUNG, middle, old)}
        _verbs(table, aged[YOUNG], aged[old], (YOUNG, old), rounds=20 if quick else 200)
        _audits(table, aged[middle], aged[old], (middle, old))
        _upgrades(table, Path(folder), aged[old].platform, old)
        _rollbacks(table, Path(folder), (YOUNG, old), rounds=5 if quick else 40)
    return table


def _past() -> Iterator[Event]:
    """What years leave in a chain."""
    manifest, release = make_manifest().to_json(), make_release()
    for number in itertools.count():
        rollout_id = f"scheduled/{number}"
        yield RolloutOpened(rollout_id=rollout_id, release=release, policy=POLICY, manifest=manifest)
        yield RolloutRejected(rollout_id=rollout_id, cause="accuracy at least 60%: observed 0.1")
        for batch in range(8):
            yield BatchServed(batch=f"{number}/{batch}", rows=100, digest=digest_of(batch), answered={release.id: 100})
            yield StageEnded(stage="watch", outcome="failed", seconds=1.0, facts={"verdict": "fail"})
        yield DriftJudged.model_validate(
            {"release": release.id, "since": NOON, "until": NOON, "verdict": "fail", "reason": "amount"}
        )
        yield AlertRaised(title=f"drift {number}")


def _age(ledger: SqlLedger, endpoint: EndpointRef, entries: int, past: Iterator[Event]) -> None:
    while missing := entries - ledger.state(endpoint).seq:
        events = list(itertools.islice(past, min(2_000, missing)))
        ledger.append(endpoint, expected_seq=ledger.state(endpoint).seq, events=events, origin=ORIGIN)


@dataclass
class _Aged:
    """An endpoint with such a past, and a promotion under watch. :param then: a moment of its past."""

    platform: Platform
    then: datetime


def _aged(folder: Path, entries: int) -> _Aged:
    memory = memory_platform()
    ledger = SqlLedger(f"sqlite:///{folder}/{entries}.db", clock=memory.clock)
    # A moment of the past that lies as far behind a checkpoint as the young chain is long.
    past = _past()
    _age(ledger, ENDPOINT, max(1, entries - YOUNG), past)
    then = memory.clock.advance(60)
    _age(ledger, ENDPOINT, entries - 1, past)
    memory.clock.advance(60)
    _age(ledger, ENDPOINT, entries, past)
    world = World(memory=memory, ledger=ledger)
    world.first_release()
    world.bring("run-2", "1.1.0", to="watching")
    return _Aged(world.platform, then)


def _verbs(table: Table, young: _Aged, old: _Aged, ages: tuple[int, int], *, rounds: int) -> None:
    for name, verb in (("status", _status), ("one look", _look), ("as of", _as_of)):
        times: tuple[list[float], list[float]] = ([], [])
        sides = list(zip(times, (young, old), strict=True))
        for number in range(rounds):
            # In turn the one and the other first: whoever comes second finds the machine as the first has left it.
            for found, aged in sides if number % 2 else sides[::-1]:
                began = time.process_time()
                verb(aged)
                found.append((time.process_time() - began) * 1000)
        medians = [quantile(found, 0.5) for found in times]
        peaks = [_peak(partial(verb, aged)) for aged in (young, old)]
        for age, median, peak in zip(ages, medians, peaks, strict=True):
            table.rows.append((name, f"{age:,}", f"{median:.2f}", f"{peak:.2f}"))
        table.bars.append(Bar(f"{name}, old beside young", medians[1] / medians[0], 1.2, " times"))
        if verb is not _as_of:  # it holds a page of entries, and the young chain has none to fill it
            table.bars.append(Bar(f"memory of {name}, old beside young", peaks[1] / peaks[0], 1.2, " times"))


def _status(aged: _Aged) -> None:
    assert status.endpoint_status(aged.platform, ENDPOINT)["rollout"] is not None


def _look(aged: _Aged) -> None:
    assert watch.look(aged.platform, endpoint=ENDPOINT, rollout_id="run-2", stage="watch").status == "watching"


def _as_of(aged: _Aged) -> None:
    assert history.as_of(aged.platform, ENDPOINT, aged.then).rollout is None


def _peak(call: Callable[[], object]) -> float:
    """MiB."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def _audits(table: Table, middle: _Aged, old: _Aged, ages: tuple[int, int]) -> None:
    began = time.perf_counter()
    counts = history.audit(old.platform)
    seconds = time.perf_counter() - began
    assert counts[str(ENDPOINT)] > ages[1]
    peaks = [_peak(partial(history.audit, aged.platform)) for aged in (middle, old)]
    for age, peak, took in zip(ages, peaks, ("", f"{seconds * 1000:,.0f}"), strict=True):
        table.rows.append(("audit verify", f"{age:,}", took, f"{peak:.2f}"))
    table.bars.append(Bar(f"audit verify of {ages[1]:,} entries", seconds, 60.0, " s"))
    table.bars.append(Bar(f"its memory beside that of {ages[0]:,}", peaks[1] / peaks[0], 1.2, " times"))


def _upgrades(table: Table, folder: Path, platform: Platform, entries: int) -> None:
    """A ledger that an earlier version has left, until the first state is read."""
    with postgres_server() as server:
        for name, url in (("SQLite", f"sqlite:///{folder}/before.db"), ("PostgreSQL", server.url)):
            make_old_ledger(url, revision="r0002", entries=journal.walk(platform, ENDPOINT))
            ledger = SqlLedger(url)
            began = time.perf_counter()
            state = ledger.state(ENDPOINT)
            took = (time.perf_counter() - began) * 1000
            assert state == platform.ledger.state(ENDPOINT)
            table.rows.append((f"upgrade in place and first state, {name}", f"{entries:,}", f"{took:,.0f}", ""))


def _rollbacks(table: Table, folder: Path, ages: tuple[int, int], *, rounds: int) -> None:
    (folder / "plane").mkdir()
    plane = RealPlane(folder / "plane")
    plane.start()
    try:
        after_call = [_Rollbacks(plane, folder, age) for age in ages]
        for number in range(rounds):
            for each in after_call:
                each.play(number)
    finally:
        plane.stop()
    for each in after_call:
        table.rows.append(
            ("call -> last request sent to the bad release", f"{each.age:,}", f"{quantile(each.times, 0.5):.1f}", "")
        )
    young, old = (quantile(each.times, 0.5) for each in after_call)
    table.bars.append(Bar("call -> last request to the bad release, old beside young", old / young, 1.2, " times"))


class _Rollbacks:
    """One endpoint of a real plane, with a ledger of its own age."""

    def __init__(self, plane: RealPlane, folder: Path, age: int) -> None:
        self.age, self.plane, self.times = age, plane, list[float]()
        self.endpoint = EndpointRef.parse(f"production/aged-{age}")
        url = f"sqlite:///{folder}/rollbacks-{age}.db"
        _age(SqlLedger(url), self.endpoint, age, _past())
        settings = Settings(ledger_url=url, snapshot_root=folder)
        self.platform = build_platform(settings, Origin(kind="test"), plane=plane.port)
        self.good, self.bad = plane.release(1), plane.release(2)
        promote_release(self.platform, self.good, "first", endpoint=self.endpoint)
        self.platform.plane.ensure(self.endpoint, self.bad, timeout_s=READY_S)

    def play(self, number: int) -> None:
        """Promote the bad release under traffic and roll it back; remember the milliseconds."""
        promote_release(self.platform, self.bad, f"round-{number}", endpoint=self.endpoint)
        client = Client(self.plane, self.endpoint)
        client.start()
        while client.last_sent_to(2, 0.0) is None:
            time.sleep(0.005)
        called = time.time()
        roll_back(self.platform, self.endpoint, cause="benchmark")
        while (client.last_sent_to(1, called)) is None:
            time.sleep(0.005)
        client.stopping.set()
        client.join()
        last = client.last_sent_to(2, called)
        self.times.append(0.0 if last is None else (last - called) * 1000)
