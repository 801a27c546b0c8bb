"""The parity gate: what is served must be what training would have seen at the same moment, or nobody gets it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.errors import FeatureStoreUnavailable, PlaneUnavailable
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.predictions import Prediction, PredictionSample
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.evidence import feature_parity
from airflow_provider_mlpipex.services.rollout import opening, promote, watch
from airflow_provider_mlpipex.services.rollout.trial import start_shadow
from airflow_provider_mlpipex.services.training.register import register_model
from airflow_provider_mlpipex.services.training.snapshots import snapshot_dataset
from airflow_provider_mlpipex.services.training.train import train_model
from airflow_provider_mlpipex.testing.features import EVENT, MemoryFeatures
from airflow_provider_mlpipex.testing.platform import MemoryPlatform
from tests.support.factories import make_model
from tests.support.flights_store import AS_OF, FLIGHTS, START, STEP, manifest, platform, weather

ENDPOINT = EndpointRef.parse("production/wind-delay")
ROWS = 100
HOUR = timedelta(hours=1)
PARITY = {"parity": {"min_equal": "99%", "rows": ROWS}}


def release_of(world: MemoryPlatform, of: Manifest) -> Release:
    snapshot, _ = snapshot_dataset(of, AS_OF, store=world.snapshots, validator=world.validator, features=world.features)
    record = train_model(
        of,
        snapshot,
        store=world.snapshots,
        validator=world.validator,
        registry=world.registry,
        code_version="0123abcd",
    )
    model = register_model(of, record, registry=world.registry).model
    return opening.make_release(world, of, model, manifest_dir=Path())


@dataclass
class Life:
    """An endpoint before its first release under ``of``."""

    world: MemoryPlatform
    of: Manifest
    release: Release

    def judge(self, **changes: Any) -> GateResult:
        found = feature_parity.judge(replace(self.world, **changes), self.of, endpoint=ENDPOINT, release=self.release)
        assert len(found) == 1
        return found[0]

    def skew(self, *numbers: int) -> None:
        """Spoil one online feature of these flights."""
        for n in numbers:
            record = {"flight": f"F{n}", EVENT: START + n * STEP - HOUR, "wind": 99.0, "gusts": n % 7}
            self.world.features.put_online("weather", record)


@pytest.fixture
def life() -> Life:
    world, of = platform(), manifest(PARITY)
    return Life(world, of, release_of(world, of))


NEWEST = range(FLIGHTS - ROWS, FLIGHTS)


def test_parity_holds_where_online_and_offline_agree(life: Life) -> None:
    judged = life.judge()
    assert (judged.gate, judged.verdict, judged.evidence.value) == ("feature-parity", "pass", 1.0)
    assert (judged.evidence.key, judged.evidence.samples) == ("parity.equality", ROWS)


def test_without_a_demand_nothing_is_measured(life: Life) -> None:
    assert feature_parity.judge(life.world, manifest(), endpoint=ENDPOINT, release=life.release) == ()


def test_the_share_of_equal_rows_decides(life: Life) -> None:
    life.skew(NEWEST[5])
    assert (life.judge().verdict, life.judge().evidence.value) == ("pass", 0.99)
    life.skew(NEWEST[7])
    assert (life.judge().verdict, life.judge().evidence.value) == ("fail", 0.98)


def test_a_skew_refuses_the_release_and_names_feature_and_rows(life: Life) -> None:
    life.skew(*NEWEST)
    check = opening.check_offline_gates(
        life.world, endpoint=ENDPOINT, rollout_id="run-1", release=life.release, manifest=life.of
    )
    assert check.verdict == "fail"
    reason = check.results[-1].reason
    assert "wind differs in 100 of 100 rows (flight=F599 as of 2026-03-01T01:00:00+0000: served 99.0" in reason
    assert "gusts" not in reason
    state = journal.load(life.world, ENDPOINT)
    outcome = state.results["run-1"]
    assert (outcome.ending, state.current, life.world.plane.applied) == ("rejected", None, [])
    assert "wind differs" in outcome.cause


def test_the_offline_gate_must_have_spoken_before_promotion(life: Life) -> None:
    """A manifest whose only offline gate is parity has an offline gate."""
    state = journal.load(life.world, ENDPOINT)
    assert opening.policy_of(state, life.of, make_model()).offline_gates
    assert not opening.policy_of(state, manifest(), make_model()).offline_gates


def test_entities_that_the_online_store_does_not_know_cannot_decide(life: Life) -> None:
    empty = MemoryFeatures()
    empty.define(weather(), flights_v1=["weather"])
    judged = life.judge(features=empty)
    assert (judged.verdict, judged.evidence.samples) == ("inconclusive", 0)
    assert "400 unknown" in judged.reason and "materialise it" in judged.reason


def test_too_few_rows_cannot_decide(life: Life) -> None:
    few = life.of.model_copy(update={"features": manifest({"parity": {"min_equal": "99%", "rows": 700}}).features})
    judged = feature_parity.judge(life.world, few, endpoint=ENDPOINT, release=life.release)[0]
    assert (judged.verdict, judged.evidence.samples) == ("inconclusive", FLIGHTS)


@pytest.mark.parametrize("port", ["historical", "online"])
def test_a_store_that_breaks_is_an_error_not_a_pass(life: Life, monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise FeatureStoreUnavailable("feature store", value="locked")

    monkeypatch.setattr(life.world.features, port, away)
    judged = life.judge()
    assert judged.verdict == "error"
    assert "locked" in judged.reason


# Rows of the prediction log.


class Logged:
    """The plane, with a prediction log that a test writes."""

    def __init__(self, plane: Any, rows: Sequence[Prediction]) -> None:
        self.plane, self.rows = plane, rows
        self.asked: list[tuple[str, datetime, datetime, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plane, name)

    def predictions(
        self, endpoint: EndpointRef, release_id: str, *, since: datetime, until: datetime, limit: int
    ) -> PredictionSample:
        self.asked.append((release_id, since, until, limit))
        if self.rows is None:
            raise PlaneUnavailable("plane", value="away")
        rows = tuple(row for row in self.rows if since <= row.at <= until)
        return PredictionSample(release=release_id, since=since, until=until, rows=rows[:limit], total=len(rows))


def logged(n: int, at: datetime, wind: float, *, keys: bool = True, **more: Any) -> Prediction:
    looked_up: dict[str, Any] = {"keys": {"flight": f"F{n}"}, "looked_up_at": at} if keys else {}
    return Prediction(
        **{"request_id": f"r{n}", "at": at, "inputs": {"wind": wind, "gusts": n % 7}, **looked_up, **more}
    )


@pytest.fixture
def serving(life: Life) -> Life:
    """The same release is current, and a candidate of the same features follows."""
    opening.check_offline_gates(
        life.world, endpoint=ENDPOINT, rollout_id="run-1", release=life.release, manifest=life.of
    )
    promote.promote(life.world, endpoint=ENDPOINT, rollout_id="run-1", timeout_s=1)
    assert journal.load(life.world, ENDPOINT).current == life.release
    return life


def log_of(make: Callable[[int], Prediction], count: int = ROWS) -> list[Prediction]:
    return [make(n) for n in range(FLIGHTS - count, FLIGHTS)]


def right(n: int) -> float:
    return float(n % 3 == 0) + n / FLIGHTS


def test_served_rows_are_recomputed_as_of_their_own_instant(serving: Life) -> None:
    """Ninety minutes before its departure a flight was served the forecast of two hours before it: that was right."""
    now = serving.world.clock.now()
    rows = log_of(lambda n: logged(n, START + n * STEP - 1.5 * HOUR, 50.0), count=ROWS)
    recent = [row for row in rows if now - row.at <= feature_parity.LOOK_BACK]
    plane = Logged(serving.world.plane, rows)
    judged = serving.judge(plane=plane)
    assert (judged.verdict, judged.evidence.value) == ("pass", 1.0)
    assert plane.asked[0][:3] == (serving.release.id, now - feature_parity.LOOK_BACK, now)
    assert 0 < len(recent) < ROWS, "the rest was looked up online"
    assert judged.evidence.since == min(row.at for row in recent)


def test_served_rows_that_differ_fail_and_name_their_requests(serving: Life) -> None:
    at = serving.world.clock.now() - HOUR
    plane = Logged(serving.world.plane, log_of(lambda n: logged(n, at, right(n) + (n % 2))))
    judged = serving.judge(plane=plane)
    assert (judged.verdict, judged.evidence.value) == ("fail", 0.5)
    assert "wind differs in 50 of 100 rows (flight=F501" in judged.reason
    assert "request r501" in judged.reason


def test_rows_that_the_offline_path_drops_are_unequal(serving: Life) -> None:
    """As of before any feature was known: the server's clock is wrong, or the features came later by a backfill."""
    at = START - 9 * HOUR
    serving.world.clock.advance((at + HOUR - serving.world.clock.now()).total_seconds())
    plane = Logged(serving.world.plane, log_of(lambda n: logged(n, at, right(n))))
    judged = serving.judge(plane=plane)
    assert (judged.verdict, judged.evidence.value, judged.evidence.samples) == ("fail", 0.0, ROWS)
    assert "100 rows have no value offline by the moment they were served (flight=F500" in judged.reason
    assert "clocks that differ" in judged.reason


def test_missing_equals_missing_only(serving: Life) -> None:
    at = serving.world.clock.now() - HOUR
    plane = Logged(serving.world.plane, log_of(lambda n: logged(n, at, 0.0, inputs={"wind": None, "gusts": n % 7})))
    judged = serving.judge(plane=plane)
    assert judged.evidence.value == 0.0
    assert "served None, offline" in judged.reason


def test_requests_that_carried_their_features_prove_nothing(serving: Life) -> None:
    at = serving.world.clock.now() - HOUR
    plane = Logged(serving.world.plane, log_of(lambda n: logged(n, at, 99.0, keys=False)))
    judged = serving.judge(plane=plane)
    assert (judged.verdict, judged.evidence.samples) == ("pass", ROWS), "looked up online instead"


def test_rows_without_a_column_of_the_candidate_prove_nothing(serving: Life) -> None:
    at = serving.world.clock.now() - HOUR
    plane = Logged(serving.world.plane, log_of(lambda n: logged(n, at, 0.0, inputs={"gusts": 99})))
    assert serving.judge(plane=plane).verdict == "pass"


def test_rows_of_another_definition_prove_nothing(serving: Life) -> None:
    at = serving.world.clock.now() - HOUR
    plane = Logged(serving.world.plane, log_of(lambda n: logged(n, at, 99.0)))
    serving.world.features.define(weather(ttl=timedelta(days=60)))
    serving.release = release_of(serving.world, serving.of)
    assert serving.judge(plane=plane).verdict == "pass"
    assert plane.asked == []


def test_a_plane_that_is_away_is_an_error(serving: Life) -> None:
    judged = serving.judge(plane=Logged(serving.world.plane, None))  # type: ignore[arg-type]
    assert judged.verdict == "error"


def test_one_released_with_parity_passes_the_whole_gate(life: Life) -> None:
    check = opening.check_offline_gates(
        life.world, endpoint=ENDPOINT, rollout_id="run-1", release=life.release, manifest=life.of
    )
    assert (check.verdict, [result.gate for result in check.results]) == ("pass", ["feature-parity"])


# At the end of a trial: what the candidate itself has looked up.

SHADOW = {
    "production": {
        "shadow": {
            "fraction": "50%",
            "duration": "10m",
            "gates": [{"name": "e", "metric": "shadow.error_rate", "max": "1%"}],
        }
    }
}


@dataclass
class Trial:
    """A candidate in shadow, whose mirrored requests have come and gone; its log is what a test writes."""

    life: Life
    of: Manifest
    candidate: Release
    since: datetime

    def look(self, rows: Sequence[Prediction] | None) -> watch.WatchResult:
        plane = Logged(self.life.world.plane, rows)  # type: ignore[arg-type]
        platform = replace(self.life.world, plane=plane)
        return watch.look(platform, endpoint=ENDPOINT, rollout_id="run-2", stage="shadow")


@pytest.fixture
def trial(serving: Life) -> Trial:
    world = serving.world
    raw = {**serving.of.to_json(), "environments": SHADOW}
    raw["training"]["parameters"] = {"C": 2.0}
    of = Manifest.model_validate(raw)
    candidate = release_of(world, of)
    platform_ = replace(world, plane=Logged(world.plane, ()))
    check = opening.check_offline_gates(
        platform_, endpoint=ENDPOINT, rollout_id="run-2", release=candidate, manifest=of
    )
    assert check.verdict == "pass"
    start_shadow(platform_, endpoint=ENDPOINT, rollout_id="run-2", timeout_s=1)
    since = world.clock.now()
    for _ in range(13):
        world.clock.advance(50)
        world.plane.renew(ENDPOINT, world.plane.plan_in_force(ENDPOINT).id)  # type: ignore[union-attr]
    for release in (candidate, serving.release):
        world.plane.serve(ENDPOINT, release.id, requests=500)
    world.plane.answer_pairs(ENDPOINT, primary=serving.release.id, shadow=candidate.id, pairs=100)
    world.clock.advance(2)
    return Trial(serving, of, candidate, since)


def test_a_shadow_passes_where_the_candidate_looked_up_what_training_saw(trial: Trial) -> None:
    at = trial.since + timedelta(minutes=1)
    seen = trial.look(log_of(lambda n: logged(n, at, right(n)), count=20))
    assert seen.status == "passed", seen
    judged = [result for result in seen.results if result.gate == "feature-parity"]
    assert [(result.verdict, result.evidence.samples) for result in judged] == [("pass", 20)]


def test_a_shadow_whose_features_were_skewed_is_taken_back(trial: Trial) -> None:
    at = trial.since + timedelta(minutes=1)
    seen = trial.look(log_of(lambda n: logged(n, at, 99.0), count=20))
    assert (seen.status, seen.verdict) == ("ended", "fail")
    assert "wind differs in 20 of 20 rows" in seen.cause
    assert journal.load(trial.life.world, ENDPOINT).current == trial.life.release


def test_requests_with_their_own_features_end_a_shadow_without_a_word_on_parity(trial: Trial) -> None:
    at = trial.since + timedelta(minutes=1)
    seen = trial.look(log_of(lambda n: logged(n, at, 99.0, keys=False)))
    assert seen.status == "passed"
    assert "feature-parity" not in [result.gate for result in seen.results]


def test_what_was_looked_up_before_the_trial_says_nothing_of_it(trial: Trial) -> None:
    seen = trial.look(log_of(lambda n: logged(n, trial.since - HOUR, 99.0)))
    assert seen.status == "passed"


def test_a_log_that_cannot_be_read_holds_a_shadow_up(trial: Trial) -> None:
    seen = trial.look(None)
    assert (seen.status, seen.verdict) == ("watching", "error")
