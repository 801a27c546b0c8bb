"""``make demo``: start the stack, play the story, report, and stay up (or not)."""

from __future__ import annotations

import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.composition import Settings, build_platform
from airflow_provider_mlpipex.demo import flight_features, flights, interrupts, keyed, scored
from airflow_provider_mlpipex.demo.airflow_client import AirflowClient
from airflow_provider_mlpipex.demo.keyed import KeyedStory
from airflow_provider_mlpipex.demo.progress import Progress
from airflow_provider_mlpipex.demo.report import Report
from airflow_provider_mlpipex.demo.scene import Scene
from airflow_provider_mlpipex.demo.scored import ScoredStory
from airflow_provider_mlpipex.demo.stack import USER, Ports, Stack
from airflow_provider_mlpipex.demo.story import DAG_ID, PRODUCTION, Story
from airflow_provider_mlpipex.demo.traffic import LiveTraffic
from airflow_provider_mlpipex.demo.webhook import AlertReceiver
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.rollout.events import Origin

FOLDER = Path(".mlpipex/demo")
MANIFEST = "flight-delay.yaml"
#: Flights that no model of the story was trained on: the month after those that release 1.1.0 was evaluated on.
REPLAYED = (datetime(2013, 7, 3, tzinfo=UTC), datetime(2013, 8, 1, tzinfo=UTC))


def play(*, once: bool, ports: str, dags: Path = Path("dags")) -> int:
    """Play everything; return the exit code: 0 only if every step behaved.

    :param once: stop everything at the end, instead of staying up for people to look around.
    :param ports: ``default`` or ``auto``.
    """
    if not (dags / "release.py").is_file():
        raise ConfigurationInvalid(
            "reference Dags", value=str(dags), limit="a folder with release.py", remedy="run this in the checkout"
        )
    progress = Progress(began=time.monotonic())
    chosen = Ports.choose(ports)
    pager = AlertReceiver()
    stack = Stack(FOLDER, dags=dags, ports=chosen, alert_url=pager.apprise_url)
    # SIGINT too: where a shell started this in the background, it would be ignored.
    interrupts.hear(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    traffic: LiveTraffic | None = None
    try:
        say(progress.beforehand())
        say(f"Starting MLflow, the serving plane and Airflow under {FOLDER}; logs in {FOLDER}/logs")
        stack.prepare(Path(__file__).parent)
        stack.start()
        flight_features.write(stack.features, departing=keyed.KNOWN)
        stack.wait()
        say(f"All answer after {progress.elapsed_s:.0f} s: Airflow {stack.airflow_url}, MLflow {stack.mlflow_url}")
        traffic = LiveTraffic(
            f"{stack.ingress_url}/endpoints/{PRODUCTION}",
            token=stack.plane_token("client-token"),
            rows=flights.load(*REPLAYED)[list(flights.FEATURES)].sample(2000, random_state=7),
        )
        report = _play_story(stack, traffic, pager, progress)
        say(report.summary())
        say(f"\nThe whole story took {progress.elapsed_s:.0f} s. Report: {FOLDER / 'report.json'}")
        if not once:
            _stay_up(stack)
        return 0 if report.ok else 1
    except KeyboardInterrupt:
        interrupts.ignore()
        say("\nStopping …")
        return 130
    finally:
        interrupts.ignore()
        if traffic is not None:
            traffic.stop()
        stack.stop()
        pager.stop()


def _play_story(stack: Stack, traffic: LiveTraffic, pager: AlertReceiver, progress: Progress) -> Report:
    airflow = AirflowClient(stack.airflow_url, user=USER, password=stack.password)
    for dag_id in (DAG_ID, keyed.DAG_ID, scored.DAG_ID):
        airflow.wait_until_parsed(dag_id)
    settings = Settings.from_environment(stack.environment)
    with (
        stack.client(stack.control_url, "drill-token") as drills,
        stack.client(stack.control_url, "rollback-token") as rollbacks,
        stack.client(stack.ingress_url, "client-token") as clients,
    ):
        scene = Scene(
            airflow=airflow,
            platform=build_platform(settings, Origin(kind="cli", user="demo")),
            drills=drills,
            rollbacks=rollbacks,
            clients=clients,
            traffic=traffic,
            alerts=pager,
            environment=stack.environment,
            say=say,
            logs=FOLDER / "logs",
            progress=progress,
        )
        try:
            keyed_story = KeyedStory(scene, stack.features)
            return Story(scene, stack.manifests / MANIFEST, keyed_story, ScoredStory(scene)).play()
        finally:
            # Whatever happened: what was seen until then is the evidence.
            scene.report.write(FOLDER / "report.json")


def _stay_up(stack: Stack) -> None:
    variables = (
        f"MLPIPEX_LEDGER_URL={stack.environment['MLPIPEX_LEDGER_URL']} MLPIPEX_PLANE_URL={stack.control_url} "
        f"MLPIPEX_PLANE_TOKEN_FILE={stack.environment['MLPIPEX_PLANE_TOKEN_FILE']}"
    )
    say(
        f"\nStill up; Ctrl-C stops everything.\n"
        f"  Airflow   {stack.airflow_url}   user {USER}, password {stack.password}\n"
        f"  MLflow    {stack.mlflow_url}\n\n"
        f"Things to try:\n"
        f"  export {variables}\n"
        f"  .venv/bin/mlpipex status\n"
        f"  .venv/bin/mlpipex history {PRODUCTION}\n"
        f"  .venv/bin/mlpipex drift attribute {PRODUCTION}\n"
        f"  .venv/bin/mlpipex audit verify\n"
        f"  .venv/bin/mlpipex plan {stack.manifests / MANIFEST} --environment production\n"
        f"  trigger release__flight_delay in Airflow with as_of 2013-10-01, and answer its review"
    )
    while True:
        time.sleep(1.0)
        stack.check()


def say(text: Any) -> None:
    """To the terminal, at once: a pipe must not hold the story back."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
