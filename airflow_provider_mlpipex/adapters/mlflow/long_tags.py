"""Texts that are longer than a tag of MLflow's, in several tags."""

from __future__ import annotations

#: Run and version tags hold 5,000 characters in older MLflow servers.
_TAG_LENGTH = 4_500


def split_text(name: str, text: str) -> dict[str, str]:
    """Tags ``name.0``, ``name.1`` … that hold ``text``."""
    pieces = range(0, len(text), _TAG_LENGTH)
    return {f"{name}.{number}": text[start : start + _TAG_LENGTH] for number, start in enumerate(pieces)}


def joined_text(name: str, tags: dict[str, str]) -> str:
    """The inverse of :func:`split_text`."""
    numbers = sorted(int(tag.removeprefix(f"{name}.")) for tag in tags if tag.startswith(f"{name}."))
    return "".join(tags[f"{name}.{number}"] for number in numbers)
