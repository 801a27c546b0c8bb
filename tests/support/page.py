"""The source of the health page, where npm is: what it is built and tested with, and the answers of its own tests."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
UI = REPOSITORY / "ui"
#: A registry may be slow.
_INSTALL_S = 900.0


def require_npm() -> str:
    """npm, with what the page is built with installed; skips where there is no npm, since nobody needs it to run."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm: the source of the page is neither built nor tried here; what is installed is")
    made = subprocess.run(
        ["make", "--silent", "ui/node_modules/.installed"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=_INSTALL_S,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return npm


def fixtures_script(folder: Path, *, module: str = "iife") -> Path:
    """``ui/test/fixtures.ts`` as one script: what it exports is ``fixtures``, or with ``cjs`` the module's own."""
    require_npm()
    script = folder / f"fixtures.{module}.cjs"
    name = ["--global-name=fixtures"] if module == "iife" else []
    bundle = ["npx", "esbuild", "test/fixtures.ts", "--bundle", f"--format={module}", *name, f"--outfile={script}"]
    subprocess.run(bundle, cwd=UI, check=True, timeout=300, capture_output=True)
    return script


def fixture_answers(folder: Path) -> dict[str, Any]:
    """Route -> the answer that the page's own tests live on."""
    script = fixtures_script(folder, module="cjs")
    said = subprocess.run(
        ["node", "--print", f"JSON.stringify(require({json.dumps(str(script))}).ANSWERS)"],
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
    )
    return dict(json.loads(said.stdout))
