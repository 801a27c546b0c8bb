"""The plane's desired state: which releases are kept and which plan is in force, on disk before Envoy is given it.

Whatever is remembered here and not yet in force, or not yet on disk, is tried again until it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from airflow_provider_mlpipex.domain.errors import MlpipexError, PlaneUnavailable
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TIMEOUT_S, TrafficPlan
from airflow_provider_mlpipex.serving.envoy import config as envoy_config
from airflow_provider_mlpipex.serving.envoy.ingress import RESTART_TIMEOUT_S, Ingress
from airflow_provider_mlpipex.serving.envoy.ingress_tokens import IngressTokens
from airflow_provider_mlpipex.serving.plane.state import EndpointMemory, PlaneMemory, write_memory
from airflow_provider_mlpipex.serving.plane.unrecorded import TakenBack
from airflow_provider_mlpipex.serving.reserve import Reserve
from airflow_provider_mlpipex.serving.state_dir import Places


class DesiredState:
    """What a plane should be doing. Only one thread at a time may change or push it: the supervisor's lock is for that.

    :param memory: what it goes on with. :param reserve: room to write it down where the disk is full.
    :param say: takes what went wrong and is tried again. :param tokens: what the ingress takes at this moment.
    """

    def __init__(
        self,
        memory: PlaneMemory,
        places: Places,
        ingress: Ingress,
        *,
        reserve: Reserve,
        say: Callable[[str, Exception], None],
        tokens: Callable[[], IngressTokens],
    ) -> None:
        self.memory = memory
        self._places = places
        self._ingress = ingress
        self._reserve = reserve
        self._say = say
        self._tokens = tokens
        self._tokens_in_force: IngressTokens | None = None
        #: Whether what is remembered has been seen in force; while it has not, the watch tries again.
        self.settled = False
        #: Whether the disk holds less than what is remembered.
        self.unwritten = False
        self._present: dict[str, dict[str, object]] = {}

    # What is remembered.

    def of(self, endpoint: EndpointRef) -> EndpointMemory:
        """What is remembered of ``endpoint``; an empty memory for one that this plane does not know."""
        return self.memory.endpoints.get(str(endpoint), EndpointMemory())

    def kept(self) -> list[tuple[EndpointRef, Release]]:
        """Every release whose model server should run, of every endpoint."""
        return [
            (EndpointRef.parse(name), release)
            for name, memory in self.memory.endpoints.items()
            for release in memory.releases.values()
        ]

    def currents(self) -> list[tuple[EndpointRef, str]]:
        """Whom users depend on."""
        return [(plan.endpoint, plan.current) for plan in self.plans()]

    def fallbacks(self) -> list[tuple[EndpointRef, str]]:
        """Who answers what those cannot."""
        return [
            (plan.endpoint, plan.fallback)
            for plan in self.plans()
            if plan.fallback is not None and plan.fallback in self.of(plan.endpoint).releases
        ]

    def taken_back(self) -> list[tuple[EndpointRef, TakenBack]]:
        """Of every endpoint what was taken back and is in no ledger yet."""
        return [
            (EndpointRef.parse(name), memory.taken_back)
            for name, memory in self.memory.endpoints.items()
            if memory.taken_back is not None
        ]

    def plans(self) -> list[TrafficPlan]:
        """The plan of every endpoint that has one."""
        return [memory.plan for memory in self.memory.endpoints.values() if memory.plan is not None]

    def in_use(self, endpoint: EndpointRef) -> tuple[str, ...]:
        """Ids of the releases that the plan in force needs."""
        plan = self.of(endpoint).plan
        return plan.releases if plan else ()

    def update(self, endpoint: EndpointRef, *, surely: bool = True, **changes: object) -> None:
        """Remember ``changes`` to fields of the endpoint's memory; ``surely`` as for :meth:`remember`."""
        changed = self.of(endpoint).model_copy(update=changes)
        self.remember(self.memory.with_endpoint(str(endpoint), changed), surely=surely)

    def remember(self, memory: PlaneMemory, *, surely: bool = True) -> None:
        """Take ``memory`` for what should be, and write it down.

        :param surely: nothing is done that is not written down; else it is done, and written as soon as it can be.

        :raises PlaneUnavailable: the disk does not take it, and ``surely``.
        """
        try:
            self._reserve.spend(lambda: write_memory(self._places.memory, memory))
            self.unwritten = False
        except PlaneUnavailable as error:
            if surely:
                raise
            self.unwritten = True
            self._say("state of the plane", error)
        self.memory = memory

    # What is in force.

    def push(self, *, patience_s: float = RESTART_TIMEOUT_S, surely: bool = False) -> None:
        """Put what is remembered in force.

        :param patience_s: how long an Envoy that is being restarted is waited for; also one that dies meanwhile.
        """
        try:
            self._put_in_force(patience_s, surely=surely)
        except PlaneUnavailable:
            if patience_s <= 0:
                raise
            self._put_in_force(patience_s, surely=surely)

    def _put_in_force(self, patience_s: float, *, surely: bool) -> None:
        """Clusters that are new, routes, then clusters that are gone."""
        self.settled = False
        self._ingress.wait_until_serving(patience_s)
        sockets = {
            (endpoint, release.id): self._places.socket(endpoint, release.id) for endpoint, release in self.kept()
        }
        routings = [_routing(memory.plan, memory) for memory in self.memory.endpoints.values() if memory.plan]
        wanted = {cluster["name"]: cluster for cluster in envoy_config.clusters(sockets, routings)}
        present = self._present_clusters()
        self.remember(self.memory.model_copy(update={"version": self.memory.version + 1}), surely=surely)
        version = str(self.memory.version)
        # Compared whole, though a cluster does not change under its name: after a restart of the machine the sockets of
        # a plane with a deep state folder are elsewhere, and after an upgrade a cluster may be rendered otherwise.
        is_gone = not self._places.envoy.resource("cds").exists()
        if is_gone or any(present.get(name) != cluster for name, cluster in wanted.items()):
            self._ingress.put("cds", f"{version}-add", list({**present, **wanted}.values()))
        self._present = wanted
        tokens = self._tokens_now()
        self._ingress.put("rds", version, [envoy_config.routes(routings, tokens=tokens)])
        self._tokens_in_force = tokens
        if not present.keys() <= wanted.keys():
            self._ingress.put("cds", f"{version}-end", list(wanted.values()))
        self.settled = True

    @property
    def tokens_changed(self) -> bool:
        """Whether the ingress takes others than it should: one was rotated, or its time is over."""
        return self._tokens_now() != self._tokens_in_force

    def _tokens_now(self) -> IngressTokens:
        """Those of the files; a file that somebody has removed shuts nobody out."""
        tokens = self._tokens()
        return tokens if tokens.clients or self._tokens_in_force is None else self._tokens_in_force

    def settle(self) -> None:
        """Try once more to put in force what is remembered; if that fails, the watch tries again."""
        try:
            self.push(patience_s=0.0)
        except (MlpipexError, OSError) as error:
            self._say("configuration", error)

    def _present_clusters(self) -> dict[str, dict[str, object]]:
        """Those that Envoy was given last; what this process remembers of them where the file is gone, or torn."""
        path = self._places.envoy.resource("cds")
        try:
            return {cluster["name"]: cluster for cluster in json.loads(path.read_text(encoding="utf-8"))["resources"]}
        except (OSError, ValueError, KeyError, TypeError):
            return dict(self._present)


def _routing(plan: TrafficPlan, memory: EndpointMemory) -> envoy_config.Routing:
    return envoy_config.Routing(
        plan=plan,
        try_limit_s=memory.try_limit_s or plan.timeout_s or TIMEOUT_S,
        fallback=plan.fallback if plan.fallback in memory.releases else None,
    )
