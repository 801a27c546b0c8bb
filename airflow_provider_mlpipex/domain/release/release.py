"""What is released: a model version bound to its data, code, artifact and runtime, all by digest."""

from __future__ import annotations

import re
from datetime import datetime
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator

from airflow_provider_mlpipex.domain.names import Name
from airflow_provider_mlpipex.domain.release.adoption import Fact
from airflow_provider_mlpipex.domain.values import Recorded, Value, digest_of

#: A content digest as 64 lower-case hex digits (blake2b-256 or SHA-256; the producer says which).
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
#: ``major.minor.patch``; no pre-release tags, because a release either exists or does not.
SemVer = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$")]


class FeatureJoin(Value):
    """How entity rows were joined with a feature service.

    :param digest: of the service's definition at that time.
    :param asked: entity rows that the data source gave.
    :param dropped: rows left out because the store had no value at or before their moment, or only an expired one.
    :param unknown: rows left out because the store does not know their entity at all.
    """

    service: Name
    digest: Digest
    asked: int = Field(ge=0)
    dropped: int = Field(default=0, ge=0)
    unknown: int = Field(default=0, ge=0)

    @property
    def lost_share(self) -> float:
        """Share of the asked rows that the store could not answer."""
        return (self.dropped + self.unknown) / self.asked if self.asked else 0.0


class DatasetSnapshot(Recorded):
    """One immutable table: every row counts in ``digest``.

    ``window_start`` ≤ training rows < ``split_at`` ≤ evaluation rows < ``window_end`` on the dataset's time column;
    the split is recorded, not recomputed, so that training can be reproduced. ``features`` says how the rows were
    joined, where a feature store gave them their features.
    """

    added_later = frozenset({"features"})

    name: Name
    digest: Digest
    uri: str
    rows: int = Field(ge=0)
    columns: dict[str, str] = Field(description="column name -> dtype name, in table order")
    window_start: datetime
    split_at: datetime
    window_end: datetime
    time_column: str
    features: FeatureJoin | None = None


class RuntimeEnvironment(Value):
    """The pinned environment that a model server runs in.

    ``kind`` ``provider`` is the environment the provider itself runs in, ``lock`` a virtual environment built from a
    pinned requirements file, ``image`` a container image. ``digest`` is of the lock file, of the installed
    distributions, or of the image: whatever decides the bytes that run. ``lock_uri`` is where the lock lies: with the
    model in the registry, under its digest; a path only in releases of before it was kept there.
    """

    version: SemVer
    kind: Literal["provider", "lock", "image"]
    digest: Digest
    lock_uri: str | None = None
    image: str | None = None


class Adoption(Recorded):
    """Where an adopted version came from: pinned as it was resolved, whatever its alias says later.

    :param source: ``models:/fraud/7``, ``runs:/…`` or an artifact's uri; never an alias.
    :param source_digest: of its bytes as they were then. The version's own digest is of a copy, with golden rows and
        the drift reference beside them.
    :param request_digest: of everything that was asked: source, rows, labels. The same again is the same version.
    :param training_data: what its run says it was trained on; MLflow's digest is of the first rows alone.
    :param missing: what nobody knows of it.
    """

    source: str
    source_digest: Digest
    request_digest: Digest
    run_id: str = ""
    training_data: str = ""
    missing: tuple[Fact, ...] = Field(default=())


class ModelVersion(Recorded):
    """A registered model: nothing here may be missing (see ``adapters.mlflow.registration_rules``).

    :param adopted: where it came from, if it was not trained here; then ``dataset`` are the rows that it was evaluated
        on, and what nobody knows is named and not made up.
    :param runtime: the locked environment that it was proven in when it was logged, and trained in where the manifest
        said so; ``None``: that of the worker.
    """

    added_later = frozenset({"adopted", "source_digest", "runtime"})

    name: Name
    version: SemVer
    artifact_uri: str
    artifact_digest: Digest
    signature: dict[str, object] = Field(description="MLflow signature as its dict form")
    signature_digest: Digest
    architecture: str = Field(description="what a major bump is about, e.g. Pipeline[ColumnTransformer, HistGB…]")
    configuration_digest: Digest = Field(description="of hyper-parameters and feature columns")
    dataset: DatasetSnapshot
    code_version: str = Field(min_length=7, description="git commit the training code came from")
    source_digest: str | None = Field(default=None, description="of the training callable's source, and packages")
    metrics: dict[str, float]
    evaluation_rows: int = Field(default=0, ge=0, description="rows behind ``metrics``")
    run_id: str = Field(description="training run in the registry")
    adopted: Adoption | None = None
    runtime: RuntimeEnvironment | None = None

    @model_validator(mode="after")
    def _measured(self) -> ModelVersion:
        if not self.metrics and self.adopted is None:
            raise ValueError("a trained model has metrics")
        return self


class Release(Recorded):
    """Immutable unit of deployment: model version + runtime + dataset snapshot + features + manifest digest.

    ``feature_digest`` is of the definition of ``feature_service``: with it the model server takes entity keys and looks
    the features up.
    """

    added_later = frozenset({"feature_digest"})

    model: ModelVersion
    runtime: RuntimeEnvironment
    feature_service: str | None = None
    feature_digest: Digest | None = None
    manifest_digest: Digest

    @cached_property
    def digest(self) -> str:
        """What this release *is*: two releases with the same digest serve the same answers from the same bytes.

        The manifest digest is left out: a tightened gate does not make another model server.
        """
        return _digest(self)

    @cached_property
    def id(self) -> str:
        """``1.1.0-rt1.0.0-3fa9c2d1``: model version, runtime version, first digits of the digest."""
        return f"{self.model.version}-rt{self.runtime.version}-{self.digest[:8]}"

    @cached_property
    def slug(self) -> str:
        """:attr:`id` without dots, for Envoy cluster names (a dot would split their metrics) and file names."""
        return slug_of(self.id)


#: A release id as it travels where the whole release is not needed.
ReleaseId = Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+-rt[0-9]+\.[0-9]+\.[0-9]+-[0-9a-f]{8}$")]


def slug_of(release_id: str) -> str:
    """A release id as a DNS-safe slug: ``1-1-0-rt1-0-0-3fa9c2d1``."""
    return re.sub(r"[^a-z0-9]+", "-", release_id)


class ModelName(BaseModel):
    """What a release's id is made of, of its model."""

    name: str
    version: str
    artifact_digest: str


class RuntimeName(BaseModel):
    """The same, of its runtime."""

    version: str
    kind: str
    digest: str


class ReleaseName(BaseModel):
    """A release as one reads of it in a list: enough for its :attr:`id`, a tenth of the whole to read."""

    model: ModelName
    runtime: RuntimeName
    feature_service: str | None = None
    feature_digest: str | None = None

    @cached_property
    def id(self) -> str:
        """As :attr:`Release.id`."""
        return f"{self.model.version}-rt{self.runtime.version}-{_digest(self)[:8]}"


def _digest(release: Release | ReleaseName) -> str:
    model, runtime = release.model, release.runtime
    return digest_of(
        {
            "model": model.name,
            "version": model.version,
            "artifact": model.artifact_digest,
            "runtime": [runtime.version, runtime.kind, runtime.digest],
            "features": release.feature_service,
            # Releases of before there was a feature digest keep their id.
            **({"feature_digest": release.feature_digest} if release.feature_digest else {}),
        }
    )
