"""Standbys: beside each current release, a second process of it that has its model loaded and waits.

Users depend on the current release alone: behind a candidate stands current, and to load a model takes seconds. When
whoever serves is killed, the standby has the turn the same moment, and Envoy asks again until it answers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.serving.periodic import Background
from airflow_provider_mlpipex.serving.plane.fleet import Fleet

EVERY_S = 1.0


class Standbys(Background):
    """:param currents: endpoint and id of each release that users depend on now. :param fleet: starts and ends them.
    :param say: takes what went wrong.
    """

    def __init__(
        self,
        currents: Callable[[], Collection[tuple[EndpointRef, str]]],
        fleet: Fleet,
        say: Callable[[str, Exception], None],
    ) -> None:
        super().__init__("standbys", every_s=EVERY_S, say=say)
        self._currents = currents
        self._fleet = fleet
        self._kept: set[tuple[EndpointRef, str]] = set()

    def work(self) -> None:
        wanted = set(self._currents())
        for endpoint, release in self._kept - wanted:
            self._fleet.stop_standby(endpoint, release)
        self._kept &= wanted
        for endpoint, release in wanted:
            # One at a time: two that load at once would both keep users waiting.
            if self._fleet.answers(endpoint, release) and not self._stopping.is_set():
                self._fleet.launch_standby(endpoint, release)
                self._kept.add((endpoint, release))
