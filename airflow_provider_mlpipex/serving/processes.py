"""Keeping processes: started detached, found again after the keeper itself was killed, restarted when they die.

supervisord and circus do not serve here: both lose their children when they are killed and cannot adopt them again,
while a model server must go on answering through a restart of its supervisor. So each child is recorded by pid *and*
start, and carries the plane's id in its environment: for the one case that a record misses, a keeper killed between
starting a child and writing it down, and against a pid that means another process since the machine was restarted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from airflow_provider_mlpipex.atomic import atomic_write
from airflow_provider_mlpipex.serving.endings import Ending, ending_of, kernel_oom_kills
from airflow_provider_mlpipex.serving.plane_log import PROCESS_NOT_RECORDED, plane_log

PLANE_ID = "MLPIPEX_PLANE_ID"
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.1, 10.0
#: Between two starts of a child that ends for memory again and again: each takes the machine's memory from the others.
FIRST_MEMORY_BACKOFF_S, MAX_MEMORY_BACKOFF_S = 5.0, 300.0
#: After this long without such an end, the next one is a first one.
MEMORY_FORGOTTEN_S = 1200.0
#: A child's log that has grown beyond this is put away; one old log is kept beside it.
LOG_BYTES = 10_000_000
#: From the start of a process to the environment that ``/proc`` shows of it, on a loaded machine.
ENVIRONMENT_WITHIN_S = 2.0


@dataclass
class Child:
    """One process that should run. ``restarts`` counts deaths since it was first started.

    ``start_ticks``: clock ticks from the machine's start to the process's. Not a time of day, which moves with the
    wall clock: a living Envoy would no longer be known, and a second one would take half of its connections.
    """

    name: str
    command: list[str]
    environment: dict[str, str]
    log: str
    pid: int = 0
    start_ticks: int = 0
    restarts: int = 0
    next_start: float = 0.0


class ProcessKeeper:
    """Safe among threads.

    :param folder: where children are recorded, one file each. :param plane_id: unique to this plane.
    """

    def __init__(self, folder: Path, *, plane_id: str) -> None:
        self._folder = folder
        self._plane_id = plane_id
        self._started: dict[int, subprocess.Popen[bytes]] = {}
        #: How the last process of a child has ended, by name, and of those that were ended here, by pid.
        self._endings: dict[str, Ending] = {}
        self._ended_here: dict[int, Ending] = {}
        #: Ends for memory in a row, and when the last one was.
        self._for_memory: dict[str, tuple[int, float]] = {}
        self._oom_kills = kernel_oom_kills()
        # Two threads that both find a child dead would start it twice, and one of the two would be nobody's.
        self._lock = threading.RLock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.children = {child.name: child for child in map(_read, folder.glob("*.json")) if child}
        self._adopt()

    def _adopt(self) -> None:
        """Take up processes whose records are of dead ones: the disk was full when they were started again."""
        dead = {tuple(child.command): child for child in self.children.values() if self._process(child) is None}
        for process in carriers(PLANE_ID, self._plane_id) if dead else []:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                child = dead.get(tuple(process.cmdline()))
                if child is not None and process.status() != psutil.STATUS_ZOMBIE:
                    child.pid, child.start_ticks = process.pid, start_ticks(process.pid) or 0
                    self._write_record(child)

    def start(self, name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> Child:
        """Start ``name`` unless it is running already."""
        with self._lock:
            child = self.children.get(name)
            if child is not None and self.alive(name):
                return child
            child = Child(name=name, command=list(command), environment=dict(environment), log=str(log))
            self.children[name] = child
            self._spawn(child)
            return child

    def alive(self, name: str) -> bool:
        with self._lock:
            child = self.children.get(name)
            return child is not None and self._process(child) is not None

    def revive(self, *, but: Container[str] = ()) -> list[str]:
        """Start again what has died, each with a growing pause; return the names started.

        :param but: names that have to wait.

        :raises OSError: one could not be started; the others were.
        """
        revived, trouble = [], None
        with self._lock:
            for child in self.children.values():
                # The first restart comes at once: most deaths are singular, and users are waiting.
                now = time.monotonic()
                if child.name in but or self._process(child) is not None or now < child.next_start:
                    continue
                child.restarts += 1
                child.next_start = now + self._pause_s(child, now)
                try:
                    self._spawn(child)
                    revived.append(child.name)
                except OSError as error:
                    trouble = error
        if trouble is not None:
            raise trouble
        return revived

    def ending(self, name: str) -> str:
        """How the last process of child ``name`` has ended that had to be started again; empty where none had to."""
        with self._lock:
            ending = self._endings.get(name)
            return ending.said if ending else ""

    def _pause_s(self, child: Child, now: float) -> float:
        """Seconds until it may be started once more, should the process that is started now end as well."""
        ending = self._endings[child.name] = self._how_it_ended(child)
        if not ending.for_memory:
            return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(child.restarts, 10))
        times, last = self._for_memory.get(child.name, (0, now))
        times = times + 1 if now - last < MEMORY_FORGOTTEN_S else 1
        self._for_memory[child.name] = times, now
        return min(MAX_MEMORY_BACKOFF_S, FIRST_MEMORY_BACKOFF_S * 2.0 ** min(times - 1, 10))

    def _how_it_ended(self, child: Child) -> Ending:
        before, self._oom_kills = self._oom_kills, kernel_oom_kills()
        by_kernel = None if before is None or self._oom_kills is None else self._oom_kills > before
        started = self._started.get(child.pid)
        code = started.poll() if started is not None else None
        return self._ended_here.pop(child.pid, None) or ending_of(code, ended_by_kernel=by_kernel)

    def bound_logs(self, *, limit_bytes: int = LOG_BYTES) -> None:
        """Put the log of every child that is larger than ``limit_bytes`` away as ``<name>.1``, and begin it anew.

        What a child holds open is that very file, so it is copied and cut; a line that is written in between is lost.

        :raises OSError: the disk is full, or the folder gone; the log goes on.
        """
        with self._lock:
            logs = {Path(child.log) for child in self.children.values()}
        for log in logs:
            if log.is_file() and log.stat().st_size > limit_bytes:
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
                os.truncate(log, 0)

    def kill(self, name: str, pid: int, *, ending: Ending | None = None) -> bool:
        """SIGKILL a child that hangs, so that :meth:`revive` starts it again; false where ``pid`` is no longer it.

        :param ending: what is said of it.
        """
        with self._lock:
            child = self.children.get(name)
            process = self._process(child) if child is not None and child.pid == pid else None
            if process is not None and ending is not None:
                self._ended_here[pid] = ending
        if process is not None:
            # Asking first would be in vain, and to wait for its end would keep others from being revived.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return process is not None

    def stop(self, name: str, *, grace_s: float = 10.0) -> None:
        """SIGTERM, then SIGKILL after ``grace_s``; forgets the child. Others may be started and revived meanwhile."""
        with self._lock:
            child = self.children.pop(name, None)
            process = self._process(child) if child is not None else None
        if child is None:
            return
        if process is not None:
            _end([process], grace_s=grace_s)
        with self._lock:
            self._reap(child.pid)
            if name not in self.children:
                self._record(child).unlink(missing_ok=True)

    def stop_all(self, *, grace_s: float = 10.0) -> None:
        """Stop every child, and every process that carries this plane's id and has no record."""
        with self._lock:
            processes = [p for child in self.children.values() if (p := self._process(child)) is not None]
            known = {process.pid for process in processes}
            processes += [process for process in carriers(PLANE_ID, self._plane_id) if process.pid not in known]
            _end(processes, grace_s=grace_s)
            for child in self.children.values():
                self._reap(child.pid)
                self._record(child).unlink(missing_ok=True)
            self.children.clear()

    def end_strays(self, *, needed: Container[str]) -> None:
        """End what no record names, and forget children that are not ``needed``: a keeper was killed while it started
        or stopped them."""
        for name in [name for name in self.children if name not in needed]:
            self.stop(name, grace_s=2.0)
        with self._lock:
            known = {child.pid for child in self.children.values() if self._process(child) is not None}
            _end([p for p in carriers(PLANE_ID, self._plane_id) if p.pid not in known], grace_s=2.0)

    def _spawn(self, child: Child) -> None:
        with Path(child.log).open("ab") as log:
            process = subprocess.Popen(
                child.command,
                env={**child.environment, PLANE_ID: self._plane_id},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Its own session: a Ctrl-C at the terminal, or the keeper's death, does not reach it.
                start_new_session=True,
            )
        self._started.pop(child.pid, None)
        self._started[process.pid] = process
        child.pid, child.start_ticks = process.pid, start_ticks(process.pid) or 0
        self._write_record(child)

    def _write_record(self, child: Child) -> None:
        """A record that cannot be written costs nothing while this keeper lives, and the next one knows the process by
        its command (:meth:`_adopt`): a full disk must not keep what serves from being started."""
        try:
            atomic_write(self._record(child), json.dumps(asdict(child)))
        except OSError as error:
            plane_log.warning(PROCESS_NOT_RECORDED, process=child.name, pid=child.pid, error=str(error))

    def _process(self, child: Child) -> psutil.Process | None:
        """The living process of ``child``; a pid that was given to somebody else meanwhile is not it."""
        started = self._started.get(child.pid)
        if started is not None and started.poll() is not None:
            return None
        if child.pid == 0 or start_ticks(child.pid) != child.start_ticks:
            return None
        try:
            process = psutil.Process(child.pid)
            if started is not None:
                # Its environment is not asked for: for a moment after its start it has none to show.
                return process
            ours = process.status() != psutil.STATUS_ZOMBIE and _environment(process).get(PLANE_ID) == self._plane_id
            return process if ours else None
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            return None

    def _reap(self, pid: int) -> None:
        started = self._started.pop(pid, None)
        if started is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(timeout=5)

    def _record(self, child: Child) -> Path:
        return self._folder / f"{child.name}.json"


def start_ticks(pid: int) -> int | None:
    """Clock ticks from the machine's start to that of process ``pid``; ``None`` if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # Field 22; the second field is the name in parentheses and may hold anything.
    return int(stat.rpartition(")")[2].split()[19])


def _environment(process: psutil.Process) -> dict[str, str]:
    """Its variables. For a moment after its start a process has none to show: whoever adopts it then waits for them."""
    for _ in range(int(ENVIRONMENT_WITHIN_S / 0.01)):
        if variables := process.environ():
            return dict(variables)
        time.sleep(0.01)
    return {}


def carriers(variable: str, value: str) -> list[psutil.Process]:
    """Every process but this one whose environment holds ``variable=value``."""
    processes = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(variable) == value:
                processes.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess, OSError):
            continue
    return processes


def carried_id(folder: Path) -> str | None:
    """The plane id that the children recorded in ``folder`` carry; ``None`` if none of them runs."""
    for child in filter(None, map(_read, sorted(folder.glob("*.json")))):
        if child.pid == 0 or start_ticks(child.pid) != child.start_ticks:
            continue
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            carried = _environment(psutil.Process(child.pid)).get(PLANE_ID, "")
            if carried:
                return carried
    return None


def _end(processes: list[psutil.Process], *, grace_s: float) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(processes, timeout=grace_s)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=5)


def _read(path: Path) -> Child | None:
    try:
        child = Child(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError):
        return None
    # The pause is in the dead keeper's monotonic time.
    child.next_start = 0.0
    return child
