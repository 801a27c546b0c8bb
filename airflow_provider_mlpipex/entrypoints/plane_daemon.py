"""Composition root of the plane daemon: the supervisor with the release verbs mounted beside its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.composition import Settings, build_platform
from airflow_provider_mlpipex.domain.rollout.events import Origin
from airflow_provider_mlpipex.entrypoints import http_api
from airflow_provider_mlpipex.services.rollout.fallback import notify_of_fallback
from airflow_provider_mlpipex.services.rollout.records import LedgerRecords
from airflow_provider_mlpipex.serving.plane import daemon
from airflow_provider_mlpipex.serving.plane.head_witness import HeadWitness

if TYPE_CHECKING:
    from airflow_provider_mlpipex.domain.names import EndpointRef
    from airflow_provider_mlpipex.serving.plane.fallbacks import FallbackUse
    from airflow_provider_mlpipex.serving.plane.supervisor import Supervisor
    from airflow_provider_mlpipex.serving.plane.unrecorded import TakenBack


def run(
    *, state_dir: Path, ingress_port: int, control_port: int, tracking_uri: str, take_unrecorded: bool = False
) -> None:
    """Serve in the foreground; everything else comes from the environment (``MLPIPEX_*``).

    :param take_unrecorded: also releases and plans that the ledger does not know.
    """
    settings = Settings.from_environment()

    def release_routes(supervisor: Supervisor) -> Sequence[Any]:
        # The plane in this very process: a rollback over HTTP takes no detour over HTTP.
        return http_api.routes(
            build_platform(settings, Origin(kind="http"), plane=supervisor),
            make_room=supervisor.make_room,
            plane=supervisor,
        )

    def record(supervisor: Supervisor, endpoint: EndpointRef, taken: TakenBack) -> None:
        acting = Origin(kind="http", user=taken.user)
        http_api.record_taken_back(build_platform(settings, acting, plane=supervisor), endpoint, taken)

    def notify(use: FallbackUse) -> None:
        # Ledger and alerts alone: the plane is not asked.
        notify_of_fallback(
            build_platform(settings, Origin(kind="plane")),
            use.endpoint,
            current=use.current,
            fallback=use.fallback,
            answers=use.answers,
        )

    daemon.run(
        state_dir,
        ingress_port=ingress_port,
        control_port=control_port,
        tracking_uri=tracking_uri,
        feature_repository=settings.feature_repository,
        standbys=settings.standbys,
        model_memory=settings.model_memory,
        witness=HeadWitness(key_file=settings.head_key_file, url=settings.head_url),
        records=None if take_unrecorded else LedgerRecords(build_platform(settings, Origin(kind="plane"))),
        extra_routes=release_routes,
        on_fallback=notify,
        on_taken_back=record,
    )
