"""Ports that fail, or do something else meanwhile, at one chosen call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """The process ended here. Not an ``Exception``, so that nothing but the test catches it."""


Fault = BaseException | Callable[[], object]


class Faulty:
    """``port`` itself, but for what :meth:`once` has arranged."""

    def __init__(self, port: Any) -> None:
        self.port = port
        self._arranged: list[tuple[str, str, Fault]] = []

    def once(self, when: str, verb: str, fault: Fault) -> None:
        """``before`` or ``after`` the next call of ``verb``: raise ``fault``, or call it (another process's turn)."""
        self._arranged.append((when, verb, fault))

    def clear(self) -> None:
        """Nothing that was arranged will happen any more."""
        self._arranged.clear()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.port, name)
        if not callable(found):
            return found

        def call(*args: Any, **named: Any) -> Any:
            self._strike("before", name)
            answer = found(*args, **named)
            self._strike("after", name)
            return answer

        return call

    def _strike(self, when: str, verb: str) -> None:
        for arranged in self._arranged:
            if arranged[:2] == (when, verb):
                self._arranged.remove(arranged)
                fault = arranged[2]
                if isinstance(fault, BaseException):
                    raise fault
                fault()
                return
