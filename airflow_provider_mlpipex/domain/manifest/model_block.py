"""The ``model`` block: which model is released."""

from __future__ import annotations

import re
from typing import Any

from pydantic import (
    ValidationInfo,
    field_validator,
    model_validator,
)

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.fields.refusal import Refusal
from airflow_provider_mlpipex.domain.fields.types import (
    AutoOrVersion,
    ModelUri,
)
from airflow_provider_mlpipex.domain.names import Name
from airflow_provider_mlpipex.domain.release.adoption import ModelReference
from airflow_provider_mlpipex.domain.values import Recorded


class ModelSpec(Recorded):
    """Which model is released.

    :param name: of the registered model; of an adopted one the manifest's name with ``-adopted``, if not given.
    :param adopt: a model that another pipeline logged in MLflow. It is copied under ``name``, never changed.
    :param version: ``auto`` trains and registers a new version, or gives an adopted one the number that MLflow has for
        it (version 7 is 7.0.0). A version deploys that registered one, or is what the adopted one shall be called.
    """

    added_later = frozenset({"adopt"})

    name: Name
    adopt: ModelUri | None = None
    version: AutoOrVersion = "auto"

    @field_validator("version", mode="before")
    @classmethod
    def _number_of_mlflow(cls, raw: Any, info: ValidationInfo) -> Any:
        """MLflow counts 1, 2, 3; where a model is adopted, 7 can only mean its version 7."""
        if type(raw) is not int or raw < 1:
            return raw
        if not info.data.get("adopt"):
            raise Refusal(
                "auto, or major.minor.patch; MLflow's own numbers belong to a model that is adopted",
                remedy=f"write {raw}.0.0, or adopt: models:/NAME/{raw} to bring in MLflow's version {raw}",
            )
        return f"{raw}.0.0"

    @model_validator(mode="after")
    def _names_a_model(self) -> ModelSpec:
        if self.adopt is not None:
            try:
                _ = self.reference
            except MlpipexError as error:
                raise Refusal.of(error) from None
        return self

    @property
    def pinned(self) -> bool:
        return self.version != "auto"

    @property
    def trained(self) -> bool:
        """Whether a new version is trained, and not looked up or adopted."""
        return self.adopt is None and not self.pinned

    @property
    def reference(self) -> ModelReference | None:
        """What is adopted: ``models:/fraud`` with version 7.0.0 is ``models:/fraud/7``. ``None`` where nothing is.

        :raises InvalidQuantity: it names no model.
        """
        if self.adopt is None:
            return None
        if re.fullmatch(r"models:/[^/@]+", self.adopt) and self.pinned and self.version.endswith(".0.0"):
            return ModelReference.parse(f"{self.adopt}/{self.version.partition('.')[0]}")
        return ModelReference.parse(self.adopt)
