"""Gate check: takes the endpoint for a release and judges the offline gates of its environment."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.manifest_files import load_manifest_file
from airflow_provider_mlpipex.operators.base import ROLLOUT_ID, HandedOver, ManifestOperator, StageRun, handed_over
from airflow_provider_mlpipex.operators.declared_gates import OpensRollout, declared_gates, put_gates_first


class GateCheckOperator(OpensRollout, ManifestOperator):
    """Open the rollout of a registered model to one environment, and judge its offline gates.

    The gates that the Dag itself declares for that endpoint (``@task.gate``) must have passed before, and the rollout
    keeps their names: no later verb goes on without them.

    A gate that fails or cannot be decided ends the rollout and fails the task, unless all that is undecided is for lack
    of rows and a review is due, which then asks a person. Observed value, threshold and margin of every gate are in
    log, ledger and XCom ``gates`` either way.

    :param manifest: path of the deployment manifest.
    :param environment: which of its environments.
    :param registered: what :class:`RegisterModelOperator` returned.
    :param rollout_id: the rollout to open; one a Dag run by default.
    :param endpoint_hint: ``environment/name``, where whoever makes the task knows it: the Dag's gates of that endpoint
        are put before it.
    """

    stage_name = "gate"
    template_fields = ("manifest", "environment", "registered", "rollout_id")

    def __init__(
        self,
        *,
        environment: str,
        registered: HandedOver,
        rollout_id: str = ROLLOUT_ID,
        endpoint_hint: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.environment = environment
        self.registered = registered
        self.rollout_id = rollout_id
        self.endpoint_hint = endpoint_hint
        put_gates_first(self)

    def stage_endpoint(self) -> EndpointRef:
        manifest = load_manifest_file(self.manifest)
        if self.environment not in manifest.environments:
            return ManifestOperator.stage_endpoint(self)  # where the refusal is written down
        return EndpointRef(environment=self.environment, name=manifest.name)

    def verb(self, run: StageRun) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.rollout import opening
        from airflow_provider_mlpipex.services.training.registered import find

        self._require_environment()
        registered = handed_over(self.registered, parameter="registered", by="RegisterModelOperator")
        manifest = self.read_manifest(registered)
        model = find(run.platform, manifest, registered["model"], registered["version"], endpoint=run.endpoint)
        release = opening.make_release(run.platform, manifest, model, manifest_dir=Path(self.manifest).resolve().parent)
        check = opening.check_offline_gates(
            run.platform,
            endpoint=run.endpoint,
            rollout_id=self.rollout_id,
            release=release,
            manifest=manifest,
            declared_gates=declared_gates(self, run.endpoint, run.context),
        )
        run.envelope.gates(check.results)
        run.envelope.add(release=release.id, verdict=check.verdict)
        run.push("gates", [result.to_json() for result in check.results])
        check.require(release, run.endpoint)
        return {"release": release.id, "verdict": check.verdict, "already_current": check.already_current}

    def _require_environment(self) -> None:
        names = load_manifest_file(self.manifest).environments
        if self.environment in names:
            return
        near = get_close_matches(self.environment, names, n=1)
        raise ManifestInvalid(
            f"manifest {self.manifest}, environments",
            value=self.environment,
            limit=f"one of {', '.join(names)}",
            remedy=f"did you mean {near[0]}?" if near else "name a declared environment",
        )
