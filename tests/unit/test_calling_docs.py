"""docs/calling-a-model.md names what there is: fields of the connection and of a training context."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from airflow_provider_mlpipex.composition import Settings
from airflow_provider_mlpipex.domain.release.training import TrainingContext

PAGE = (Path(__file__).parents[2] / "docs" / "calling-a-model.md").read_text(encoding="utf-8")


def test_every_field_of_the_connection_is_explained() -> None:
    written_otherwise = {"plane_url", "plane_token"}  # host, port and password
    missing = [name for name in Settings.model_fields if f"`{name}`" not in PAGE]
    assert set(missing) <= written_otherwise


def test_every_field_of_a_training_context_is_explained() -> None:
    assert [field.name for field in fields(TrainingContext) if f"| `{field.name}` |" not in PAGE] == []
