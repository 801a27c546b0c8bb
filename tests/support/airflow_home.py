"""An Airflow of our own for tests: its home, database and Dags folder, set before ``airflow`` is imported."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DAGS = REPOSITORY / "dags"
_MARK = "MLPIPEX_TEST_AIRFLOW_HOME"


def prepare() -> Path:
    """Point this process (and its children) to a fresh Airflow home; return it. The second call returns the first's.

    :raises RuntimeError: Airflow was imported before, and has settled on another home.
    """
    made = os.environ.get(_MARK)
    if made:
        return Path(made)
    if "airflow" in sys.modules:
        raise RuntimeError("airflow was imported before tests/support/airflow_home.py could give it a home")
    home = Path(tempfile.mkdtemp(prefix="mlpipex-airflow-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    for name in [name for name in os.environ if name.startswith(("AIRFLOW", "MLPIPEX_"))]:
        del os.environ[name]
    connection = {
        "conn_type": "mlpipex",
        "host": "127.0.0.1",
        "port": 9,  # discard: nobody answers there
        "password": "not-a-secret",
        "extra": {"ledger_url": f"sqlite:///{home}/ledger.db", "snapshot_root": f"{home}/snapshots"},
    }
    os.environ.update(
        {
            _MARK: str(home),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONN_MLPIPEX_DEFAULT": json.dumps(connection),
            "AIRFLOW__API_AUTH__JWT_SECRET": "not-a-secret-but-long-enough-for-the-hash-that-signs-the-tokens-with-it",
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "DO_NOT_TRACK": "true",
            # Manifests of tests lie in no git checkout.
            "MLPIPEX_CODE_VERSION": "0123abc",
        }
    )
    return home
