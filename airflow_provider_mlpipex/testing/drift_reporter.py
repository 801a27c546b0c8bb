"""Pages on drift in memory: the port's fake, which keeps the rows that it was to draw."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_provider_mlpipex.domain.drift.report import DriftPage
from airflow_provider_mlpipex.domain.names import EndpointRef

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Drawn:
    """What one page would show."""

    trained: pd.DataFrame
    served: pd.DataFrame
    release: str
    at: datetime


class MemoryDriftReporter:
    """``drawn``: every page, oldest first. ``trouble``: non-empty means that none can be drawn, for this reason."""

    def __init__(self) -> None:
        self.drawn: list[Drawn] = []
        self.trouble = ""

    def draw(
        self, trained: pd.DataFrame, served: pd.DataFrame, *, endpoint: EndpointRef, release: str, at: datetime
    ) -> DriftPage:
        if self.trouble:
            return DriftPage(trouble=self.trouble)
        self.drawn.append(Drawn(trained, served, release, at))
        return DriftPage(address=f"memory://drift/{endpoint}/{len(self.drawn)}")
