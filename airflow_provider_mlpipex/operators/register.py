"""Registration: a training record becomes a model version, or a pinned version is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_mlpipex.domain.release.training import TrainingRecord
from airflow_provider_mlpipex.links.mlpipex import MlflowRunLink
from airflow_provider_mlpipex.operators.base import HandedOver, ManifestOperator, StageRun, handed_over


class RegisterModelOperator(ManifestOperator):
    """Register what was trained under a computed version; without ``trained``, resolve the version the manifest pins.

    Refuses a record without metrics, signature, dataset digest, code version or artifact digest. Returns ``model``,
    ``version``, ``bump``, ``reasons`` and ``manifest_digest``.

    :param manifest: path of the deployment manifest.
    :param trained: what :class:`TrainModelOperator` returned; ``None`` where ``model.version`` is pinned.
    """

    stage_name = "register"
    template_fields = ("manifest", "trained")
    operator_extra_links = (MlflowRunLink(),)

    def __init__(self, *, trained: HandedOver | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trained = trained

    def verb(self, run: StageRun) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.training.register import register_model

        manifest = self.read_manifest(self.trained if isinstance(self.trained, Mapping) else None)
        registry = run.platform.registry
        bump, reasons = "none", ["pinned by the manifest"]
        if manifest.model.pinned:
            model = registry.get(manifest.model.name, manifest.model.version)
        else:
            trained = handed_over(self.trained, parameter="trained", by="TrainModelOperator")
            record = TrainingRecord.model_validate(trained["record"])
            model, bump, found = register_model(manifest, record, registry=registry)
            reasons = list(found)
        run.push(MlflowRunLink.URL_KEY, registry.page(model.run_id))
        run.envelope.add(dataset=model.dataset.digest, artifact=model.artifact_digest)
        return {
            "model": model.name,
            "version": model.version,
            "bump": bump,
            "reasons": reasons,
            "manifest_digest": manifest.digest,
        }
