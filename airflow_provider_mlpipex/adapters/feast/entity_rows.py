"""Entity rows on their way through a feature store: numbered, asked once each, and every one accounted for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.errors import DataQualityFailed
from airflow_provider_mlpipex.domain.features.service import (
    INTEGERS,
    FeatureServiceRef,
    HistoricalFrame,
    exact_integers,
    settle_types,
)

if TYPE_CHECKING:
    import pandas as pd

#: The moment of an entity row, UTC to the nanosecond, whatever the column is called in its table.
MOMENT = "mlpipex_moment"
_NUMBERS = (*INTEGERS, "Float32", "Float64")


def numbered(entity_rows: pd.DataFrame, *, entities: Mapping[str, str], time_column: str, service: str) -> pd.DataFrame:
    """``entity_rows`` numbered from 0, with their :data:`MOMENT`.

    :param entities: column -> type name.
    :raises DataQualityFailed: a column is missing, a key is of another type, or the moments have no time zone.
    """
    import pandas as pd

    subject = f"entity rows for feature service {service}"
    missing = [column for column in (*entities, time_column) if column not in entity_rows.columns]
    if missing:
        raise DataQualityFailed(
            f"{subject}, columns {', '.join(missing)}",
            value=f"given {', '.join(map(str, entity_rows.columns)) or 'no columns'}",
            limit="every entity of the service, and the time column",
            remedy="let the data source give these columns",
        )
    for name, kind in entities.items():
        is_number = pd.api.types.is_numeric_dtype(entity_rows[name]) and kind != "Bool"
        if len(entity_rows) and is_number != (kind in _NUMBERS):
            raise DataQualityFailed(
                f"{subject}, column {name}",
                value=str(entity_rows[name].dtype),
                limit=kind,
                remedy="let the data source give the key as the store knows it",
            )
    moments = entity_rows[time_column]
    if not isinstance(moments.dtype, pd.DatetimeTZDtype):
        raise DataQualityFailed(
            f"{subject}, column {time_column}",
            value=str(moments.dtype),
            limit="moments with a time zone: features are joined as of them",
            remedy="let the data source give UTC timestamps",
        )
    utc = moments.dt.tz_convert("UTC").astype("datetime64[ns, UTC]")
    return entity_rows.assign(**{MOMENT: utc}).reset_index(drop=True)


def questions(rows: pd.DataFrame, entities: Collection[str]) -> pd.DataFrame:
    """What is to be asked, each once: entity and moment, where neither is missing."""
    return rows[[*entities, MOMENT]].dropna().drop_duplicates(ignore_index=True)


def rounds(asked: pd.DataFrame, entities: Sequence[Sequence[str]]) -> Iterator[pd.DataFrame]:
    """``asked`` in parts within which no two rows put the same question to any view.

    Feast keeps one of the rows that ask a view the same, although they differ in an entity of another view: a user and
    several items at one moment would come back as one row.

    :param entities: of each view.
    """
    repeated = [asked.groupby([*own, MOMENT], sort=False).cumcount() for own in entities]
    if not any(counts.any() for counts in repeated):
        yield asked
        return
    for _, part in asked.groupby([counts.to_numpy() for counts in repeated], sort=False):
        yield part.reset_index(drop=True)


def attach(
    rows: pd.DataFrame, answers: Sequence[pd.DataFrame], ref: FeatureServiceRef, *, time_column: str
) -> HistoricalFrame:
    """Give every row its answer, and count those that have none.

    :param answers: tables with one row a question that was answered: entity, :data:`MOMENT` and every feature.
    """
    import pandas as pd

    key = [*ref.entities, MOMENT]
    features = list(ref.features)
    own = [column for column in rows.columns if column not in ref.features or column in key or column == time_column]
    taken = [table[[*key, *features]] for table in answers if len(table)] or [answers[0][[*key, *features]]]
    exact = [exact_integers(table, ref.features) for table in taken]
    exact_rows = pd.concat(exact, ignore_index=True).astype({MOMENT: "datetime64[ns, UTC]"})
    joined = rows[own].reset_index(names="_at").merge(exact_rows, on=key, how="inner", validate="many_to_one")
    joined = joined.sort_values("_at").set_index("_at").drop(columns=MOMENT)
    joined.index.name = None
    unknown = joined.index[joined[features].isna().all(axis=1)]
    answered = set(joined.index)
    return HistoricalFrame(
        service=ref,
        frame=settle_types(joined, ref.features),
        asked=len(rows),
        dropped=tuple(at for at in range(len(rows)) if at not in answered),
        unknown=tuple(int(at) for at in unknown),
    )
