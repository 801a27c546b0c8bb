"""What a plane does beside its verbs, every so often, each in a thread of its own."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable


class Background(ABC):
    """:param name: of the work. :param every_s: seconds between two rounds of it.
    :param say: takes what a round raised; the next one comes all the same.
    """

    def __init__(self, name: str, *, every_s: float, say: Callable[[str, Exception], None]) -> None:
        self._name = name
        self._every_s = every_s
        self._say = say
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name=name, daemon=True)

    @abstractmethod
    def work(self) -> None:
        """One round. A long one looks at ``_stopping`` now and then."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _go_on(self) -> None:
        while not self._stopping.wait(self._every_s):
            try:
                self.work()
            except Exception as error:  # noqa: BLE001 - one round's trouble must not be the last of it
                self._say(self._name, error)
