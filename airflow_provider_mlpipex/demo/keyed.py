"""A release whose features come from a store: a skew between serving and training stops it, before it serves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.demo import flight_features, flights
from airflow_provider_mlpipex.demo.flight_features import Skew, Window
from airflow_provider_mlpipex.demo.scene import Run, Scene
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.predictions import Prediction
from airflow_provider_mlpipex.domain.rollout.traffic_plan import RELEASE_HEADER

DAG_ID = "release__flight_delay_keyed"
ENDPOINT = EndpointRef.parse("production/flight-delay-keyed")
GATES = "production.gates"
AS_OF = datetime(2013, 5, 1, tzinfo=UTC)
#: Flights that the repository knows, and those of them that are loaded into its online store.
KNOWN: Window = (datetime(2013, 4, 1, tzinfo=UTC), AS_OF)
ONLINE: Window = (AS_OF - timedelta(days=3), AS_OF)


@dataclass
class KeyedStory:
    """:param repository: folder of the Feast repository that stack and plane read."""

    scene: Scene
    repository: Path

    def planted_skew(self) -> None:
        expected = "features served differ from those trained on: refused by name, nothing serves"
        with self.scene.step("planted skew", expected) as step:
            self._load(planted_skew="time-zone")
            run = self._release()
            gate = next((r for r in self.scene.gate_results(ENDPOINT, "gate") if r["gate"] == "feature-parity"), None)
            named = [name for name in flight_features.FEATURES if gate and f"{name} differs" in gate["reason"]]
            weather = bool(named) and set(named) <= set(flights.WEATHER)
            answer = self._ask(_flight()[0])
            silent = self.scene.state(ENDPOINT).current is None and answer["status"] == 404
            step.ok = (
                run.state == "failed"
                and run.tasks.get(GATES) == "failed"
                and gate is not None
                and gate["verdict"] == "fail"
                and weather
                and silent
            )
            step.observed = (
                f"Dag run {run.state}; {', '.join(named) or 'nothing'} named; a client is answered {answer['status']}"
            )
            step.facts = {"run_id": run.run_id, "gate": gate, "features_named": named}

    def features_from_the_store(self) -> None:
        expected = "loaded again without the skew: released, and asked by flight_id alone"
        with self.scene.step("features from the store", expected) as step:
            self._load()
            run = self._release()
            current = self.scene.state(ENDPOINT).current
            flight, temperature = _flight()
            answer = self._ask(flight)
            looked_up = self._logged(current.id, flight) if current else None
            step.ok = (
                run.state == "success"
                and current is not None
                and current.feature_digest is not None
                and answer["status"] == 200
                and answer["release"] == current.id
                and looked_up is not None
                and looked_up.inputs.get("temp") == temperature
            )
            by = answer["release"] or "nobody"
            step.observed = f"Dag run {run.state}; flight_id={flight} is answered {answer['status']} by {by}"
            step.facts = {
                "run_id": run.run_id,
                "asked": flight,
                "answer": answer["body"],
                "looked_up": looked_up.to_json() if looked_up else None,
            }

    def _load(self, *, planted_skew: Skew | None = None) -> None:
        flight_features.bring_online(self.repository, [ONLINE], planted_skew=planted_skew)
        self.scene.say(f"    loaded           online store{' with the time zone wrong' if planted_skew else ''}")

    def _release(self) -> Run:
        return self.scene.follow(DAG_ID, conf={"as_of": AS_OF.isoformat()})

    def _ask(self, flight: str) -> dict[str, Any]:
        """``status``, ``release`` and ``body`` of the answer to a client who knows nothing but the flight."""
        asked = {"dataframe_records": [{flight_features.ENTITY: flight}]}
        answer = self.scene.clients.post(f"/endpoints/{ENDPOINT}/invocations", json=asked)
        return {
            "status": answer.status_code,
            "release": answer.headers.get(RELEASE_HEADER, ""),
            "body": answer.text[:300],
        }

    def _logged(self, release_id: str, flight: str) -> Prediction | None:
        """What the prediction log holds of the request, once it has been written."""
        predictions: list[Prediction] = []

        def look() -> bool:
            now = datetime.now(UTC)
            sample = self.scene.platform.plane.predictions(
                ENDPOINT, release_id, since=now - timedelta(minutes=5), until=now, limit=100
            )
            predictions[:] = [row for row in sample.rows if row.keys == {flight_features.ENTITY: flight}]
            return bool(predictions)

        return predictions[-1] if self.scene.wait_for(look) else None


def _flight() -> tuple[str, float]:
    """One of the flights that are online, and the temperature (°F) that was measured an hour before it left."""
    observed = flights.weather().dropna(subset=["temp"]).set_index(["origin", flights.TIME_COLUMN])["temp"]
    for row in flights.load(*ONLINE).itertuples():
        temperature = observed.get((row.origin, row.time_hour - timedelta(hours=1)))
        if temperature is not None:
            return str(row.flight_id), float(temperature)
    raise LookupError(f"no flight between {ONLINE[0]} and {ONLINE[1]} has its weather")
