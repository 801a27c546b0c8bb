"""Features from a Feast repository: a local registry and SQLite online store, or whatever its configuration names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.adapters.feast.entity_rows import MOMENT, attach, numbered, questions, rounds
from airflow_provider_mlpipex.domain.features.service import FeatureServiceRef, HistoricalFrame, OnlineRow
from airflow_provider_mlpipex.serving.model_server.feast_repository import FeastRepository

if TYPE_CHECKING:
    import pandas as pd


#: What Feast wants the moment of an entity row to be called.
_EVENT = "event_timestamp"


class FeastFeatures:
    """:param repository: folder with ``feature_store.yaml``. Feast is imported when it is first asked."""

    def __init__(self, repository: Path | str) -> None:
        self._repository = FeastRepository(repository)

    def describe(self, service: str) -> FeatureServiceRef:
        return self._repository.describe(service)

    def online(self, service: str, keys: Sequence[Mapping[str, Any]], *, as_of: datetime) -> list[OnlineRow]:
        return self._repository.online(service, keys, as_of=as_of)

    def historical(self, service: str, entity_rows: pd.DataFrame, *, time_column: str) -> HistoricalFrame:
        ref = self.describe(service)
        rows = numbered(entity_rows, entities=ref.entities, time_column=time_column, service=service)
        asked = questions(rows, ref.entities)
        answers = [asked.iloc[:0].reindex(columns=[*asked.columns, *ref.features])]
        for part in rounds(asked, self._repository.definition(service).joined_by) if len(asked) else ():
            answers.append(self._ask(service, part))
        return attach(rows, answers, ref, time_column=time_column)

    def _ask(self, service: str, asked: pd.DataFrame) -> pd.DataFrame:
        with self._repository.answering():
            job = self._repository.store.get_historical_features(
                entity_df=asked.rename(columns={MOMENT: _EVENT}),
                features=self._repository.definition(service).service,
            )
            return job.to_df().rename(columns={_EVENT: MOMENT})
