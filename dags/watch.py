"""``watch``: one deferred task that looks at every endpoint every few seconds, and holds no worker.

Inside a rollback window it reverts, exactly like the watch of the release Dag, whose sensor may have been killed.
Outside one it alerts, and a person decides. It watches what the ledger knows, whatever has become of the manifests: an
endpoint that was released a minute ago is watched, and a manifest that is broken blinds nobody.

A run lasts some hours; the next one begins at once. Pausing this Dag ends no run, and begins none.
"""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_mlpipex import StandingWatchOperator

with DAG(
    "watch",
    # Not @continuous, which would begin a watch that fails at once again and again without a pause.
    schedule="* * * * *",
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["mlpipex", "watch"],
    doc_md=__doc__,
):
    StandingWatchOperator(task_id="endpoints", retries=2, retry_delay=5.0)
