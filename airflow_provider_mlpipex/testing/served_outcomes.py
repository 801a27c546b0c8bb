"""Which release answered which client, without logs: what the plane in memory answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from airflow_provider_mlpipex.domain.outcomes.labelled_predictions import ServedAnswers
from airflow_provider_mlpipex.serving.prediction_log.lookup import LoggedAnswer, served_answers
from airflow_provider_mlpipex.testing.paired_answers import Answer


class Answered(Protocol):
    """One record of a prediction log."""

    @property
    def at(self) -> datetime: ...
    @property
    def status(self) -> int: ...
    @property
    def mirrored(self) -> bool: ...
    @property
    def logged(self) -> Answer: ...


def find(answers: Mapping[str, Mapping[str, Sequence[Answered]]], request_ids: Sequence[str]) -> ServedAnswers:
    """:param answers: release id -> request id -> its records."""
    moments = {release: [answer.at for some in of.values() for answer in some] for release, of in answers.items()}
    log_since = {release: min(some) for release, some in moments.items() if some}
    return served_answers(request_ids, _logged(answers, request_ids), log_since)


def _logged(
    answers: Mapping[str, Mapping[str, Sequence[Answered]]], request_ids: Sequence[str]
) -> Iterator[LoggedAnswer]:
    for release, of in answers.items():
        for rid in dict.fromkeys(request_ids):
            for answer in of.get(rid, ()):
                if answer.status == 200 and not answer.mirrored:
                    output, at = answer.logged.output, answer.at.timestamp()
                    yield LoggedAnswer(rid, release, at, at, output.kind, output.score, output.label, None)
