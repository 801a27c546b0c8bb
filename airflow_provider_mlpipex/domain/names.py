"""Names are validated once, here, before they touch a path, a URL or an Envoy cluster."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, model_serializer, model_validator

from airflow_provider_mlpipex.domain.errors import InvalidName
from airflow_provider_mlpipex.domain.fields.refusal import Refusal
from airflow_provider_mlpipex.domain.values import Value

MAX_NAME_LENGTH = 63
#: The DNS label rule, because names become Kubernetes objects, Envoy clusters, path segments and file names.
NAME_PATTERN = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")


def check_name(name: str, *, what: str = "name") -> str:
    """Return ``name`` if it is a DNS label of at most 63 characters.

    :raises InvalidName: on ``../``, dots, spaces, upper case, double hyphens or excessive length. Two hyphens in a
        row are refused because ``--`` separates the parts of an Envoy cluster name.
    """
    if not isinstance(name, str) or len(name) > MAX_NAME_LENGTH or "--" in name or not NAME_PATTERN.fullmatch(name):
        shown = name if len(str(name)) <= 80 else f"{str(name)[:80]}… ({len(name)} characters)"
        raise InvalidName(
            what,
            value=shown,
            limit=f"lower-case letters, digits and single hyphens, starting with a letter, ≤ {MAX_NAME_LENGTH}",
            remedy="rename it, for example 'fraud-scorer'",
        )
    return name


def _pydantic_name(name: str) -> str:
    try:
        return check_name(name)
    except InvalidName as error:
        raise Refusal.of(error) from None


#: A validated name as a pydantic field type.
Name = Annotated[str, AfterValidator(_pydantic_name)]


class EndpointRef(Value):
    """A named prediction service in one environment, written ``production/fraud-scorer``."""

    environment: Name
    name: Name

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            environment, _, name = raw.partition("/")
            return {"environment": environment, "name": name}
        return raw

    @model_serializer
    def _to_text(self) -> str:
        return str(self)

    @classmethod
    def parse(cls, text: str) -> EndpointRef:
        """Read ``environment/name``.

        :raises InvalidName: where either part is not a valid name.
        """
        environment, slash, name = text.partition("/")
        if not slash:
            raise InvalidName(
                "endpoint", value=text[:120], limit="environment/name", remedy="write production/fraud-scorer"
            )
        return cls(
            environment=check_name(environment, what="endpoint environment"),
            name=check_name(name, what="endpoint name"),
        )

    def __str__(self) -> str:
        return f"{self.environment}/{self.name}"
