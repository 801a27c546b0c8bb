"""What every store of outcomes refuses, in the same words."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_mlpipex.domain.errors import OutcomeConflict
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import LabelConflict

_SHOWN = 3


def conflicting(endpoint: EndpointRef, conflicts: Sequence[LabelConflict]) -> OutcomeConflict:
    """The refusal of labels that are not those kept."""
    shown = [
        f"{conflict.request_id}: {conflict.kept!r} is kept, {conflict.given!r} given" for conflict in conflicts[:_SHOWN]
    ]
    more = f" and {len(conflicts) - _SHOWN} more" if len(conflicts) > _SHOWN else ""
    return OutcomeConflict(
        f"outcomes of {endpoint}",
        value="; ".join(shown) + more,
        limit="the label that was kept for the same request",
        remedy="nothing was kept of these; if the new labels are right, ingest them again with --correct",
    )
