"""In which order dead model servers are started again, when many died at once.

To load a model takes a core for seconds. Where all of them did that at the same time, none answered for twenty; users
depend on the current releases alone, so those have the machine to themselves until they serve.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.serving.envoy.config import cluster_name
from airflow_provider_mlpipex.serving.processes import ProcessKeeper

#: The others wait no longer than this: a current release that does not come back needs the one behind it.
PATIENCE_S = 15.0


class Revival:
    """:param currents: endpoint and id of each release that users depend on.
    :param serves: whether some process of a release has its turn to serve, asked without waiting.
    :param always: children that wait for nobody: Envoys.
    """

    def __init__(
        self,
        keeper: ProcessKeeper,
        currents: Callable[[], Collection[tuple[EndpointRef, str]]],
        serves: Callable[[EndpointRef, str], bool],
        *,
        always: Collection[str],
    ) -> None:
        self._keeper = keeper
        self._currents = currents
        self._serves = serves
        self._always = frozenset(always)
        self._waited_since: float | None = None

    def revive(self) -> list[str]:
        """Start again what has died, or the first of it; the names started.

        :raises OSError: one could not be started; the others were.
        """
        return self._keeper.revive(but=self._waiting())

    def _waiting(self) -> set[str]:
        """Children that are not started yet, because a current release is being loaded."""
        currents = {cluster_name(endpoint, release): (endpoint, release) for endpoint, release in self._currents()}
        loading = [name for name, who in currents.items() if name in self._keeper.children and not self._serves(*who)]
        if not loading:
            self._waited_since = None
            return set()
        now = time.monotonic()
        self._waited_since = now if self._waited_since is None else self._waited_since
        if now - self._waited_since > PATIENCE_S:
            return set()
        return set(self._keeper.children) - self._always - currents.keys()
