"""What every test shares."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import settings

# Before NumPy is imported. Tests run in as many processes as there are cores, on small tables: there, OpenMP's and
# BLAS's threads do nothing but wait for each other, which took ten times the CPU of the work itself.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# How long an example takes says what else the machine does, and nothing of the code. The rest is as Hypothesis has it
# here: in CI its examples are the same each time.
settings.register_profile("any-machine", parent=settings(), deadline=None)
settings.load_profile("any-machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start real servers begin early, the longest first, each beside files that do not: two at once wait for
    each other's processes, and one that begins last leaves every other process of the tests idle.
    """
    sizes = Counter(item.path for item in items)
    real = {item.path for item in items if item.get_closest_marker("system")}
    slow = sorted(real, key=lambda path: (path.name != "test_live_airflow.py", str(path)))
    quick = sorted(sizes.keys() - real, key=lambda path: (-sizes[path], str(path)))
    between = len(quick) * 2 // 3 // max(len(slow), 1)
    order = [path for n, first in enumerate(slow) for path in (first, *quick[n * between : (n + 1) * between])]
    place = {path: n for n, path in enumerate([*order, *quick[len(slow) * between :]])}
    items.sort(key=lambda item: place[item.path])
