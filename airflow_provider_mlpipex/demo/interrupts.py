"""Ctrl-C that is heard, wherever it arrives."""

from __future__ import annotations

import signal
from types import FrameType

#: An interrupt that nobody heard comes again after so long.
REPEATED_AFTER_S = 2.0


def hear(*signals: signal.Signals) -> None:
    """Let each of ``signals`` raise :class:`KeyboardInterrupt` in the main thread, repeatedly, until :func:`ignore`.

    Python prints and forgets an exception inside a destructor or a library's callback. An interrupt that arrived
    there would be lost, and whoever sent it would wait for ever.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, REPEATED_AFTER_S)
        raise KeyboardInterrupt

    for number in (*signals, signal.SIGALRM):
        signal.signal(number, interrupt)


def ignore() -> None:
    """From here on neither a second Ctrl-C nor the echo of the first ends what is being cleared away."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
