"""Training in the environment that will serve the model: a process of that interpreter, from rows to a model directory.

The worker judges the rows, logs and registers. What depends on packages happens there: the team's callable, the
metrics, the saved model and the comparison of its answers with those of the served path.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.adapters.mlflow.code_paths import installed_roots
from airflow_provider_mlpipex.atomic import atomic_write
from airflow_provider_mlpipex.domain.errors import MlpipexError, RuntimeMismatch, TrainingFailed, error_from_dict
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.release.training import Fitted, LockedRuntime, SavedModel
from airflow_provider_mlpipex.services.training.code_failure import describe_failure
from airflow_provider_mlpipex.serving.model_server.interpreter import package_folder

if TYPE_CHECKING:
    import pandas as pd

#: Module that must be there -> distribution that brings it.
NEEDED = {
    "pydantic": "pydantic",
    "packaging": "packaging",
    "orjson": "orjson",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "sklearn": "scikit-learn",
    "mlflow": "mlflow, or mlflow-skinny",
}
_PARTS = ("training", "evaluation")
_MANIFEST, _RESULT, _MODEL = "manifest.json", "result.json", "model"


def fit_in(
    runtime: LockedRuntime, manifest: Manifest, *, training: pd.DataFrame, evaluation: pd.DataFrame, folder: Path
) -> Fitted:
    """Train ``manifest`` on ``training`` in the interpreter of ``runtime``; the model is left below ``folder``.

    The process has the environment variables of this one and finds the team's own modules where this one does. What it
    prints is the training's log.

    :raises RuntimeMismatch: its lock lacks what a training needs. :raises TrainingFailed: as of a training here, or the
        process died.
    """
    _require_modules(runtime)
    for name, rows in zip(_PARTS, (training, evaluation), strict=True):
        rows.to_parquet(folder / f"{name}.parquet", index=False)
    (folder / _MANIFEST).write_text(json.dumps(manifest.to_json()), encoding="utf-8")
    done = subprocess.run(
        [str(runtime.python), "-P", "-m", __name__, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(_paths(runtime.python)), "PYTHONUNBUFFERED": "1"},
        # Standard output may be the answer of a command for a machine to read.
        stdout=2,
        check=False,
    )
    result = folder / _RESULT
    if not result.is_file():
        raise TrainingFailed(
            f"training callable {manifest.training.callable if manifest.training else ''} in {_shown(runtime)}",
            value=f"the process ended with exit code {done.returncode}",
            limit="a fitted model",
            remedy="see what it printed, above in the task's log; -9 is mostly too little memory",
        )
    answer = json.loads(result.read_text(encoding="utf-8"))
    if "error" in answer:
        raise error_from_dict(answer["error"], nearest=TrainingFailed)
    facts: dict[str, Any] = answer["model"]
    return Fitted(trained=SavedModel(folder=folder / _MODEL, **facts), **answer["fitted"])


def _paths(python: Path) -> list[str]:
    """This package, and the folders of the team's own code: what is on the path here and is no installed package."""
    roots = installed_roots()
    entries = [Path(entry or os.getcwd()) for entry in sys.path]
    own = [str(entry) for entry in entries if entry.is_dir() and not any(entry.is_relative_to(root) for root in roots)]
    return list(dict.fromkeys([*([str(ours)] if (ours := package_folder(python)) else []), *own]))


def _require_modules(runtime: LockedRuntime) -> None:
    asked = f"import importlib.util as u; print(*[m for m in {sorted(NEEDED)!r} if u.find_spec(m) is None])"
    done = subprocess.run([str(runtime.python), "-I", "-c", asked], capture_output=True, text=True, check=False)
    missing = [NEEDED[module] for module in done.stdout.split()]
    if missing or done.returncode != 0:
        raise RuntimeMismatch(
            f"{_shown(runtime)}, training: {{runtime: serving}}",
            value=f"lacks {', '.join(missing)}" if missing else "an interpreter that does not start",
            limit=f"a lock with {', '.join(NEEDED.values())}",
            remedy="add what it lacks to the lock, and bump runtime.version; that opens a review",
        )


def _shown(runtime: LockedRuntime) -> str:
    return f"runtime {runtime.environment.version} (lock {runtime.environment.digest[:12]})"


def main(argv: Sequence[str]) -> int:
    """The process itself: ``result.json`` holds the facts of the model, or the error that ended it."""
    folder = Path(argv[0])
    try:
        answer = _fit(folder)
    except MlpipexError as error:
        answer = {"error": error.as_dict()}
    except Exception as error:  # noqa: BLE001 - whatever a library raises; its text may quote rows
        failed = TrainingFailed(
            "training in its runtime",
            value=describe_failure(error, code="training in its runtime"),
            limit="a fitted model",
            remedy="see the lines above in the task's log; does the lock fit this version of the provider?",
        )
        answer = {"error": failed.as_dict()}
    # Whole or not there: whoever reads it takes a half one for the end of a training.
    atomic_write(folder / _RESULT, json.dumps(answer))
    return 0


def _fit(folder: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    from airflow_provider_mlpipex.adapters.mlflow.model import save_model
    from airflow_provider_mlpipex.services.training.fit import fit
    from airflow_provider_mlpipex.services.training.rows import SplitRows
    from airflow_provider_mlpipex.services.training.snapshots import data_of

    manifest = Manifest.model_validate_json((folder / _MANIFEST).read_bytes())
    if manifest.training is None:
        raise TrainingFailed(f"manifest {manifest.name}", value="no training block", limit="one that says how to train")
    training, evaluation = (pq.ParquetFile(folder / f"{name}.parquet").read().to_pandas() for name in _PARTS)
    columns, time_column = list(manifest.features.columns), data_of(manifest).time_column
    fitted = fit(manifest.training, columns, SplitRows(training, evaluation), time_column=time_column)
    model = fitted.trained
    if isinstance(model, SavedModel):
        raise TypeError("a training here gives the model itself")
    signature = save_model(model, folder / _MODEL)
    return {
        "model": {
            "signature": signature,
            "metrics": dict(model.metrics),
            "evaluation_rows": model.evaluation_rows,
            "parameters": dict(model.parameters),
        },
        "fitted": {
            "architecture": fitted.architecture,
            "source_digest": fitted.source_digest,
            "unlabelled": fitted.unlabelled,
        },
    }


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
