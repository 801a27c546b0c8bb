"""The ``training`` and ``data`` blocks: how a new version is trained, and on which rows."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
    JsonValue,
)

from airflow_provider_mlpipex.domain.fields.quantities import Duration, Ratio
from airflow_provider_mlpipex.domain.fields.types import (
    Column,
    ImportPath,
    Method,
)
from airflow_provider_mlpipex.domain.release.training import Task
from airflow_provider_mlpipex.domain.values import Recorded, Value

#: Rows whose label is not known yet are ordinary at the end of a window, and no longer ordinary beyond this share.
_MAX_UNLABELLED = 0.2


class TrainingSpec(Recorded):
    """How a new version is trained.

    :param max_unlabelled: share of the snapshot's rows that may lack a label; they are left out and counted, and above
        it the snapshot is refused. 20 % where not given.
    :param runtime: ``serving``: the callable runs in the environment of ``runtime.lock``, in a process of its own;
        that of the worker where not given.
    """

    added_later = frozenset({"max_unlabelled", "runtime"})

    callable: ImportPath = Field(description="function that gets a TrainingContext and returns a fitted model")
    task: Task
    target: Column
    predict_method: Method = "predict"
    seed: int = Field(default=0, ge=0, lt=2**32)
    parameters: dict[str, JsonValue] = {}
    max_unlabelled: Ratio | None = Field(default=None, ge=0, lt=1)
    runtime: Literal["serving"] | None = Field(default=None, description="train in the environment of runtime.lock")

    @property
    def unlabelled_limit(self) -> float:
        """:attr:`max_unlabelled`, or what holds where it is not given."""
        return _MAX_UNLABELLED if self.max_unlabelled is None else self.max_unlabelled


class WindowSpec(Value):
    """Time that the rows cover: ``train`` first, then ``evaluate``, ending at the snapshot's moment."""

    train: Duration
    evaluate: Duration


class DataSpec(Value):
    """Where rows come from, and which of them are used."""

    source: ImportPath = Field(description="function (start, end, **parameters) -> DataFrame")
    parameters: dict[str, JsonValue] = {}
    time_column: Column
    window: WindowSpec
    max_age: Duration | None = Field(default=None, description="refuse to train on a snapshot older than this")
