"""The drill of a rollback: there and back, measured, and kept in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.links.mlpipex import EndpointLink, HealthPageLink
from airflow_provider_mlpipex.operators.base import MlpipexOperator, StageRun


class RollbackDrillOperator(MlpipexOperator):
    """Send every request of an endpoint to its previous release for a moment, and back.

    A request that the previous release fails is answered by the current one. The task fails where the drill did,
    because then a rollback may not work; traffic is where it was. The last environment of a manifest asks for its word
    (``drills.allowed``). Returns ``ok``, ``back_ms``, ``forth_ms``, ``requests`` and ``failed_requests``.

    :param endpoint: ``environment/name``.
    :param reason: why; goes into the ledger.
    :param seconds: for so long the previous release answers everybody.
    """

    stage_name = "drill"
    template_fields: Sequence[str] = ("endpoint", "reason")
    operator_extra_links = (EndpointLink(), HealthPageLink())

    def __init__(self, *, endpoint: str, reason: str = "drill by a Dag", seconds: float = 5.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.reason = reason
        self.seconds = seconds
        self.check_endpoint()

    def stage_endpoint(self) -> EndpointRef:
        return EndpointRef.parse(self.endpoint)

    def verb(self, run: StageRun) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.rollout.drill import drill, require_ok

        HealthPageLink.push(run)
        ended = drill(run.platform, run.endpoint, reason=self.reason, dwell_s=self.seconds)
        facts = ended.to_json()
        run.envelope.add(**facts)
        EndpointLink.push(run)
        require_ok(run.endpoint, ended)
        return {name: facts[name] for name in ("ok", "back_ms", "forth_ms", "requests", "failed_requests")}
