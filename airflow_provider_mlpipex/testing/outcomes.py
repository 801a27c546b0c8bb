"""Outcomes in memory: the fake that passes the contract suite of the real store."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from airflow_provider_mlpipex.adapters.sql.outcome_rules import conflicting
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import (
    Added,
    Label,
    LabelConflict,
    LabelledPrediction,
    LabelledSpan,
)


class MemoryOutcomes:
    """One process only. Safe among threads."""

    def __init__(self) -> None:
        self._kept: dict[EndpointRef, dict[str, LabelledPrediction]] = defaultdict(dict)
        self._lock = threading.Lock()

    def add(self, endpoint: EndpointRef, outcomes: Sequence[LabelledPrediction], *, correct: bool = False) -> Added:
        with self._lock:
            kept = self._kept[endpoint]
            new = {outcome.request_id: outcome for outcome in outcomes if outcome.request_id not in kept}
            changed = [
                outcome
                for outcome in outcomes
                if outcome.request_id in kept and kept[outcome.request_id].label != outcome.label
            ]
            if changed and not correct:
                raise conflicting(
                    endpoint,
                    [
                        LabelConflict(
                            request_id=outcome.request_id, kept=kept[outcome.request_id].label, given=outcome.label
                        )
                        for outcome in changed
                    ],
                )
            kept |= new
            for outcome in changed:
                kept[outcome.request_id] = replace(
                    kept[outcome.request_id], label=outcome.label, observed_at=outcome.observed_at
                )
            unchanged = len(outcomes) - len(new) - len(changed)
            return Added(added=len(new), unchanged=unchanged, corrected=len(changed))

    def read(
        self, endpoint: EndpointRef, release: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[LabelledPrediction]:
        with self._lock:
            rows = [
                outcome
                for outcome in self._kept[endpoint].values()
                if outcome.release == release
                and (since is None or since <= outcome.served_at)
                and (until is None or outcome.served_at <= until)
            ]
        return sorted(rows, key=lambda outcome: (outcome.served_at, outcome.request_id))

    def known(self, endpoint: EndpointRef, request_ids: Sequence[str]) -> dict[str, LabelledPrediction]:
        with self._lock:
            kept = self._kept[endpoint]
            return {rid: kept[rid] for rid in request_ids if rid in kept}

    def spans(self, endpoint: EndpointRef) -> dict[str, LabelledSpan]:
        moments: dict[str, list[datetime]] = defaultdict(list)
        with self._lock:
            for outcome in self._kept[endpoint].values():
                moments[outcome.release].append(outcome.served_at)
        return {
            release: LabelledSpan(rows=len(served), first=min(served), last=max(served))
            for release, served in sorted(moments.items())
        }

    def labels(self, endpoint: EndpointRef, *, limit: int) -> list[Label]:
        with self._lock:
            return sorted({outcome.label for outcome in self._kept[endpoint].values()}, key=str)[:limit]
