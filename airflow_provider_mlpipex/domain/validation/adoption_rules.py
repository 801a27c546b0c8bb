"""Rules for a manifest that adopts a model, and for what only such a manifest may leave out."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_mlpipex.domain.fields.yaml_text import Problem
from airflow_provider_mlpipex.domain.manifest import evaluation_block
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.release.adoption import ModelReference


def broken_rules(manifest: Manifest) -> Iterator[Problem]:
    """Every rule about adopting that ``manifest`` breaks."""
    reference = manifest.model.reference
    if manifest.evaluation is not None:
        yield from evaluation_block.broken_rules(manifest.evaluation)
    if reference is None:
        yield from _nothing_adopted(manifest)
    else:
        yield from _adopted(manifest, reference)


def _nothing_adopted(manifest: Manifest) -> Iterator[Problem]:
    trains = manifest.training is not None or manifest.model.trained
    if manifest.evaluation is not None:
        yield Problem(
            ("evaluation",),
            "given",
            "only with model.adopt: a trained model is evaluated on rows of data.window",
            "remove it, or write model: {adopt: models:/NAME/7}",
        )
    if not manifest.features.columns:
        yield Problem(
            ("features", "columns"),
            "none",
            "at least 1: the model's inputs, in order",
            "name the columns, for example columns: [amount, country]",
        )
    if manifest.data is None and (trains or manifest.features.joined):
        yield Problem(
            ("data",),
            "missing",
            "where rows come from: a model is trained on them, or joined with the feature store",
            "add a data block with source, time_column and window",
        )
    if not manifest.model.trained:
        return
    for name, environment in manifest.environments.items():
        if environment.provenance is not None:
            yield Problem(
                ("environments", name, "provenance"),
                environment.provenance,
                "only of a model that is adopted: of a trained one everything is recorded, or it is not registered",
                "remove it",
            )


def _adopted(manifest: Manifest, reference: ModelReference) -> Iterator[Problem]:
    if manifest.training is not None:
        yield Problem(
            ("training",),
            "given",
            "a model is either trained or adopted",
            "remove it, and say in evaluation what labels are; or remove model.adopt",
        )
    if manifest.evaluation is None:
        yield Problem(
            ("evaluation",),
            "missing",
            "rows that the model answers first: golden answers and drift reference are made of them",
            "add for example evaluation: {file: holdout.parquet, task: binary, target: fraud}",
        )
    if reference.registered_model == manifest.model.name:
        yield Problem(
            ("model", "name"),
            manifest.model.name,
            f"another name than {reference.registered_model}, whose versions another pipeline counts: copies "
            "among them would be its latest",
            "leave model.name out, or name the adopted one otherwise",
        )
    if manifest.features.service is not None:
        yield Problem(
            ("features", "service"),
            manifest.features.service,
            "nobody knows by which definitions an adopted model got its features",
            "send the features with each request, or train the model here",
        )
    if not reference.moves:
        return
    for name, environment in manifest.environments.items():
        if environment.review and "model" in environment.review.auto_approve:
            yield Problem(
                ("environments", name, "review", "auto_approve"),
                "model",
                f"a person for every version that {reference.text} comes to name: others can move it",
                "remove model from auto_approve, or adopt a version by its number",
            )
