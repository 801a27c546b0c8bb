"""The files of one Envoy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Where one Envoy of a plane reads and writes; every file in a folder of mode 0700.

    Routes and clusters are the same files for all of them. Listeners are not: they name logs, and Envoy does not write
    a line whole, so that two of them would tear each other's.
    """

    folder: Path
    admin_socket: Path
    number: int = 1

    @property
    def name(self) -> str:
        """``envoy``, ``envoy-2``"""
        return "envoy" if self.number == 1 else f"envoy-{self.number}"

    @property
    def bootstrap(self) -> Path:
        return self.folder / f"bootstrap{self._suffix}.json"

    def resource(self, kind: str) -> Path:
        return self.folder / "xds" / f"{kind}{self._suffix if kind == 'lds' else ''}.json"

    @property
    def attempts_log(self) -> Path:
        return self.folder / f"attempts{self._suffix}.jsonl"

    @property
    def access_log(self) -> Path:
        return self.folder / f"access{self._suffix}.jsonl"

    @property
    def own_log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def _suffix(self) -> str:
        return "" if self.number == 1 else f"-{self.number}"
