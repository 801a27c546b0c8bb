"""Registration: a training record becomes a model version, a model of elsewhere is adopted, or a version looked up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.release.training import TrainingRecord
from airflow_provider_mlpipex.hooks.adoption import adopt
from airflow_provider_mlpipex.links.mlpipex import MlflowRunLink
from airflow_provider_mlpipex.operators.base import HandedOver, ManifestOperator, StageRun, handed_over


class RegisterModelOperator(ManifestOperator):
    """Register what was trained under a computed version; without ``trained``, adopt the model that the manifest names,
    or resolve the version that it pins.

    Refuses a record without metrics, signature, dataset digest, code version or artifact digest. Of an adopted model
    that may be missing: it is recorded as missing, and its environment decides. What the model is goes into the ledger
    of every environment, and the registry is held to it from then on. Returns ``model``, ``version``,
    ``bump``, ``reasons`` and ``manifest_digest``; of an adopted one ``adopted`` too (source, digest, what is missing).

    :param manifest: path of the deployment manifest.
    :param trained: what :class:`TrainModelOperator` returned; ``None`` where ``model.version`` is pinned.
    :param adopt: a model that another pipeline logged (``models:/fraud/7``), instead of the manifest's ``model.adopt``;
        its rows are those of the manifest's ``evaluation``.
    """

    stage_name = "register"
    template_fields = ("manifest", "trained", "adopt")
    operator_extra_links = (MlflowRunLink(),)

    def __init__(self, *, trained: HandedOver | None = None, adopt: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if trained is not None and adopt is not None:
            raise self.invalid("trained, adopt", "both", "a model is either trained or adopted")
        self.trained = trained
        self.adopt = adopt

    def verb(self, run: StageRun) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.training import registered
        from airflow_provider_mlpipex.services.training.locked_runtime import require_proven
        from airflow_provider_mlpipex.services.training.register import register_model

        manifest = self.read_manifest(self.trained if isinstance(self.trained, Mapping) else None)
        registry = run.platform.registry
        bump, reasons = "none", ["pinned by the manifest"]
        if self.adopt or manifest.model.adopt:
            adopted = adopt(
                run.platform,
                manifest,
                folder=Path(self.manifest).resolve().parent,
                reference=self.adopt or "",
                tell=run.judged,
            )
            model, reasons = adopted.model, list(adopted.reasons)
            bump = "none" if adopted.known else "adopted"
        elif manifest.model.pinned:
            model = registry.get(manifest.model.name, manifest.model.version)
        else:
            trained = handed_over(self.trained, parameter="trained", by="TrainModelOperator")
            record = TrainingRecord.model_validate(trained["record"])
            model, bump, causes = register_model(manifest, record, registry=registry)
            reasons = list(causes)
        registered.record(run.platform, manifest, model)
        folder = Path(self.manifest).resolve().parent
        if runtime := require_proven(run.platform, manifest, model, manifest_dir=folder):
            run.envelope.add(lock=runtime.digest)
        run.push(MlflowRunLink.URL_KEY, registry.page(model.run_id))
        run.envelope.add(dataset=model.dataset.digest, artifact=model.artifact_digest)
        return {
            **({"adopted": model.adopted.to_json()} if model.adopted else {}),
            "model": model.name,
            "version": model.version,
            "bump": bump,
            "reasons": reasons,
            "manifest_digest": manifest.digest,
        }
