"""A team's own Dag run whole, in this process, on a platform in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from airflow_provider_mlpipex.domain.rollout.events import Origin
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform

if TYPE_CHECKING:
    from airflow.sdk import DAG


@dataclass(frozen=True)
class DagRunResult:
    """A Dag run that is over.

    :param state: ``success`` or ``failed``. :param tasks: task id -> its state.
    """

    run_id: str
    state: str
    tasks: Mapping[str, str]

    def of(self, state: str) -> set[str]:
        """The tasks that ended in ``state``."""
        return {task for task, its in self.tasks.items() if its == state}


@contextmanager
def use_platform(platform: MemoryPlatform | None = None) -> Iterator[MemoryPlatform]:
    """Let every operator, sensor, trigger and notifier work with ``platform``, whatever connection it names.

    :param platform: a new :func:`memory_platform` if not given.
    """
    fakes = platform or memory_platform()

    def handed_out(hook: MlpipexHook, origin: Origin) -> Platform:
        return fakes.acting_as(origin)

    async def handed_out_async(hook: MlpipexHook, origin: Origin) -> Platform:
        return fakes.acting_as(origin)

    with (
        patch.object(MlpipexHook, "platform", handed_out),
        patch.object(MlpipexHook, "platform_async", handed_out_async),
    ):
        yield fakes


def run_dag(
    dag: DAG,
    *,
    logical_date: datetime | None = None,
    conf: Mapping[str, Any] | None = None,
    mark_success: str | None = None,
) -> DagRunResult:
    """Run ``dag`` to its end by Airflow's own ``dag.test()``: no scheduler, no worker, triggers in this process.

    The metadata database is the one of ``AIRFLOW_HOME``: point it to a temporary folder before Airflow is imported. It
    is migrated at the first call of a process (some seconds).

    :param logical_date: with a time zone. :param conf: of the run, as somebody who triggers it gives it.
    :param mark_success: regular expression: tasks that are marked as successful and never run.
    """
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    _migrate()
    bag = DagBag(dag_folder=os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
    run = dag.test(logical_date=logical_date, run_conf=dict(conf) if conf else None, mark_success_pattern=mark_success)
    return DagRunResult(run.run_id, str(run.state), {ti.task_id: str(ti.state) for ti in run.get_task_instances()})


@cache
def _migrate() -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.utils.db import initdb

    initdb()
    manager: Any = DagBundlesManager
    manager().sync_bundles_to_db()
