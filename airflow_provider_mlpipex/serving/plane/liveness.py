"""Liveness: a model server that runs and answers nothing for a minute is killed, and so started again.

The keeper sees a process that died, not one that hangs. Requests to a candidate that hangs go to the current release
after their timeout; a current release that hangs has nobody behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.serving.endings import Ending
from airflow_provider_mlpipex.serving.envoy.config import cluster_name
from airflow_provider_mlpipex.serving.periodic import Background
from airflow_provider_mlpipex.serving.plane_log import SERVER_HUNG, plane_log
from airflow_provider_mlpipex.serving.processes import ProcessKeeper

#: Seconds between two looks at every model server.
EVERY_S = 5.0
#: Looks in a row without an answer, after which a server hangs. Each waits its time for an answer: with the pauses, a
#: minute. Looks and not seconds, for a machine that slept has not asked.
MAX_UNANSWERED = 9


class Liveness(Background):
    """Beside the supervisor's watch: to ask a server that hangs takes seconds, and leases end within tenths of one.

    :param servers: those that should run now.
    :param answers: whether one answers ``/ping``.
    :param keeper: kills, and starts again what is dead.
    :param say: takes what went wrong.
    :param serving: name of the process of a release that answers.
    """

    def __init__(
        self,
        servers: Callable[[], Iterable[tuple[EndpointRef, Release]]],
        answers: Callable[[EndpointRef, str], bool],
        keeper: ProcessKeeper,
        say: Callable[[str, Exception], None],
        *,
        serving: Callable[[EndpointRef, str], str] = cluster_name,
    ) -> None:
        super().__init__("liveness", every_s=EVERY_S, say=say)
        self._servers = servers
        self._answers = answers
        self._keeper = keeper
        self._serving = serving
        #: Process -> looks in a row without an answer; of those that have answered. Others may be loading their model
        #: still, which whoever waits for them has a limit for.
        self._silent: dict[tuple[str, int], int] = {}

    def work(self) -> None:
        for name in self.look():
            plane_log.warning(SERVER_HUNG, process=name, unanswered=MAX_UNANSWERED)

    def look(self) -> list[str]:
        """Ask every server once; the names of those that were killed."""
        before, self._silent = self._silent, {}
        killed = []
        for endpoint, release in self._servers():
            name = self._serving(endpoint, release.id)
            child = self._keeper.children.get(name)
            if child is None or self._stopping.is_set():
                continue
            process = name, child.pid
            if self._answers(endpoint, release.id):
                self._silent[process] = 0
            elif process in before:
                self._silent[process] = before[process] + 1
                if self._silent[process] >= MAX_UNANSWERED and self._keeper.kill(
                    *process, ending=Ending(f"hung: answered none of {MAX_UNANSWERED} pings in a row")
                ):
                    killed.append(name)
        return killed
