"""How far the story is, and how long the rest of it will take on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

#: Seconds of each step on two free cores, in the order of the story.
EXPECTED_S: Mapping[str, float] = {
    "first release": 65,
    "retrain": 70,
    "refused offline": 30,
    "rolled back in canary": 50,
    "rolled back after 100 %": 80,
    "refused data": 15,
    "runtime bump, rejected": 35,
    "runtime bump, approved": 80,
    "outage upstream": 1,
    "one call, terminal": 5,
    "one call, HTTP": 1,
    "planted skew": 35,
    "features from the store": 45,
    "drift to its batch": 40,
    "clients": 1,
}
#: Until all servers answer.
START_S = 45.0
#: A machine is not promised to be faster than so many times the table above.
_FASTEST = 0.5


@dataclass
class Progress:
    """:param began: seconds of ``clock`` at which the stack was started.
    :param expected: steps in their order, and what each takes on two free cores, in seconds.
    """

    began: float
    expected: Mapping[str, float] = field(default_factory=lambda: EXPECTED_S)
    clock: Callable[[], float] = time.monotonic

    def beforehand(self) -> str:
        """What to expect, said before anything is started."""
        first = START_S + next(iter(self.expected.values()))
        whole = START_S + sum(self.expected.values())
        return (
            f"{len(self.expected)} steps. On two free cores the first release is in production after about "
            f"{minutes(first)}, and the story ends after about {minutes(whole)}; a busy machine takes longer, "
            "and nothing fails for it."
        )

    def before(self, step: str) -> str:
        """Which step begins, and how long it and the rest will take at the pace of this machine so far.

        :raises KeyError: the story has no such step.
        """
        if step not in self.expected:
            raise KeyError(f"{step!r} is not among the steps whose duration is known: add it to EXPECTED_S")
        number = list(self.expected).index(step)
        durations = list(self.expected.values())
        pace = max(_FASTEST, self.elapsed_s / (START_S + sum(durations[:number])))
        step_s, rest_s = (pace * sum(durations[number:end]) for end in (number + 1, None))
        left = f"about {minutes(step_s)}; to the end about {minutes(rest_s)}"
        return f"Step {number + 1} of {len(durations)}, {step} ({left})"

    @property
    def elapsed_s(self) -> float:
        return self.clock() - self.began


def minutes(seconds: float) -> str:
    """``40 s``, ``3 min``: as exactly as a forecast is."""
    return f"{max(5, round(seconds / 5) * 5)} s" if seconds < 100 else f"{round(seconds / 60)} min"
