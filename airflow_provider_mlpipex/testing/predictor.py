"""Predictions in memory: the current release of the plane in memory answers, whatever a test says it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_mlpipex.domain.batches import PredictionAnswer, PredictionRequest
from airflow_provider_mlpipex.testing.plane import MemoryPlane


def first_value(row: Mapping[str, Any]) -> Any:
    """The model that is served unless a test has another one."""
    return next(iter(row.values()))


class MemoryPredictor:
    """:param plane: says who answers: the current release of the plan in force.

    ``answers`` is the model, from a row (column -> value) to its prediction. ``trouble`` holds statuses that are
    answered instead, one a request, the first first; 0 is a connection that broke. ``sent`` holds every request.
    """

    def __init__(self, plane: MemoryPlane) -> None:
        self._plane = plane
        self.answers: Callable[[Mapping[str, Any]], Any] = first_value
        self.trouble: list[int] = []
        self.sent: list[PredictionRequest] = []

    @staticmethod
    def named_by_the_plane(request_id: str) -> str:
        """What is answered instead of a sender's own id: no plane takes that for its own."""
        return f"plane-{request_id}"

    def predict(self, request: PredictionRequest) -> PredictionAnswer:
        self.sent.append(request)
        plan = self._plane.plan_in_force(request.endpoint)
        status = self.trouble.pop(0) if self.trouble else 200
        if status == 200 and plan is None:
            status = 404
        if status != 200 or plan is None:
            return PredictionAnswer(status=status, detail=f"trouble {status} in memory")
        rows = [dict(zip(request.columns, row, strict=True)) for row in request.rows]
        return PredictionAnswer(
            status=200,
            release=plan.current,
            request_id=self.named_by_the_plane(request.request_id),
            predictions=[self.answers(row) for row in rows],
        )
