"""The ``runtime`` block: the environment that serves the model."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    model_validator,
)

from airflow_provider_mlpipex.domain.fields.refusal import Refusal
from airflow_provider_mlpipex.domain.fields.types import (
    ImageReference,
    RelativePath,
    Sha256,
    Version,
)
from airflow_provider_mlpipex.domain.values import Value


class RuntimeSpec(Value):
    """The environment that serves the model, under a version of its own: exactly one of three kinds.

    :param environment: ``provider``, the environment that the provider itself runs in.
    :param lock: a requirements file with pinned versions, beside the manifest.
    :param image: a container image pinned by digest.
    :param digest: of lock file or image; where it is absent it is recorded at release time.
    """

    version: Version
    environment: Literal["provider"] | None = None
    lock: RelativePath | None = None
    image: ImageReference | None = None
    digest: Sha256 | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> RuntimeSpec:
        kinds = {"environment": self.environment, "lock": self.lock, "image": self.image}
        stated = [name for name, value in kinds.items() if value is not None]
        if len(stated) != 1:
            raise Refusal(
                "exactly one of environment, lock, image",
                value=", ".join(stated) or "none of them",
                remedy="write environment: provider, or pin a lock file or an image",
            )
        if self.image is not None and self.digest != self.image.rpartition(":")[2]:
            raise Refusal(
                "an image needs digest, the same as behind @sha256:",
                value=self.digest or "no digest",
                remedy=f"write digest: {self.image.rpartition(':')[2]}",
            )
        return self

    @property
    def kind(self) -> Literal["provider", "lock", "image"]:
        return "provider" if self.environment else "lock" if self.lock else "image"
