"""What the commands of a terminal are tried on."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_mlpipex.services.platform import Platform
from tests.support.factories import make_release
from tests.support.terminal import release, terminal_platform


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    return terminal_platform(tmp_path, monkeypatch)


@pytest.fixture
def two_releases(platform: Platform) -> Platform:
    """1.0.0 was replaced by 1.1.0, whose rollback window is open."""
    release(platform, make_release("1.0.0"))
    release(platform, make_release("1.1.0"))
    return platform
