"""In which order dead model servers are started again, when many died at once.

To load a model takes a core for a second or more. Where all of them did that at the same time, none answered for
twenty; users depend on the current releases, so those have the machine to themselves until they serve. Where a core is
left, the releases behind them are loaded beside them: whichever is there first answers.

Envoys come at once, unless nobody is left whom they could ask and connections can wait: those that wait are answered,
and those that Envoy takes would be refused.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.serving.envoy.config import cluster_name
from airflow_provider_mlpipex.serving.processes import ProcessKeeper

#: The others wait no longer than this: a current release that does not come back needs the one behind it.
PATIENCE_S = 15.0
#: Envoys wait for somebody to ask for as long as that; then clients are told that nobody is there. With 10 s, on a busy
#: machine, all who had waited were refused a second too early.
HOLD_S = PATIENCE_S


class Revival:
    """:param currents: endpoint and id of each release that users depend on.
    :param serves: whether some process of a release takes requests, asked without waiting. Its turn to serve comes a
        moment earlier: whoever was passed on to it then was passed on to nobody.
    :param envoys: names of the children that take requests.
    :param behind: endpoint and id of each release that answers what a current one cannot.
    :param may_hold: whether a connection waits where no Envoy listens.
    """

    def __init__(
        self,
        keeper: ProcessKeeper,
        currents: Callable[[], Collection[tuple[EndpointRef, str]]],
        serves: Callable[[EndpointRef, str], bool],
        *,
        envoys: Collection[str],
        behind: Callable[[], Collection[tuple[EndpointRef, str]]] = tuple,
        may_hold: Callable[[], bool] = lambda: False,
    ) -> None:
        self._keeper = keeper
        self._currents = currents
        self._serves = serves
        self._envoys = frozenset(envoys)
        self._behind = behind
        self._may_hold = may_hold
        self._waited_since: float | None = None

    def revive(self) -> list[str]:
        """Start again what has died, or the first of it; the names started.

        :raises OSError: one could not be started; the others were.
        """
        return self._keeper.revive(but=self._waiting())

    def _waiting(self) -> set[str]:
        """Children that are not started yet, because a current release is being loaded."""
        currents = _names(self._currents())
        loading = [name for name, who in currents.items() if name in self._keeper.children and not self._serves(*who)]
        if not loading:
            self._waited_since = None
            return set()
        now = time.monotonic()
        self._waited_since = now if self._waited_since is None else self._waited_since
        waited_s = now - self._waited_since
        if waited_s > PATIENCE_S:
            return set()
        behind = _names(self._behind())
        waiting = set(self._keeper.children) - self._envoys - currents.keys()
        if len(loading) < len(os.sched_getaffinity(0)):
            waiting -= behind.keys()
        anybody = any(self._serves(*who) for who in (*currents.values(), *behind.values()))
        if not anybody and waited_s < HOLD_S and self._may_hold() and not any(map(self._keeper.alive, self._envoys)):
            waiting |= self._envoys
        return waiting


def _names(releases: Collection[tuple[EndpointRef, str]]) -> dict[str, tuple[EndpointRef, str]]:
    return {cluster_name(endpoint, release): (endpoint, release) for endpoint, release in releases}
