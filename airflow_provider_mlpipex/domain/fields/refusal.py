"""What a validator says when it refuses a value, in parts, so that the loader can add file, line and field."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from airflow_provider_mlpipex.domain.errors import MlpipexError


class Refusal(ValueError):
    """A refused value: pydantic collects it with the field it stands in.

    :param limit: the rule or bound that the value broke.
    :param remedy: what the author of the manifest should write instead.
    :param value: what to show as the value, where that is not the whole field.
    """

    def __init__(self, limit: str, *, remedy: str, value: object = None) -> None:
        self.limit = limit
        self.remedy = remedy
        self.value = value
        super().__init__(f"{limit}; {remedy}" if value is None else f"{value!r}: {limit}; {remedy}")

    @classmethod
    def of(cls, error: MlpipexError) -> Refusal:
        """An error of the domain as pydantic can carry it."""
        return cls(error.limit, remedy=error.remedy, value=error.value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy that names the known word that is nearest to ``word``; empty where none is near."""
    near = difflib.get_close_matches(word.lower().replace("-", "_"), list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""
