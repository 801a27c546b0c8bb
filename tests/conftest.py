"""What every test shares."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says what else the machine does, and nothing of the code. The rest is as Hypothesis has it
# here: in CI its examples are the same each time.
settings.register_profile("any-machine", parent=settings(), deadline=None)
settings.load_profile("any-machine")
