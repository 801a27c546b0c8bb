"""Features from a Feast repository: a local registry and SQLite online store, or whatever its configuration names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.adapters.feast.entity_rows import MOMENT, attach, numbered, questions, rounds
from airflow_provider_mlpipex.domain.errors import FeatureMismatch
from airflow_provider_mlpipex.domain.features.service import (
    INTEGERS,
    FeatureServiceRef,
    HistoricalFrame,
    OnlineRow,
)
from airflow_provider_mlpipex.domain.values import MAX_EXACT_INTEGER
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
            answers.append(self._ask_exactly(ref, part))
        return attach(rows, answers, ref, time_column=time_column)

    def _ask_exactly(self, ref: FeatureServiceRef, asked: pd.DataFrame) -> pd.DataFrame:
        """Feast's answer, with every digit of its integers.

        Feast makes floats of integers as soon as one row has none. Where that costs digits, the rows that have one are
        asked for again by themselves.

        :raises FeatureMismatch: the digits are lost in the source already.
        """
        answer = self._ask(ref.name, asked)
        for name in (name for name, kind in ref.features.items() if kind in INTEGERS):
            if answer[name].dtype.kind != "f" or not (answer[name].abs() >= MAX_EXACT_INTEGER).any():
                continue
            present = answer.loc[answer[name].notna(), [*asked.columns]].reset_index(drop=True)
            again = self._ask(ref.name, present)[[*asked.columns, name]]
            if again[name].dtype.kind == "f":
                raise FeatureMismatch(
                    f"feature service {ref.name}, feature {name}",
                    value="integers beyond 2^53, which its source holds as floats",
                    limit="the digits that were written",
                    remedy="fill the gaps in its source, or make it a String: it names something",
                )
            again = again.astype({name: "Int64"})
            answer = answer.drop(columns=name).merge(again, on=[*asked.columns], how="left", validate="one_to_one")
        return answer

    def _ask(self, service: str, asked: pd.DataFrame) -> pd.DataFrame:
        with self._repository.answering():
            job = self._repository.store.get_historical_features(
                entity_df=asked.rename(columns={MOMENT: _EVENT}),
                features=self._repository.definition(service).service,
            )
            return job.to_df().rename(columns={_EVENT: MOMENT})
