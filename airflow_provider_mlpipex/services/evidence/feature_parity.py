"""The parity gate: features as they are served, recomputed through the offline path as of the same instant.

The rows are those that the endpoint's current release looked up, as its prediction log holds them. Where it looked up
none, or by another definition of the features, the newest entities of the model's own evaluation rows are looked up
online now, exactly as a model server would.

That comes before anybody is served. At the end of a shadow and of each canary step, the rows that the candidate itself
has looked up are held against the offline path as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.features.parity import ParityReport, compare
from airflow_provider_mlpipex.domain.features.service import ServedRow, plain
from airflow_provider_mlpipex.domain.gates import judging
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.manifest.features_block import ParitySpec
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.training.feature_rows import require_store

if TYPE_CHECKING:
    from airflow_provider_mlpipex.ports import FeatureStore

#: Rows served longer ago say nothing of the features as they are served now.
LOOK_BACK = timedelta(days=1)
#: Predictions and entities that are looked at for each row that is wanted: a request may have carried its features
#: itself, and the online store need not know the older entities.
_TRIES_A_ROW = 4
#: The most that a plane hands out at once.
_MAX_ROWS = 50_000
_MOMENT = "as_of"


class Parity(NamedTuple):
    """What a check found. ``asked`` counts the looked-up entities that the online store could not answer, by state."""

    evidence: Evidence
    report: ParityReport | None = None
    asked: Mapping[str, int] = {}


def judge(platform: Platform, manifest: Manifest, *, endpoint: EndpointRef, release: Release) -> tuple[GateResult, ...]:
    """The verdict of the parity gate, naming features and rows; nothing where the manifest demands none."""
    spec = manifest.features.parity
    if spec is None or not manifest.features.joined:
        return ()
    parity = measure(platform, manifest, spec, endpoint=endpoint, release=release)
    return (_verdict(platform, spec.gate, parity),)


def judge_trial(
    platform: Platform, manifest: Manifest, *, endpoint: EndpointRef, release: Release, since: datetime, until: datetime
) -> tuple[GateResult, ...]:
    """The same gate on what ``release`` itself has looked up in the window, as many rows as there are; nothing where
    the manifest demands none, or all requests carried their features."""
    spec = manifest.features.parity
    if spec is None or not manifest.features.joined:
        return ()

    def rows(_: FeatureStore) -> list[ServedRow]:
        return logged_rows(platform, manifest, endpoint, release.id, since=since, until=until, limit=spec.rows)

    parity = _measure(platform, manifest, spec, rows)
    if parity.report is not None and not parity.report.rows:
        return ()
    return (_verdict(platform, spec.gate.model_copy(update={"min_samples": 1}), parity),)


def measure(
    platform: Platform, manifest: Manifest, spec: ParitySpec, *, endpoint: EndpointRef, release: Release
) -> Parity:
    """``parity.equality`` of ``spec.rows`` served rows. A store or plane that breaks makes it *broken*, never equal."""
    asked: dict[str, int] = {}

    def rows(store: FeatureStore) -> list[ServedRow]:
        served = served_rows(platform, manifest, endpoint, release, limit=spec.rows)
        missing = spec.rows - len(served)
        looked_up = look_up(platform, store, manifest, release, limit=missing, unanswered=asked) if missing else []
        return [*served, *looked_up]

    return _measure(platform, manifest, spec, rows)._replace(asked=asked)


def _measure(
    platform: Platform, manifest: Manifest, spec: ParitySpec, find: Callable[[FeatureStore], list[ServedRow]]
) -> Parity:
    try:
        store = require_store(manifest, platform.features)
        rows = find(store)
        report = recompute(store, manifest, rows, tolerance=spec.tolerance)
    except MlpipexError as error:
        now = platform.clock.now()
        evidence = Evidence(source="parity", metric="equality", since=now, until=now, broken=str(error))
        return Parity(evidence)
    # Rows may have been looked up just now: the window ends after the last of them.
    now = platform.clock.now()
    evidence = Evidence(
        source="parity",
        metric="equality",
        value=report.equality,
        samples=report.rows,
        since=min((row.as_of for row in rows), default=now),
        until=now,
    )
    return Parity(evidence, report)


def _verdict(platform: Platform, gate: Gate, parity: Parity) -> GateResult:
    result = judging.judge(gate, parity.evidence, now=platform.clock.now())
    if result.verdict == "pass":
        return result
    reasons = [result.reason, parity.report.explain() if parity.report else "", _unanswered(parity.asked)]
    return result.model_copy(update={"reason": "; ".join(part for part in reasons if part)})


def served_rows(
    platform: Platform, manifest: Manifest, endpoint: EndpointRef, release: Release, *, limit: int
) -> list[ServedRow]:
    """What the current release of ``endpoint`` looked up, if by the same definition of the features as ``release``."""
    current = journal.load(platform, endpoint).current
    if current is None or current.feature_digest != release.feature_digest:
        return []
    if not manifest.environments[endpoint.environment].serve:
        return []
    now = platform.clock.now()
    return logged_rows(platform, manifest, endpoint, current.id, since=now - LOOK_BACK, until=now, limit=limit)


def logged_rows(
    platform: Platform,
    manifest: Manifest,
    endpoint: EndpointRef,
    release_id: str,
    *,
    since: datetime,
    until: datetime,
    limit: int,
) -> list[ServedRow]:
    """At most ``limit`` rows that ``release_id`` looked up in the window, with every feature of ``manifest``."""
    sample = platform.plane.predictions(
        endpoint, release_id, since=since, until=until, limit=min(limit * _TRIES_A_ROW, _MAX_ROWS)
    )
    wanted = {*_features(manifest)}
    rows = [
        ServedRow(keys=row.keys, as_of=row.looked_up_at, values=row.inputs, request_id=row.request_id)
        for row in sample.rows
        if row.looked_up_at is not None and wanted <= row.inputs.keys()
    ]
    return rows[-limit:]


def look_up(
    platform: Platform,
    store: FeatureStore,
    manifest: Manifest,
    release: Release,
    *,
    limit: int,
    unanswered: dict[str, int],
) -> list[ServedRow]:
    """Look up the newest entities of the model's own rows, until ``limit`` of them are found.

    :param unanswered: gets the number of entities that the online store could not answer, by state.
    """
    dataset = release.model.dataset
    entities = list(manifest.features.entities)
    frame = platform.snapshots.read(dataset).sort_values(dataset.time_column, ascending=False)
    tried = frame[entities].drop_duplicates().head(limit * _TRIES_A_ROW)
    keys = [{name: plain(value) for name, value in key.items()} for key in tried.to_dict("records")]
    assert release.feature_service is not None  # the manifest names one
    rows: list[ServedRow] = []
    for start in range(0, len(keys), limit):
        if len(rows) >= limit:
            break
        asked = keys[start : start + limit]
        now = platform.clock.now()
        for key, answer in zip(asked, store.online(release.feature_service, asked, as_of=now), strict=True):
            if answer.state == "found":
                values = {name: plain(value) for name, value in answer.values.items()}
                rows.append(ServedRow(keys=key, as_of=now, values=values))
            else:
                unanswered[answer.state] = unanswered.get(answer.state, 0) + 1
    return rows[:limit]


def recompute(store: FeatureStore, manifest: Manifest, rows: Sequence[ServedRow], *, tolerance: float) -> ParityReport:
    """Recompute ``rows`` through the offline path, each as of the instant at which it was served."""
    import pandas as pd

    assert manifest.features.service is not None  # callers have asked whether features are joined
    entities = list(manifest.features.entities)
    asked = pd.DataFrame([{name: row.keys.get(name) for name in entities} for row in rows], columns=entities)
    asked[_MOMENT] = pd.to_datetime([row.as_of for row in rows], utc=True)
    joined = store.historical(manifest.features.service, asked, time_column=_MOMENT).frame
    offline: list[dict[str, Any] | None] = [None] * len(rows)
    for at, record in zip(joined.index, joined.to_dict("records"), strict=True):
        offline[at] = {name: plain(value) for name, value in record.items()}
    features = _features(manifest)
    return compare(manifest.features.service, rows, offline, features=features, tolerance=tolerance)


def _features(manifest: Manifest) -> list[str]:
    return [column for column in manifest.features.columns if column not in manifest.features.entities]


def _unanswered(asked: Mapping[str, int]) -> str:
    if not asked:
        return ""
    counts = ", ".join(f"{count} {state}" for state, count in sorted(asked.items()))
    return f"the online store could not answer for entities of the model's own rows ({counts}): materialise it"
