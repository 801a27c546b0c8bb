"""Model versions: computed from what changed, never typed in."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, Protocol

from airflow_provider_mlpipex.domain.errors import InvalidQuantity
from airflow_provider_mlpipex.domain.release.release import DatasetSnapshot, RuntimeEnvironment
from airflow_provider_mlpipex.domain.release.training import TrainingRecord

BumpKind = Literal["initial", "major", "minor", "patch", "none"]
_PATTERN = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")


class Version(NamedTuple):
    """``major.minor.patch``, ordered number by number."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """:raises InvalidQuantity: ``text`` is no version."""
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise InvalidQuantity("version", value=text[:80], limit="major.minor.patch", remedy="write 1.2.0")
        return cls(*map(int, match.groups()))

    def bumped(self, kind: BumpKind) -> Version:
        """The version after a change of ``kind``."""
        match kind:
            case "major":
                return Version(self.major + 1, 0, 0)
            case "minor":
                return Version(self.major, self.minor + 1, 0)
            case "patch":
                return Version(self.major, self.minor, self.patch + 1)
            case _:
                return self

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


INITIAL = Version(1, 0, 0)


class Registered(Protocol):
    """What is compared: a registered model version."""

    @property
    def version(self) -> str: ...
    @property
    def architecture(self) -> str: ...
    @property
    def signature_digest(self) -> str: ...
    @property
    def dataset(self) -> DatasetSnapshot: ...
    @property
    def configuration_digest(self) -> str: ...
    @property
    def code_version(self) -> str: ...
    @property
    def source_digest(self) -> str | None: ...
    @property
    def runtime(self) -> RuntimeEnvironment | None: ...


class Bump(NamedTuple):
    """``reasons``: everything that changed, weightiest first."""

    version: str
    kind: BumpKind
    reasons: tuple[str, ...]


def bump(previous: Registered | None, record: TrainingRecord) -> Bump:
    """The version of ``record`` after ``previous``.

    Architecture or signature is a major change (callers may break), data and the definition of features a minor one,
    configuration, code and the locked runtime a patch. Nothing changed keeps the version.
    """
    if previous is None:
        return Bump(str(INITIAL), "initial", ("first version",))
    # The same rows split elsewhere are other training rows.
    before, after = previous.dataset, record.dataset
    weighed: tuple[tuple[BumpKind, bool, str], ...] = (
        (
            "major",
            previous.architecture != record.architecture,
            f"architecture: {previous.architecture} -> {record.architecture}",
        ),
        ("major", previous.signature_digest != record.signature_digest, "signature: inputs or outputs changed"),
        ("minor", before.digest != after.digest, f"data: {before.digest[:12]} -> {after.digest[:12]}"),
        ("minor", before.split_at != after.split_at, f"data: split {before.split_at:%F} -> {after.split_at:%F}"),
        (
            "minor",
            _features(before) != _features(after),
            f"features: {_features(before)} -> {_features(after)}",
        ),
        (
            "patch",
            previous.configuration_digest != record.configuration_digest,
            f"configuration: {previous.configuration_digest[:12]} -> {record.configuration_digest[:12]}",
        ),
        (
            "patch",
            previous.code_version != record.code_version,
            f"code: {previous.code_version[:12]} -> {record.code_version[:12]}",
        ),
        (
            "patch",
            bool(previous.source_digest and record.source_digest) and previous.source_digest != record.source_digest,
            f"source or packages: {(previous.source_digest or '')[:12]} -> {record.source_digest[:12]}",
        ),
        (
            "patch",
            _lock(previous.runtime) != _lock(record.runtime),
            f"runtime: {_lock(previous.runtime)} -> {_lock(record.runtime)}",
        ),
    )
    changed = [(kind, reason) for kind, differs, reason in weighed if differs]
    if not changed:
        return Bump(previous.version, "none", ("nothing changed",))
    kind = changed[0][0]
    return Bump(str(Version.parse(previous.version).bumped(kind)), kind, tuple(reason for _, reason in changed))


def _lock(runtime: RuntimeEnvironment | None) -> str:
    """The locked environment that a model was proven in."""
    return f"lock {runtime.digest[:12]}" if runtime else "of the worker"


def _features(dataset: DatasetSnapshot) -> str:
    """The feature service that gave the rows their features, by its definition."""
    joined = dataset.features
    return f"{joined.service} {joined.digest[:12]}" if joined else "of the data source"
