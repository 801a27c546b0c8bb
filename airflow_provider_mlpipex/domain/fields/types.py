"""Text of a certain form as a manifest field, with a refusal that says in words what the form is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from annotated_types import GroupedMetadata
from pydantic import AfterValidator, WithJsonSchema

from airflow_provider_mlpipex.domain.fields.refusal import Refusal

_SEMVER = r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"


@dataclass(frozen=True)
class Written(GroupedMetadata):
    """:param pattern: the whole text must match it; ``limit`` says the same in words."""

    pattern: str
    limit: str
    example: str
    longest: int = 255

    def __iter__(self) -> Iterator[object]:
        yield AfterValidator(self.check)
        yield WithJsonSchema(
            {
                "type": "string",
                "pattern": f"^{self.pattern}$",
                "maxLength": self.longest,
                "description": f"{self.limit}, for example {self.example}",
            }
        )

    def check(self, text: str) -> str:
        """:raises Refusal: ``text`` is not of this form."""
        if len(text) > self.longest or not re.fullmatch(self.pattern, text):
            raise Refusal(
                f"{self.limit}, at most {self.longest} characters", remedy=f"write for example {self.example}"
            )
        return text


Words = Annotated[str, Written(r"[^\x00-\x1f]+", "one line of text", "ml-platform")]
Column = Annotated[str, Written(r"[^\x00-\x1f]+", "a column name", "distance")]
ImportPath = Annotated[
    str,
    Written(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", "package.module:function", "acme.fraud:train"),
]
Method = Annotated[str, Written(r"[a-z]\w*", "the name of a method", "predict_proba", 63)]
Version = Annotated[str, Written(_SEMVER, "major.minor.patch", "1.0.0", 32)]
AutoOrVersion = Annotated[str, Written(f"(auto|{_SEMVER})", "auto, or major.minor.patch", "1.1.0", 32)]
#: Whether it names a model, ``ModelReference.parse`` says; a registered model alone may have its number beside it.
ModelUri = Annotated[
    str, Written(r"[a-z][a-z0-9+.-]*:/[^\x00-\x1f]+", "where MLflow has a model", "models:/fraud@champion", 1000)
]
Sha256 = Annotated[str, Written(r"[0-9a-f]{64}", "64 lower-case hex digits", "what sha256sum prints", 64)]
HeaderName = Annotated[str, Written(r"[a-z0-9][a-z0-9-]*", "a lower-case HTTP header name", "x-user-id", 63)]
#: A file beside the manifest; it may not lead out of the manifest's folder.
RelativePath = Annotated[
    str,
    Written(
        r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*",
        "a path below the manifest's folder, without '..'",
        "runtimes/serving-1.1.0.txt",
    ),
]
#: A folder below one that somebody else names.
FolderName = Annotated[
    str,
    Written(
        r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*",
        "a folder path without '..' that does not begin with '/'",
        "risk/fraud-scorer",
    ),
]
TableName = Annotated[
    str, Written(r"[^\"'`\[\]\x00-\x1f]+", "the name of a table without quotes or brackets", "orders", 128)
]
SchemaName = Annotated[str, Written(r"[A-Za-z_][A-Za-z0-9_$]*", "the name of a database schema", "sales", 128)]
ImageReference = Annotated[
    str,
    Written(
        r"[a-z0-9][a-z0-9._/:-]*@sha256:[0-9a-f]{64}",
        "an image pinned by digest",
        "registry.example.com/serving@sha256: and 64 hex digits",
        400,
    ),
]
ExpectationName = Annotated[
    str,
    Written(
        r"[a-z][a-z0-9_]*",
        "a Great Expectations expectation in snake case, without expect_",
        "column_values_to_not_be_null",
        120,
    ),
]
