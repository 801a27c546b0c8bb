"""Adopting a model that another pipeline logged: pinned by its bytes, proven on the team's rows, registered as a copy.

What the pipeline did not record stays unknown and is named so; whether such a model may be released, its environment
says (``services.evidence.provenance``).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_mlpipex.domain.errors import (
    ArtifactMismatch,
    DataQualityFailed,
    RegistrationRefused,
    SignatureMismatch,
)
from airflow_provider_mlpipex.domain.manifest.evaluation_block import EvaluationSpec, Labels
from airflow_provider_mlpipex.domain.release.adoption import (
    READ_AT,
    UNKNOWN_CODE,
    Fact,
    FetchedModel,
    ModelReference,
    ModelSource,
)
from airflow_provider_mlpipex.domain.release.release import Adoption, DatasetSnapshot, ModelVersion
from airflow_provider_mlpipex.domain.release.semver import Version, bump
from airflow_provider_mlpipex.domain.release.training import LockedRuntime, TrainedModel, TrainingRecord
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services.training.evaluation import evaluate
from airflow_provider_mlpipex.services.training.fit import architecture_of
from airflow_provider_mlpipex.services.training.golden_rows import golden_rows

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.ports import Clock, ModelRegistry, SnapshotStore

#: An abbreviated git commit is at least this long.
_COMMIT_LENGTH = 7
_OTHER_ROWS = "the same model on other rows or labels"


@dataclass(frozen=True, kw_only=True)
class AdoptionRequest:
    """What is adopted, and on what it is proven.

    :param endpoint_name: for which it is adopted; of the dataset snapshot, too.
    :param model_name: under which it is registered.
    :param version: what the version shall be called; ``auto``: as MLflow counts it, or the next one.
    :param columns: inputs in order; those of its signature if empty.
    :param rows_digest: of the file that holds the rows, or of the code that gives them; empty where they come from a
        query. Queries and functions are taken as what they ask and not as what they give today.
    """

    reference: ModelReference
    endpoint_name: str
    model_name: str
    evaluation: EvaluationSpec
    version: str = "auto"
    columns: tuple[str, ...] = ()
    rows_digest: str = ""

    def digest(self, source_digest: str) -> str:
        """Of everything that decides what is registered."""
        return digest_of(
            [self.model_name, source_digest, self.version, self.evaluation.to_json(), self.rows_digest, self.columns]
        )

    def digests(self, source_digest: str) -> tuple[str, ...]:
        """:meth:`digest`, and the one of before the code of a callable counted."""
        earlier = [replace(self, rows_digest="")] if self.evaluation.callable else []
        return tuple(each.digest(source_digest) for each in (self, *earlier))


class Adopted(NamedTuple):
    """The registered version, and why it is called so. ``known``: it had been adopted before, nothing was done."""

    model: ModelVersion
    reasons: tuple[str, ...]
    known: bool = False


def adopt_model(
    request: AdoptionRequest,
    *,
    load: Callable[[], pd.DataFrame],
    registry: ModelRegistry,
    snapshots: SnapshotStore,
    clock: Clock,
    runtime: LockedRuntime | None = None,
) -> Adopted:
    """Register the model that ``request`` refers to now; the same request again gives the same version.

    Nothing of another pipeline is changed: its run and its registered model are only read. What the alias came to name
    is written down as a version and a digest; when it moves, adopting again gives another version.

    :param load: gives the rows; not called where the version is known.
    :param runtime: the locked environment that will serve it, and that it is proven in.
    :raises ModelNotFound: nothing stands where the reference points.
    :raises RegistrationRefused: it cannot be loaded or asked, or the version belongs to another model.
    :raises ArtifactMismatch: what was adopted from there before has other bytes now.
    :raises SignatureMismatch: the rows lack an input, or it does not answer them.
    :raises DataQualityFailed: there are no rows, or their labels are all missing.
    """
    source = registry.resolve(request.reference)
    with tempfile.TemporaryDirectory(prefix="mlpipex-adopt-") as scratch:
        fetched = registry.fetch(source, Path(scratch))
        held = registry.versions(request.model_name)
        _require_same_bytes(fetched, held)
        asked = request.digest(fetched.digest)
        for model in held:
            if model.adopted and model.adopted.request_digest in request.digests(fetched.digest):
                return Adopted(model, (f"adopted before from {model.adopted.source}",), known=True)
        with registry.team_code():
            rows = load()
            trained, record = _prove(request, fetched, rows, asked, registry=registry, snapshots=snapshots, clock=clock)
        trained = replace(trained, runtime=runtime)
        record = record.model_copy(update={"runtime": runtime.environment if runtime else None})
        record = registry.log_training(trained, record)
    version, reasons = _version_of(request, source, record, held)
    return Adopted(registry.register(record, version=version), reasons)


def _prove(
    request: AdoptionRequest,
    fetched: FetchedModel,
    table: pd.DataFrame,
    asked: str,
    *,
    registry: ModelRegistry,
    snapshots: SnapshotStore,
    clock: Clock,
) -> tuple[TrainedModel, TrainingRecord]:
    """The model's answers for the team's rows, and everything that is known of it."""
    source, labels = fetched.source, request.evaluation.labels
    snapshot = _keep(request, table, snapshots=snapshots, clock=clock)
    inputs = _inputs(request, fetched, table)
    features = table[inputs].reset_index(drop=True)
    model = registry.open(fetched)
    with _answering(source, request.evaluation):
        predictions = model.predict(features)
    metrics, evaluated = _measure(source, table, labels, predictions, classes=_classes(model))
    commit = source.code_version if len(source.code_version) >= _COMMIT_LENGTH else ""
    known: Mapping[Fact, object] = {
        "training-data": source.training_data,
        "code-version": commit,
        "configuration": source.parameters,
        "signature": fetched.signature,
        "metrics": metrics,
    }
    adoption = Adoption(
        source=source.uri,
        source_digest=fetched.digest,
        request_digest=asked,
        run_id=source.run_id,
        training_data=source.training_data,
        missing=tuple(fact for fact, value in known.items() if not value),
    )
    trained = TrainedModel(
        model=model,
        predict_method="predict",
        examples=golden_rows(features),
        metrics=metrics,
        evaluation_rows=evaluated,
        parameters=source.parameters,
        evaluated=features,
        evaluated_at=table[timed].reset_index(drop=True) if (timed := request.evaluation.time_column) else None,
        folder=fetched.folder,
    )
    return trained, TrainingRecord(
        model_name=request.model_name,
        endpoint_name=request.endpoint_name,
        dataset=snapshot,
        architecture=_architecture(fetched, model),
        configuration_digest=digest_of([dict(source.parameters), inputs]),
        code_version=commit or UNKNOWN_CODE,
        task=labels.task if labels else None,
        metrics=metrics,
        evaluation_rows=evaluated,
        adopted=adoption,
    )


def _keep(request: AdoptionRequest, table: pd.DataFrame, *, snapshots: SnapshotStore, clock: Clock) -> DatasetSnapshot:
    """The rows as a snapshot of which nothing was trained on: it begins where it is split."""
    spec, subject = request.evaluation, f"rows of {request.evaluation.source}"
    if table.empty:
        raise DataQualityFailed(subject, value="no rows", limit="at least one row", remedy="name rows that are there")
    column = spec.time_column or READ_AT
    if spec.time_column is None:
        table = table.assign(**{READ_AT: clock.now()})
    elif column not in table.columns:
        raise DataQualityFailed(
            f"{subject}, time column {column}",
            value=", ".join(map(str, table.columns)),
            limit="a column of the rows",
            remedy="correct evaluation.time_column, or leave it out",
        )
    times = table[column]
    first, last = times.min(), times.max()
    if not hasattr(first, "tzinfo") or first.tzinfo is None or times.isna().any():
        raise DataQualityFailed(
            f"{subject}, time column {column}",
            value=f"{times.dtype}, {int(times.isna().sum())} missing",
            limit="a timestamp with a time zone in every row",
            remedy="convert it with pandas.to_datetime(..., utc=True), or leave evaluation.time_column out",
        )
    begin = first.to_pydatetime()
    return snapshots.write(
        table,
        name=request.endpoint_name,
        time_column=column,
        window_start=begin,
        split_at=begin,
        window_end=last.to_pydatetime() + timedelta(microseconds=1),
        evaluation_only=True,
    )


def _inputs(request: AdoptionRequest, fetched: FetchedModel, table: pd.DataFrame) -> list[str]:
    """The columns that the model takes, in order."""
    spec = request.evaluation
    others = {spec.target, spec.time_column}
    columns = list(request.columns) or [str(name) for name in table.columns if name not in others]
    if fetched.signature is not None:
        listed = json.loads(str(fetched.signature.get("inputs") or "[]"))
        unfit = [_shown(place, column) for place, column in enumerate(listed, 1) if not _is_servable(column)]
        if unfit or not listed:
            raise SignatureMismatch(
                f"model {fetched.source.uri}, its signature",
                value=", ".join(unfit) or "no inputs",
                limit=f"named columns of {', '.join(_SERVED_TYPES)}: what is served takes tables by their columns",
                remedy="log it with a signature over a DataFrame, or wrap it in a PythonModel that takes one",
            )
        named = [str(column["name"]) for column in listed]
        if request.columns and list(request.columns) != named:
            raise SignatureMismatch(
                f"model {fetched.source.uri}, its inputs",
                value=", ".join(named),
                limit=f"as features.columns has them: {', '.join(request.columns)}",
                remedy="correct features.columns, or leave it out: the signature says the same",
            )
        columns = named
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise SignatureMismatch(
            f"model {fetched.source.uri} on rows of {spec.source}",
            value=f"missing columns: {', '.join(missing)}",
            limit=f"every input of the model: {', '.join(columns)}",
            remedy="name rows with these columns",
        )
    if spec.target in columns:
        raise SignatureMismatch(
            f"model {fetched.source.uri}, its inputs",
            value=spec.target,
            limit="inputs without the answer (evaluation.target)",
            remedy="correct evaluation.target; a model that takes the answer predicts nothing",
        )
    return columns


#: MLflow's types of a column that a cell of a table can hold.
_SERVED_TYPES = ("boolean", "integer", "long", "float", "double", "string", "datetime")


def _is_servable(column: Mapping[str, Any]) -> bool:
    return bool(column.get("name")) and column.get("type") in _SERVED_TYPES


def _shown(place: int, column: Mapping[str, Any]) -> str:
    """An input of a signature, by its name and its type: ``embedding (array of double)``."""
    name, kind = column.get("name") or f"input {place}, without a name", str(column.get("type"))
    if kind == "tensor":
        spec = column.get("tensor-spec") or {}
        kind = f"tensor of {spec.get('dtype')}, shape {spec.get('shape')}"
    elif kind == "array":
        kind = f"array of {(column.get('items') or {}).get('type')}"
    return f"{name} ({kind})"


@contextmanager
def _answering(source: ModelSource, spec: EvaluationSpec) -> Iterator[None]:
    """The model is not ours, and what it raises may hold rows of a customer: only the kind of the error is told."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        raise SignatureMismatch(
            f"model {source.uri} on rows of {spec.source}",
            value=type(error).__name__,
            limit="an answer for every row",
            remedy="ask it for these rows where it was trained; do their types fit its signature?",
        ) from None


def _measure(
    source: ModelSource, table: pd.DataFrame, labels: Labels | None, predictions: Any, *, classes: Any
) -> tuple[dict[str, float], int]:
    """Metrics on the rows that have a label, and how many those are."""
    import numpy as np

    if labels is None:
        return {}, 0
    if labels.target not in table.columns:
        raise DataQualityFailed(
            f"labels of {source.uri}, evaluation.target",
            value=labels.target,
            limit=f"one of {', '.join(map(str, table.columns))}",
            remedy="correct evaluation.target, or leave task and target out where there are no labels",
        )
    labelled = table[labels.target].notna().to_numpy()
    if not labelled.any():
        raise DataQualityFailed(
            f"labels of {source.uri}, column {labels.target}",
            value=f"0 of {len(table)} rows have one",
            limit="at least one labelled row",
            remedy="name rows with labels, or leave task and target out",
        )
    answers = np.asarray(predictions)
    truth = table[labels.target].to_numpy()
    return evaluate(labels.task, truth[labelled], answers[labelled], classes=classes), int(labelled.sum())


def _raw(model: Any) -> Any:
    """What the pyfunc wraps, where its flavor says so."""
    try:
        return model.get_raw_model()
    except NotImplementedError:
        return None


def _classes(model: Any) -> Any:
    return getattr(_raw(model), "classes_", None)


def _architecture(fetched: FetchedModel, model: Any) -> str:
    raw = _raw(model)
    return architecture_of(raw) if raw is not None else fetched.loader


def _require_same_bytes(fetched: FetchedModel, held: list[ModelVersion]) -> None:
    """A version or run that was adopted once must still be what it was."""
    if ModelReference.parse(fetched.source.uri).moves:
        return
    for model in held:
        adopted = model.adopted
        if adopted and adopted.source == fetched.source.uri and adopted.source_digest != fetched.digest:
            raise ArtifactMismatch(
                f"model {fetched.source.uri}",
                value=fetched.digest,
                limit=f"digest {adopted.source_digest}, as it was adopted into {model.name} {model.version}",
                remedy="find out who changed the artifact store; what is released serves its own copy",
            )


def _version_of(
    request: AdoptionRequest, source: ModelSource, record: TrainingRecord, held: list[ModelVersion]
) -> tuple[str, tuple[str, ...]]:
    """MLflow's version 7 is 7.0.0, on other rows or labels 7.1.0; a model without a number gets the next version."""
    origin = f"adopted from {source.uri}"
    if request.version != "auto":
        return request.version, (origin, "version given")
    if source.number is None:
        following = bump(held[-1] if held else None, record)
        version, reasons = following.version, following.reasons
        if held and following.kind == "none":
            version, reasons = str(Version.parse(held[-1].version).bumped("minor")), (_OTHER_ROWS,)
        return version, (origin, *reasons)
    of_number = [model for model in held if Version.parse(model.version).major == source.number]
    if not of_number:
        return f"{source.number}.0.0", (origin, f"MLflow's version {source.number}")
    last = of_number[-1]
    if last.adopted is None or last.adopted.source != source.uri:
        raise RegistrationRefused(
            f"model {request.model_name} {source.number}",
            value=source.uri,
            limit=f"a free version; {last.version} is {last.adopted.source if last.adopted else 'trained here'}",
            remedy="write model.version, or adopt it under another model.name",
        )
    version = str(Version.parse(last.version).bumped("minor"))
    return version, (origin, _OTHER_ROWS)
