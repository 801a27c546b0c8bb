"""Rules for a shadow's ``slices``: columns that a request carries, few enough, and there if a gate asks for them."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_mlpipex.domain.fields.refusal import did_you_mean
from airflow_provider_mlpipex.domain.fields.yaml_text import FieldPath, Problem
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.manifest.stage_blocks import ShadowSpec
from airflow_provider_mlpipex.domain.shadow.slices import MAX_COLUMNS

#: Judged over the slices, so there must be some.
WORST_SLICE = "shadow.worst_slice_flip_rate"


def broken_rules(manifest: Manifest) -> Iterator[Problem]:
    """Every rule that the slices of any environment break."""
    inputs = tuple(dict.fromkeys((*manifest.features.entities, *manifest.features.columns)))
    for name, environment in manifest.environments.items():
        if environment.shadow is not None:
            yield from _shadow(environment.shadow, inputs, ("environments", name, "shadow"))


def _shadow(shadow: ShadowSpec, inputs: tuple[str, ...], path: FieldPath) -> Iterator[Problem]:
    for index, column in enumerate(shadow.slices):
        at: FieldPath = (*path, "slices", index)
        if inputs and column not in inputs:
            remedy = did_you_mean(column, inputs) or "name a column that requests carry"
            yield Problem(at, column, f"a model input: {', '.join(inputs)}", remedy)
        if column in shadow.slices[:index]:
            yield Problem(at, column, "each column once", "remove the repetition")
    if len(shadow.slices) > MAX_COLUMNS:
        yield Problem(
            (*path, "slices"),
            f"{len(shadow.slices)} columns",
            f"at most {MAX_COLUMNS}: with every one the others see less",
            "name those in which a fault would show",
        )
    for index, gate in enumerate(shadow.gates):
        if gate.metric == WORST_SLICE and not shadow.slices:
            yield Problem(
                (*path, "gates", index),
                gate.rule,
                "slices, or there is no worst one",
                "add slices to the shadow, for example slices: [country]",
            )
