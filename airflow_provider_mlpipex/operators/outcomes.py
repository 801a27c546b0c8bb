"""Outcomes: labels that have come, joined to the release that served each request, and judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.operators.base import StageRun, TableOperator

if TYPE_CHECKING:
    import pandas as pd


class IngestOutcomesOperator(TableOperator):
    """Keep the labels of a table beside what was served for them, and judge the current release by all of its labels.

    The table is one of ``load`` and ``path``, with columns ``request_id`` (the header ``x-request-id`` of the answer),
    ``label`` and, where known, ``observed_at``. The same table again changes nothing. Where an ``outcomes`` gate of the
    manifest fails, on-call is told and the promotion is in doubt until a person decides; the task succeeds, because the
    labels were kept. Returns counts (``rows``, ``added``, ``unmatched`` …), ``releases`` (rows by release),
    ``log_since`` (release -> its oldest record), ``verdict`` of the gates and ``reopened``, why the promotion is in
    doubt.

    :param endpoint: ``environment/name`` that served the requests.
    :param load: callable that returns a DataFrame, or ``package.module:function``.
    :param load_kwargs: its keyword arguments.
    :param path: a Parquet or CSV file.
    :param correct: labels that differ from those kept replace them; otherwise they fail the task.
    """

    stage_name = "outcomes"
    template_fields = ("endpoint", "load_kwargs", "path")

    def __init__(
        self,
        *,
        endpoint: str,
        load: Callable[..., pd.DataFrame] | str | None = None,
        load_kwargs: Mapping[str, Any] | None = None,
        path: str | None = None,
        correct: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(load=load, load_kwargs=load_kwargs, path=path, **kwargs)
        self.endpoint = endpoint
        self.check_endpoint()
        self.correct = correct
        self.one_of("the table", load=load, path=path)

    def stage_endpoint(self) -> EndpointRef:
        return EndpointRef.parse(self.endpoint)

    def verb(self, run: StageRun) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.outcomes.ingest import ingest

        subject, table = self.read_table()
        ingested = ingest(run.platform, run.endpoint, table, subject=subject, correct=self.correct)
        if ingested.judged is not None:
            run.envelope.gates(ingested.judged.results)
        run.envelope.add(subject=subject, releases=ingested.releases)
        verdict = ingested.judged.verdict if ingested.judged else ""
        return {**{name: value for name, value in ingested.to_json().items() if name != "judged"}, "verdict": verdict}
