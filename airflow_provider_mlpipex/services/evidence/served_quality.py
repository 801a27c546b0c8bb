"""What a release answered to live requests, judged by the manifest's expectations before more users get it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.predictions import OUTPUT_PREFIX, PREDICTION_COLUMNS, REQUEST_ID, PredictionSample
from airflow_provider_mlpipex.domain.quality.report import QualityReport
from airflow_provider_mlpipex.services.evidence.live import MAX_DROPPED_SHARE
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.quality.check import place_of
from airflow_provider_mlpipex.services.quality.gate import judge_report

if TYPE_CHECKING:
    import pandas as pd

#: What ``quality.predictions`` stands for: nothing critical may be broken.
GATE = Gate(name="predictions", metric="quality.broken", max=0)
#: Rows that are judged at most; of more, an even sample.
MAX_ROWS = 10_000


def judge_predictions(
    platform: Platform, endpoint: EndpointRef, manifest: Manifest, *, release_id: str, since: datetime, until: datetime
) -> tuple[GateResult, ...]:
    """The gate on what ``release_id`` answered in the window; none where the manifest expects nothing of it.

    No predictions, and too many lost ones, are ``inconclusive``; a plane that does not answer is ``error``.
    """
    if not manifest.quality.predictions:
        return ()
    now = platform.clock.now()
    try:
        sample = platform.plane.predictions(endpoint, release_id, since=since, until=until, limit=MAX_ROWS)
        enough = sample.rows and sample.dropped_share <= MAX_DROPPED_SHARE
        report = _report(platform, manifest, sample) if enough else None
    except MlpipexError as error:
        broken = Evidence(source="quality", metric="broken", since=since, until=until, broken=str(error))
        return (judge(GATE, broken, now=now),)
    result = judge_report(report, gate=GATE.name, since=since, until=until, now=now, why_not=_why_not(sample))
    return (result,)


def _report(platform: Platform, manifest: Manifest, sample: PredictionSample) -> QualityReport:
    return platform.validator.validate(
        table_of(sample),
        manifest.quality.predictions,
        subject=f"predictions of {sample.release}",
        key=(REQUEST_ID,),
        place=place_of(manifest, "predictions"),
    )


def _why_not(sample: PredictionSample) -> str:
    if sample.dropped_share > MAX_DROPPED_SHARE:
        return f"{100 * sample.dropped_share:.3g}% of the predictions were lost, at most {100 * MAX_DROPPED_SHARE:g}%"
    return f"no predictions of {sample.release} from {sample.since:%H:%M:%S} to {sample.until:%H:%M:%S}"


def table_of(sample: PredictionSample) -> pd.DataFrame:
    """One row a prediction: :data:`PREDICTION_COLUMNS`, inputs by their names, and the parts of a composite output.

    Times are UTC. ``score`` is missing where the answer was no finite number.
    """
    import pandas as pd

    rows = [
        {
            **prediction.inputs,
            **_parts(prediction.output),
            **{column: getattr(prediction, column) for column in PREDICTION_COLUMNS},
        }
        for prediction in sample.rows
    ]
    table = pd.DataFrame(rows)
    return table.assign(at=pd.to_datetime(table["at"], utc=True), score=table["score"].astype("float64"))


def _parts(output: Any) -> dict[str, Any]:
    if isinstance(output, dict):
        return {f"{OUTPUT_PREFIX}{name}": value for name, value in output.items()}
    if isinstance(output, list):
        return {f"{OUTPUT_PREFIX}{place}": value for place, value in enumerate(output)}
    return {}
