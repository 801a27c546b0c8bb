"""A model that another pipeline logged in MLflow: how it is named, what is known of it, and what nobody can say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from airflow_provider_mlpipex.domain.errors import InvalidQuantity

#: What a trained model always brings, and an adopted one may lack. Stored: never rename one.
Fact = Literal["training-data", "code-version", "configuration", "signature", "metrics"]
#: What stands in place of a code version that nobody knows.
UNKNOWN_CODE = "unknown"
#: Time column of rows that have no time of their own: the moment at which they were read.
READ_AT = "@read_at"

ReferenceKind = Literal["version", "alias", "latest", "logged", "run", "artifact"]
#: In the order in which they are tried.
_FORMS: tuple[tuple[ReferenceKind, str], ...] = (
    ("logged", r"models:/(?P<which>m-[0-9a-f]{32})"),
    ("version", r"models:/(?P<name>[^/@]+)/(?P<which>[1-9]\d{0,8})"),
    ("latest", r"models:/(?P<name>[^/@]+)/latest"),
    ("alias", r"models:/(?P<name>[^/@]+)@(?P<which>[^/@]+)"),
    ("run", r"runs:/(?P<name>[0-9A-Za-z_-]+)/(?P<which>[^?#]+)"),
    ("artifact", r"(?!models:|runs:)[a-z][a-z0-9+.-]*:/[^?#]+"),
)
REFERENCE_LIMIT = (
    "models:/NAME/7, models:/NAME@ALIAS, models:/NAME/latest, runs:/RUN/PATH, or the uri of an MLflow model directory"
)


class ModelReference(NamedTuple):
    """Where a model is, as people write it.

    :param name: of the registered model, or id of the run; empty for an artifact's uri.
    :param which: version, alias, or path below the run.
    """

    text: str
    kind: ReferenceKind
    name: str = ""
    which: str = ""

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """:raises InvalidQuantity: ``text`` names no model."""
        for kind, form in _FORMS:
            if match := re.fullmatch(form, text):
                named = match.groupdict()
                return cls(text, kind, named.get("name") or "", named.get("which") or "")
        raise InvalidQuantity("model to adopt", value=text[:200], limit=REFERENCE_LIMIT, remedy=_instead_of(text))

    @property
    def moves(self) -> bool:
        """Whether somebody else can make it name another model, without anybody editing a manifest."""
        return self.kind in ("alias", "latest", "artifact")

    @property
    def registered_model(self) -> str:
        """The registered model that it is a version of; empty where it is none."""
        return self.name if self.kind in ("version", "alias", "latest") else ""


def _instead_of(text: str) -> str:
    if match := re.fullmatch(r"models:/([^/@]+)", text):
        return f"say which: {text}/7 or {text}@champion, or write its number as version"
    if match := re.fullmatch(r"models:/([^/@]+)/\D.*", text):
        return f"MLflow has replaced stages by aliases: write models:/{match[1]}@ALIAS"
    return "write for example models:/fraud/7"


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """What a registry says of a model that it is asked to adopt, before a byte of it is read.

    :param uri: what the reference stands for now: ``models:/fraud/7`` where an alias was asked.
    :param number: MLflow's version; ``None`` where it is no version of a registered model.
    :param run_id: the run that logged it; empty where nobody knows.
    :param code_version: git commit of that run; empty where it has none.
    :param training_data: dataset that the run says it was trained on, with MLflow's digest; empty where it says none.
    :param parameters: what the run says it was configured by.
    """

    uri: str
    number: int | None = None
    run_id: str = ""
    code_version: str = ""
    training_data: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FetchedModel:
    """A model as it was logged, in a folder of its own; nothing of it has been unpickled.

    :param digest: of the bytes in ``folder``.
    :param signature: in MLflow's dict form; ``None`` where it was logged without one.
    :param loader: module that loads it, such as ``mlflow.lightgbm``.
    """

    source: ModelSource
    folder: Path
    digest: str
    signature: dict[str, object] | None
    loader: str
