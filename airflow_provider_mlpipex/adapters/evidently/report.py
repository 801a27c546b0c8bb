"""Evidently's page on drift: served rows beside training rows, column by column, as one HTML file.

Below the root: ``<environment>/<name>/<date>/<time>-<release>.html``. Everything that the page needs stands in it,
about 4 MB. What clients sent is shown as text, whatever stands in it. Nothing of it decides: verdicts come from counts.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.atomic import atomic_file
from airflow_provider_mlpipex.domain.drift.report import DriftPage
from airflow_provider_mlpipex.domain.names import EndpointRef

if TYPE_CHECKING:
    import pandas as pd

#: Nobody is told that this runs: not even Evidently's makers.
_QUIET = {"DO_NOT_TRACK": "true", "EVIDENTLY_DISABLE_TELEMETRY": "1"}
#: What a missing value is called among categories.
_MISSING = "(missing)"


class EvidentlyReporter:
    """:param root: folder of all pages; made where it is missing. Nothing in it is ever deleted."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def draw(
        self, trained: pd.DataFrame, served: pd.DataFrame, *, endpoint: EndpointRef, release: str, at: datetime
    ) -> DriftPage:
        moment = at.astimezone(UTC)
        folder = self._root / endpoint.environment / endpoint.name / f"{moment:%Y-%m-%d}"
        try:
            columns = _shown(trained, served)
            if not columns:
                return DriftPage(trouble="no column has values both in training and in what was served")
            report = _report(columns)
            folder.mkdir(parents=True, exist_ok=True)
            page = folder / f"{moment:%H%M%S.%f}Z-{release}.html"
            with atomic_file(page, fsync=True) as part:
                report.save_html(str(part))
        except ImportError as error:
            return DriftPage(trouble=f"{error}; install the extra evidently, or do without drift_root")
        except OSError as error:
            return DriftPage(trouble=f"{folder}: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001 - whatever Evidently stumbles over, the verdict stands and it is said
            return DriftPage(trouble=f"Evidently gave up: {type(error).__name__}: {error}"[:500])
        return DriftPage(address=str(page))


def _report(columns: Mapping[str, tuple[pd.Series[Any], pd.Series[Any]]]) -> Any:
    """Evidently's comparison. :param columns: name -> training and served values, alike in type."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numbers = [name for name, (trained, _) in columns.items() if trained.dtype.kind == "f"]
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=[name for name in columns if name not in numbers]
    )
    trained, served = (
        Dataset.from_pandas(
            pd.DataFrame({name: sides[side] for name, sides in columns.items()}), data_definition=definition
        )
        for side in (0, 1)
    )
    return Report([DataDriftPreset()]).run(served, trained)


def _shown(trained: pd.DataFrame, served: pd.DataFrame) -> dict[str, tuple[pd.Series[Any], pd.Series[Any]]]:
    """Columns of both as Evidently can take them: finite numbers, or texts without markup.

    Evidently writes values and names into its page as they are: a client could put a script into it.
    """
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    shown = {}
    for name in [column for column in trained.columns if column in served.columns]:
        numeric = is_numeric_dtype(trained[name]) and not is_bool_dtype(trained[name])
        sides = tuple(_numbers(side[name]) if numeric else _texts(side[name]) for side in (trained, served))
        if all(len(side.dropna()) for side in sides):
            shown[html.escape(str(name))] = (sides[0].reset_index(drop=True), sides[1].reset_index(drop=True))
    return shown


def _numbers(values: pd.Series[Any]) -> pd.Series[Any]:
    import numpy as np
    import pandas as pd

    read = pd.to_numeric(values, errors="coerce").astype("float64")
    return read.where(np.isfinite(read))


def _texts(values: pd.Series[Any]) -> pd.Series[Any]:
    return values.map(lambda value: html.escape(str(value)), na_action="ignore").astype(object).fillna(_MISSING)
