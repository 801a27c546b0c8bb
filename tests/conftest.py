"""What every test shares."""

from __future__ import annotations

import os

from hypothesis import settings

# Before NumPy is imported. Tests run in as many processes as there are cores, on small tables: there, OpenMP's and
# BLAS's threads do nothing but wait for each other, which took ten times the CPU of the work itself.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# How long an example takes says what else the machine does, and nothing of the code. The rest is as Hypothesis has it
# here: in CI its examples are the same each time.
settings.register_profile("any-machine", parent=settings(), deadline=None)
settings.load_profile("any-machine")
