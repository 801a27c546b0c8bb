"""Batch scoring: a table of a team sent through a live endpoint, its answers kept beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.operators.base import StageRun, TableOperator

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_mlpipex.observability import Invariant
    from airflow_provider_mlpipex.services.platform import Platform

#: One batch a Dag run: a drift that its rows bring is traced to the run by this name.
BATCH = "{{ dag.dag_id }}/{{ run_id }}"


class ScoreBatchOperator(TableOperator):
    """Send the rows of a table to an endpoint, in chunks, and keep the answers beside them.

    The table is one of ``load`` and ``path``; only the columns of the current model's signature are sent. Every request
    carries the name of the batch, and the ledger keeps who sent it and the digest of its rows, so that a drift can be
    traced to this Dag run. A retry goes on after what was answered; a cleared task sends all of it again, as the same
    batch. Returns ``batch``, ``rows``, ``digest``, ``answered`` (rows by release), ``resumed`` and ``output``.

    :param endpoint: ``environment/name``.
    :param output_path: path of the Parquet file that gets the rows with ``prediction``, ``release`` and ``request_id``.
    :param load: callable that returns a DataFrame, or ``package.module:function``.
    :param load_kwargs: its keyword arguments.
    :param path: a Parquet or CSV file.
    :param batch: names the batch, at most 200 characters; another one for each task of a run that scores several.
    :param chunk_rows: rows a request; an endpoint that is slow a row wants fewer, because its requests end after 10 s.
    """

    stage_name = "score"
    template_fields = ("endpoint", "output_path", "load_kwargs", "path", "batch")

    def __init__(
        self,
        *,
        endpoint: str,
        output_path: str,
        load: Callable[..., pd.DataFrame] | str | None = None,
        load_kwargs: Mapping[str, Any] | None = None,
        path: str | None = None,
        batch: str = BATCH,
        chunk_rows: int = 1000,
        **kwargs: Any,
    ) -> None:
        super().__init__(load=load, load_kwargs=load_kwargs, path=path, **kwargs)
        self.endpoint = endpoint
        self.check_endpoint()
        self.output_path = output_path
        self.batch = batch
        self.chunk_rows = chunk_rows
        self.one_of("the table", load=load, path=path)
        if chunk_rows < 1:
            raise self.invalid("chunk_rows", chunk_rows, "at least one row a request")

    def stage_endpoint(self) -> EndpointRef:
        return EndpointRef.parse(self.endpoint)

    def healthy_before(self, platform: Platform, endpoint: EndpointRef) -> Mapping[str, Invariant]:
        from airflow_provider_mlpipex.services.rollout import invariants

        return {
            "the endpoint has a current release that is ready": lambda: invariants.current_release_is_ready(
                platform, endpoint
            )
        }

    def verb(self, run: StageRun) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.batches.scoring import score_batch

        answers = self.hook.answer_file(self.output_path)
        subject, rows = self.read_table()
        scored = score_batch(
            run.platform,
            run.endpoint,
            rows,
            batch=self.batch,
            chunk_rows=self.chunk_rows,
            answers=answers,
            pause=time.sleep,
        )
        run.envelope.add(subject=subject, answered=scored.answered)
        return scored.to_json()
