"""The ``evaluation`` block of a manifest: rows that an adopted model is proven on, since none were kept in training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

from pydantic import JsonValue, model_validator

from airflow_provider_mlpipex.domain.fields.refusal import Refusal
from airflow_provider_mlpipex.domain.fields.types import Column, ImportPath, RelativePath, Written
from airflow_provider_mlpipex.domain.fields.yaml_text import Problem
from airflow_provider_mlpipex.domain.release.training import Task
from airflow_provider_mlpipex.domain.values import Value

ObjectUri = Annotated[
    str,
    Written(
        r"[a-z][a-z0-9+.-]*://\S+\.(parquet|pq|csv|csv\.gz)",
        "the uri of a Parquet or CSV file, as Airflow's ObjectStoragePath takes it",
        "s3://warehouse@ml/fraud/holdout.parquet",
        1000,
    ),
]
Query = Annotated[str, Written(r"[^\x00]*\S[^\x00]*", "a query", "select * from holdout", 20_000)]
ConnectionId = Annotated[str, Written(r"[A-Za-z0-9_.-]+", "the id of an Airflow connection", "warehouse", 250)]
#: Where rows may come from: exactly one of these.
SOURCES = ("callable", "file", "uri", "sql")


class Labels(NamedTuple):
    """What the model predicts, and the column that holds the truth."""

    task: Task
    target: str


class EvaluationSpec(Value):
    """Rows for golden answers, drift reference and metrics, from exactly one source.

    :param callable: function ``(**parameters) -> DataFrame``.
    :param file: Parquet or CSV, beside the manifest.
    :param uri: Parquet or CSV anywhere that Airflow's ``ObjectStoragePath`` reaches.
    :param sql: query over the Airflow connection ``connection``.
    :param target: column of labels, with the ``task`` that they are of; without both, nothing is evaluated.
    :param time_column: when each row became known; rows without it count as of the moment at which they are read.
    """

    callable: ImportPath | None = None
    parameters: dict[str, JsonValue] = {}
    file: RelativePath | None = None
    uri: ObjectUri | None = None
    sql: Query | None = None
    connection: ConnectionId | None = None
    task: Task | None = None
    target: Column | None = None
    time_column: Column | None = None

    @model_validator(mode="after")
    def _one_source(self) -> EvaluationSpec:
        stated = [name for name in SOURCES if getattr(self, name) is not None]
        if len(stated) != 1:
            raise Refusal(
                f"exactly one of {', '.join(SOURCES)}",
                value=", ".join(stated) or "none of them",
                remedy="write file: holdout.parquet, callable: acme.fraud:holdout, uri: …, or sql: … and connection: …",
            )
        return self

    @property
    def kind(self) -> Literal["callable", "file", "uri", "sql"]:
        if self.callable is not None:
            return "callable"
        return "file" if self.file is not None else "uri" if self.uri is not None else "sql"

    @property
    def source(self) -> str:
        """Where the rows come from, in a few words for people."""
        stated = {"callable": self.callable, "file": self.file, "uri": self.uri, "sql": f"connection {self.connection}"}
        return f"{self.kind} {stated[self.kind]}"

    @property
    def labels(self) -> Labels | None:
        return Labels(self.task, self.target) if self.task is not None and self.target is not None else None


def broken_rules(spec: EvaluationSpec) -> Iterator[Problem]:
    """Every rule that the block breaks by itself."""
    if (spec.task is None) != (spec.target is None):
        lacking = "task" if spec.task is None else "target"
        yield Problem(
            ("evaluation", lacking),
            "missing",
            "task and target belong together: labels are compared by the task",
            "write for example task: binary, target: fraud; or neither, where there are no labels",
        )
    if (spec.sql is None) != (spec.connection is None):
        lacking = "sql" if spec.sql is None else "connection"
        yield Problem(
            ("evaluation", lacking),
            "missing",
            "a query and the Airflow connection that it runs over belong together",
            "write for example sql: select * from holdout, connection: warehouse",
        )
    if spec.parameters and spec.callable is None:
        yield Problem(("evaluation", "parameters"), "given", "only with a callable", "remove it")
    if spec.target is not None and spec.target == spec.time_column:
        yield Problem(
            ("evaluation", "time_column"), spec.target, "another column than target", "name the column of times"
        )
