"""Training: the manifest's callable on a recorded snapshot, logged with everything that registration asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot
from airflow_provider_mlpipex.links.mlpipex import MlflowRunLink
from airflow_provider_mlpipex.operators.base import (
    HandedOver,
    ManifestOperator,
    StageRun,
    handed_over,
    require_code_version,
)


class TrainModelOperator(ManifestOperator):
    """Train, evaluate on the rows after the snapshot's split, and log one MLflow run.

    Resumable: a retry of the same work (data, code, configuration) returns the run that the first try completed.
    The features are judged before, and the report is in XCom ``quality`` either way. Returns the training ``record``
    and ``manifest_digest``. What the callable itself logs to MLflow goes to the connection's server.

    :param manifest: path of the deployment manifest.
    :param snapshot: what :class:`SnapshotDatasetOperator` returned.
    :param code_version: git commit of the training code; that of the manifest's folder if not given.
    """

    stage_name = "train"
    template_fields = ("manifest", "snapshot", "code_version")
    operator_extra_links = (MlflowRunLink(),)

    def __init__(self, *, snapshot: HandedOver, code_version: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.snapshot = snapshot
        self.code_version = code_version

    def verb(self, run: StageRun) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.training.locked_runtime import locked_runtime
        from airflow_provider_mlpipex.services.training.train import train_model

        taken = handed_over(self.snapshot, parameter="snapshot", by="SnapshotDatasetOperator")
        manifest = self.read_manifest(taken)
        record = train_model(
            manifest,
            DatasetSnapshot.model_validate(taken["snapshot"]),
            store=run.platform.snapshots,
            registry=run.platform.registry,
            validator=run.platform.validator,
            code_version=self.code_version or require_code_version(self.hook, self.manifest),
            now=run.platform.clock.now(),
            tell=run.judged,
            runtime=locked_runtime(run.platform, manifest, manifest_dir=Path(self.manifest).resolve().parent),
            runtimes=run.platform.runtimes,
        )
        run.push(MlflowRunLink.URL_KEY, run.platform.registry.page(record.run_id))
        run.envelope.add(run_id=record.run_id, metrics=dict(record.metrics), code_version=record.code_version)
        if record.runtime:
            run.envelope.add(lock=record.runtime.digest)
        if record.unlabelled:
            run.envelope.add(unlabelled=record.unlabelled)
        return {"record": record.to_json(), "manifest_digest": manifest.digest}
