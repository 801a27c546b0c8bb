"""Lists of gates as blocks hold them: each may be written as a sentence, which speaks of the source of its block."""

from __future__ import annotations

from pydantic import (
    BeforeValidator,
)

from airflow_provider_mlpipex.domain.gates.evidence import Source
from airflow_provider_mlpipex.domain.gates.sentence_grammar import read_sentence


def gate_of(source: Source) -> BeforeValidator:
    """Reads a gate; a sentence speaks of ``source`` unless it says otherwise."""
    return BeforeValidator(lambda raw: read_sentence(raw, source=source) if isinstance(raw, str) else raw)
