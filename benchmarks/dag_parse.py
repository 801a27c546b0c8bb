"""Dag parse: a release Dag against a Dag of as many plain BashOperators, and a Dag file of 500 manifests.

Each is parsed by a fresh process, as Airflow's Dag processor does, in turn; the import of Airflow itself is not counted
for either. A second column counts everything. Seconds beside each other are of CPU: a parse waits for nothing, and
other programs on the machine are not its fault. The many manifests are held to the wall clock, as Airflow holds them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.table import Bar, Table, quantile

REPOSITORY = Path(__file__).parents[1]
MANIFESTS = 500
_PLAIN = """
from airflow.sdk import DAG, chain
from airflow.providers.standard.operators.bash import BashOperator

with DAG("plain", schedule=None):
    chain(*[BashOperator(task_id=f"t{{n}}", bash_command="true") for n in range({tasks})])
"""
#: Prints a :class:`Parse`.
_PARSE = """
import json, sys, time
began = time.process_time()
import airflow.sdk
from airflow.dag_processing.dagbag import DagBag
imported, clock = time.process_time(), time.perf_counter()
bag = DagBag(dag_folder=sys.argv[1])
assert not bag.import_errors, bag.import_errors
done, wall = time.process_time(), time.perf_counter() - clock
print("RESULT", json.dumps([done - imported, done - began, wall, sum(len(dag.tasks) for dag in bag.dags.values())]))
"""


class Parse(NamedTuple):
    """One parse of a Dag file.

    :param alone: seconds of CPU after Airflow was imported. :param whole: with its import. :param wall: the first by
        the wall clock. :param tasks: that were found.
    """

    alone: float
    whole: float
    wall: float
    tasks: int


def run(*, quick: bool = False) -> Table:
    rounds = 2 if quick else 7
    with tempfile.TemporaryDirectory(prefix="mlpipex-bench-") as folder:
        environment = {
            **os.environ,
            "AIRFLOW_HOME": folder,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "MLPIPEX_CODE_VERSION": "benchmark",  # the many manifests stand outside of any checkout
            "MLPIPEX_MANIFESTS": str(REPOSITORY / "dags" / "manifests"),
        }
        release = REPOSITORY / "dags" / "release.py"
        tasks = parse_dag_file(release, environment).tasks
        plain = Path(folder) / "plain.py"
        plain.write_text(_PLAIN.format(tasks=tasks), encoding="utf-8")
        times: dict[str, list[Parse]] = {"release Dag": [], "plain Dag": []}
        for _ in range(rounds):
            times["release Dag"].append(parse_dag_file(release, environment))
            times["plain Dag"].append(parse_dag_file(plain, environment))
        manifests = 50 if quick else MANIFESTS
        many = parse_dag_file(release, {**environment, "MLPIPEX_MANIFESTS": many_manifests(Path(folder), manifests)})
    table = Table(("Dag", "tasks", "parse p50 s", "with Airflow's import p50 s"))
    medians = {name: [quantile([found[at] for found in seen], 0.5) for at in (0, 1)] for name, seen in times.items()}
    for name, (alone, whole) in medians.items():
        table.rows.append((name, tasks, f"{alone:.3f}", f"{whole:.3f}"))
    table.rows.append((f"{manifests} manifests in one file", many.tasks, f"{many.alone:.3f}", ""))
    ours, theirs = medians["release Dag"], medians["plain Dag"]
    table.ratios = [
        f"without Airflow's import, the release Dag parses in {ours[0] / theirs[0]:.2f} times the plain one"
    ]
    table.bars = [
        Bar("release Dag beside the plain one, with Airflow's import", ours[1] / theirs[1], 1.2, " times"),
        Bar(f"parse of {manifests} manifests in one file", many.wall, 10.0, " s"),
    ]
    return table


def many_manifests(folder: Path, number: int) -> str:
    """A folder of so many manifests, each of another name."""
    (manifest,) = (REPOSITORY / "dags" / "manifests").glob("*.yaml")
    text = manifest.read_text(encoding="utf-8")
    many = folder / "many"
    many.mkdir()
    for each in range(number):
        named = re.sub(r"^name: .*$", f"name: model-{each}", text, count=1, flags=re.MULTILINE)
        (many / f"model-{each}.yaml").write_text(named, encoding="utf-8")
    return str(many)


def parse_dag_file(file: Path, environment: dict[str, str]) -> Parse:
    """What a fresh process needs for ``file``."""
    done = subprocess.run(
        [sys.executable, "-c", _PARSE, str(file)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=500,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return Parse(*json.loads(line.removeprefix("RESULT ")))
