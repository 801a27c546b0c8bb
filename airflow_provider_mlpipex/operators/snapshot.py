"""Dataset snapshot: the rows known at a moment, judged, then kept by the digest of all of them."""

from __future__ import annotations

from typing import Any

from airflow_provider_mlpipex.domain.errors import DataQualityFailed
from airflow_provider_mlpipex.domain.fields.quantities import parse_moment
from airflow_provider_mlpipex.operators.base import ManifestOperator, StageRun, require_code_version

#: The run's own moment, unless whoever triggers it asks for another one.
AS_OF = "{{ (params.get('as_of') or dag_run.logical_date or dag_run.run_after) | string }}"


class SnapshotDatasetOperator(ManifestOperator):
    """Load the manifest's training and evaluation windows, check their quality, and keep them.

    Returns ``snapshot`` (digest, rows, windows), ``manifest_digest`` and ``expectations`` judged. Fails without keeping
    anything if a critical expectation is broken; the report is in XCom ``quality`` either way. Where the manifest names
    a feature service, the store gives the features, and rows that it could not answer are counted in ``snapshot``.

    :param manifest: path of the deployment manifest.
    :param as_of: end of the evaluation window, ISO 8601, UTC where it names no zone.
    :param for_training: refuse at once where nobody knows which code would train on it.
    """

    stage_name = "snapshot"
    template_fields = ("manifest", "as_of")

    def __init__(self, *, as_of: str = AS_OF, for_training: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.as_of = as_of
        self.for_training = for_training

    def verb(self, run: StageRun) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.training.snapshots import snapshot_dataset

        manifest = self.read_manifest()
        if self.for_training:
            require_code_version(self.hook, self.manifest)
        try:
            snapshot, report = snapshot_dataset(
                manifest,
                parse_moment(self.as_of, what="as_of"),
                store=run.platform.snapshots,
                validator=run.platform.validator,
                features=run.platform.features,
                tell=run.judged,
            )
        except DataQualityFailed as error:
            run.push("refused", error.as_dict())
            raise
        run.envelope.add(digest=snapshot.digest, rows=snapshot.rows, expectations=report.judged)
        if snapshot.features:
            # Rows that a feature store leaves out in silence would be missed by nobody.
            run.envelope.add(features=snapshot.features.to_json())
        return {
            "snapshot": snapshot.to_json(),
            "expectations": report.judged,
            "manifest_digest": manifest.digest,
        }
