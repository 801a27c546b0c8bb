"""What every model registry refuses, and how it makes a model version out of a training record."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.errors import RegistrationRefused
from airflow_provider_mlpipex.domain.names import check_name
from airflow_provider_mlpipex.domain.release.release import ModelVersion
from airflow_provider_mlpipex.domain.release.training import TrainingRecord

#: An abbreviated git commit is at least this long.
_COMMIT_LENGTH = 7


def model_version_of(record: TrainingRecord, version: str) -> ModelVersion:
    """``record`` as version ``version``.

    :raises RegistrationRefused: naming everything that ``record`` lacks.
    """
    check_name(record.model_name, what="model name")
    lacking = {
        # Of an adopted model that is named as missing, and its release is judged by it.
        "metrics": not record.metrics and record.adopted is None,
        "signature": not record.signature,
        "dataset digest": not record.dataset.digest,
        "code version": len(record.code_version) < _COMMIT_LENGTH,
        "artifact digest": not record.artifact_digest,
        "artifact uri": not record.artifact_uri,
        "run id": not record.run_id,
    }
    missing = [what for what, lacks in lacking.items() if lacks]
    if missing:
        code = "; train in a git checkout, or set MLPIPEX_CODE_VERSION" if "code version" in missing else ""
        raise RegistrationRefused(
            f"model {record.model_name} {version}",
            value=f"missing: {', '.join(missing)}",
            limit="metrics, signature, dataset digest, code version and artifact digest",
            remedy=f"log the training run with TrainModelOperator{code}",
        )
    return ModelVersion(
        name=record.model_name,
        version=version,
        artifact_uri=record.artifact_uri,
        artifact_digest=record.artifact_digest,
        signature=record.signature,
        signature_digest=record.signature_digest,
        architecture=record.architecture,
        configuration_digest=record.configuration_digest,
        dataset=record.dataset,
        code_version=record.code_version,
        source_digest=record.source_digest or None,
        metrics=record.metrics,
        evaluation_rows=record.evaluation_rows,
        run_id=record.run_id,
        adopted=record.adopted,
        runtime=record.runtime,
    )


def taken(model: ModelVersion, *, by: ModelVersion) -> RegistrationRefused:
    """The refusal of a version that another record holds."""
    return RegistrationRefused(
        f"model {model.name} {model.version}",
        value=f"run {model.run_id}",
        limit=f"a free version; run {by.run_id} registered {by.version} first",
        remedy="register again: the next version is computed from what is registered now",
    )
