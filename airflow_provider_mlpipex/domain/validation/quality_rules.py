"""Rules for the ``quality:`` block: every expectation must be judged somewhere, on columns that its table can have."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from airflow_provider_mlpipex.domain.fields.refusal import did_you_mean
from airflow_provider_mlpipex.domain.fields.yaml_text import FieldPath, Problem
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.predictions import OUTPUT_PREFIX, PREDICTION_COLUMNS
from airflow_provider_mlpipex.domain.quality.expectations import Expectation


def broken_rules(manifest: Manifest) -> Iterator[Problem]:
    """Every rule that the block breaks. What columns a snapshot has, only its source knows;
    of an adopted model without ``features``, only its signature."""
    quality, features = manifest.quality, manifest.features.columns
    if features:
        yield from _known(quality.features, (*features, *quality.key), ("quality", "features"))
        yield from _known(quality.predictions, (*features, *PREDICTION_COLUMNS), ("quality", "predictions"))
    if quality.predictions:
        yield from _served(manifest)
    for name, environment in manifest.environments.items():
        for index, gate in enumerate(environment.gates):
            if gate.source == "quality" and not (quality.snapshot or quality.features):
                yield Problem(
                    ("environments", name, "gates", index),
                    gate.rule,
                    "expectations on snapshot or features, or there is nothing that it could judge",
                    "add some to quality.snapshot; mlpipex quality propose writes a first block",
                )


def _known(expectations: Collection[Expectation], columns: Collection[str], path: FieldPath) -> Iterator[Problem]:
    for index, expectation in enumerate(expectations):
        for column in expectation.columns:
            if column not in columns and not (path[-1] == "predictions" and column.startswith(OUTPUT_PREFIX)):
                yield Problem(
                    (*path, index, "column") if expectation.column else (*path, index),
                    column,
                    f"one of {', '.join(dict.fromkeys(columns))}",
                    did_you_mean(column, columns) or "correct the name, or move it to quality.snapshot",
                )


def _served(manifest: Manifest) -> Iterator[Problem]:
    path: FieldPath = ("quality", "predictions")
    shadowed = [column for column in manifest.features.columns if column in PREDICTION_COLUMNS]
    if shadowed:
        yield Problem(
            path,
            ", ".join(shadowed),
            f"features that are not named like a column of predictions: {', '.join(PREDICTION_COLUMNS)}",
            "rename the feature, or judge it in quality.snapshot",
        )
    judged = (
        environment.serve and (environment.shadow or environment.canary or environment.rollback)
        for environment in manifest.environments.values()
    )
    if not any(judged):
        yield Problem(
            path,
            "given",
            "an environment with shadow, canary or rollback: elsewhere nobody looks at predictions",
            "add one of these blocks, or remove quality.predictions",
        )
