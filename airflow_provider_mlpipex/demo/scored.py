"""Batches of rows through production: the drift that one of them brings is traced to the Dag run that sent it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_provider_mlpipex.demo.scene import SLOWEST_VERB_S, Run, Scene
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised, BatchServed, DriftJudged

DAG_ID = "score__flight_delay"
ENDPOINT = EndpointRef.parse("production/flight-delay")
#: Weeks after the rows that the current release was evaluated on.
HONEST, FAULTY = "2013-07-10", "2013-07-17"
#: The column that the fault spoils: minutes after midnight come as 1830, whose first digits are the hour.
COLUMN = "sched_dep_time"
#: Part of the drift that the faulty batch must be found to carry.
MAIN_SHARE = 0.9


@dataclass
class DriftFacts:
    """What came of two batches.

    :param digests: Dag run -> digest of the rows that it sent. :param alarms: columns that raised one, look by look.
    :param batches: those that carry the last drift, as ``mlpipex drift attribute`` tells them.
    :param alerts: titles of what on-call was told about :data:`COLUMN`.
    """

    honest: Run
    faulty: Run
    digests: dict[str, str]
    alarms: list[list[str]]
    batches: list[dict[str, Any]]
    alerts: list[str]

    @property
    def carried(self) -> float:
        """Part of the drift of :data:`COLUMN` that the faulty run's own batch is found to carry."""
        return float(self._named.get("shares", {}).get(COLUMN, 0.0))

    @property
    def ok(self) -> bool:
        rows = [row["inputs"] for row in self._named.get("sample", ())]
        return (
            (self.honest.state, self.faulty.state) == ("success", "success")
            and self.alarms == [[], [COLUMN]]
            and self.carried > MAIN_SHARE
            and self._named["sent"]["digest"] == self.digests.get(self.faulty.run_id)
            and bool(rows)
            and all(row[COLUMN] // 100 == row["hour"] for row in rows)
            and len(self.alerts) == 1
        )

    @property
    def _named(self) -> dict[str, Any]:
        """The batch of the faulty run; empty where none is named."""
        of_run = (batch for batch in self.batches if (batch["sent"] or {}).get("run_id") == self.faulty.run_id)
        return next(of_run, {})


@dataclass
class ScoredStory:
    scene: Scene

    def drift_to_its_batch(self) -> None:
        expected = f"a week with a planted fault drifts in {COLUMN}, and is named with its Dag run and rows"
        with self.scene.step("drift to its batch", expected) as step:
            began = time.time()
            honest, faulty = self._score(HONEST, "", began), self._score(FAULTY, "clock-times", began)
            facts = self._facts(honest, faulty, began)
            step.ok = facts.ok
            alarms = [", ".join(named) or "nothing" for named in facts.alarms]
            step.observed = (
                f"drift found after each week: {'; '.join(alarms)}; {facts.carried:.0%} of that of {COLUMN} carried by "
                f"the batch of Dag run {faulty.run_id}"
            )
            step.facts = asdict(facts)

    def _facts(self, honest: Run, faulty: Run, since: float) -> DriftFacts:
        # A look at drift without news decides nothing, and stands beside the chain.
        events = [(fact.origin, fact.event) for fact in self.scene.facts(ENDPOINT, since=since)]
        return DriftFacts(
            honest=honest,
            faulty=faulty,
            digests={origin.run_id: event.digest for origin, event in events if isinstance(event, BatchServed)},
            alarms=[list(event.facts["raising"]) for _, event in events if isinstance(event, DriftJudged)],
            batches=self._attributed(),
            alerts=[event.title for _, event in events if isinstance(event, AlertRaised) and COLUMN in event.title],
        )

    def _score(self, start: str, fault: str, since: float) -> Run:
        window = datetime.fromtimestamp(since, tz=UTC).isoformat()
        return self.scene.follow(DAG_ID, conf={"start": start, "fault": fault, "since": window})

    def _attributed(self) -> list[dict[str, Any]]:
        """Batches that carry the drift that was found last, as a person asks for them."""
        asked = subprocess.run(
            [sys.executable, "-m", "airflow_provider_mlpipex", "drift", "attribute", str(ENDPOINT), "--json"],
            env=self.scene.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SLOWEST_VERB_S,
        )
        return list(json.loads(asked.stdout)["batches"]) if asked.returncode == 0 else []
