"""How another interpreter is started so that it finds this package, and nothing else of ours."""

from __future__ import annotations

import os
import sys
import sysconfig
import uuid
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2]
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


def server_environment(python: Path) -> dict[str, str]:
    """Environment variables with which ``python`` finds this package, and nothing else of the provider's."""
    environment = {name: value for name, value in os.environ.items() if name in _KEPT}
    environment |= {
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PYTHONUNBUFFERED": "1",
        # Not asked for among all that is installed, at every start.
        "PYDANTIC_DISABLE_PLUGINS": "__all__",
    }
    if folder := package_folder(python):
        environment["PYTHONPATH"] = str(folder)
    return environment


def package_folder(python: Path) -> Path | None:
    """What must be on the path of ``python`` so that it finds this package; ``None`` where it finds it anyhow."""
    if python == Path(sys.executable):
        # What is installed is found anyhow; a checkout that this process was started from, only if it is named.
        installed = _PACKAGE.parent == Path(sysconfig.get_path("purelib")).resolve()
        return None if installed else _PACKAGE.parent
    # Not the folder that holds the package: in an installation that holds every other package of ours as well.
    folder = python.parents[1] / "provider"
    folder.mkdir(exist_ok=True)
    link = folder / _PACKAGE.name
    if not link.exists() or link.resolve() != _PACKAGE:
        # Renamed into place: another process may do the same at this moment.
        made = folder / f".{uuid.uuid4().hex}"
        made.symlink_to(_PACKAGE)
        made.replace(link)
    return folder
