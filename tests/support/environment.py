"""The environment of programs that a test starts as somebody else would."""

from __future__ import annotations

import os

#: What a neighbouring test, or the developer's own shell, has set for another Airflow, MLflow or plane.
_FOREIGN = ("AIRFLOW", "MLFLOW_", "MLPIPEX_")


def clean_environment(**own: str) -> dict[str, str]:
    """This process's, without anything that belongs to another installation, and ``own``."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)} | own
