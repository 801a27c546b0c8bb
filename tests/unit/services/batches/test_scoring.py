"""Scoring a table through an endpoint: what is sent, what is kept, and what a failure leaves behind."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from airflow_provider_mlpipex.adapters.files.answers import AnswerFile
from airflow_provider_mlpipex.domain.errors import (
    BatchRefused,
    BatchUnanswered,
    DataQualityFailed,
    IllegalTransition,
    InvalidName,
    NotAuthorised,
    SignatureMismatch,
)
from airflow_provider_mlpipex.domain.release.release import ModelVersion
from airflow_provider_mlpipex.domain.rollout.events import BatchServed, Origin, Promoted, RolloutOpened
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.batches.origin import batches_of
from airflow_provider_mlpipex.services.batches.scoring import PAUSES_S, ScoredBatch, score_batch
from airflow_provider_mlpipex.testing.platform import MemoryPlatform
from tests.support.factories import make_policy, make_release
from tests.support.manifests import MANIFEST, make_manifest
from tests.support.rollouts import ENDPOINT, World, make_candidate

LIVE_STAGES = (MANIFEST[MANIFEST.index("    shadow:") : MANIFEST.index("    alerts:")], "")
BATCH = "nightly/2026-03-01"
INPUTS = '[{"name": "amount", "type": "double"}, {"name": "country", "type": "string", "required": false}]'


class Scoring:
    """A batch on its way to an endpoint whose current model takes ``amount`` and, if it likes, ``country``."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.output = folder / "scores" / "2026-03-01.parquet"
        self.takes(INPUTS)
        self.paused: list[float] = []

    def takes(self, inputs: str) -> None:
        """A first release whose model has these inputs is current."""

        def model(version: str, **changes: Any) -> ModelVersion:
            return make_candidate(version, **changes).model_copy(update={"signature": {"inputs": inputs}})

        self.monkeypatch.setattr("tests.support.rollouts.make_candidate", model)
        self.world = World(LIVE_STAGES)
        self.release = self.world.first_release().id
        self.predictor = self.world.memory.predictor

    def score(self, rows: pd.DataFrame, *, batch: str = BATCH, chunk_rows: int = 2, try_number: int = 1) -> ScoredBatch:
        origin = Origin(kind="task", dag_id="nightly", run_id="2026-03-01", task_id="score", try_number=try_number)
        return score_batch(
            self.world.platform.acting_as(origin),
            ENDPOINT,
            rows,
            batch=batch,
            chunk_rows=chunk_rows,
            answers=AnswerFile(self.output),
            pause=self.paused.append,
        )

    @property
    def platform(self) -> MemoryPlatform:
        return self.world.memory

    @property
    def ids(self) -> list[str]:
        return [request.request_id for request in self.predictor.sent]

    @property
    def answered_ids(self) -> list[str]:
        """What the plane called the requests: only that can be joined to a label."""
        return [self.predictor.named_by_the_plane(own) for own in self.ids]

    def files(self) -> list[str]:
        folder = self.output.parent
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scoring:
    return Scoring(tmp_path, monkeypatch)


def table(rows: int = 5) -> pd.DataFrame:
    return pd.DataFrame({"id": [f"p{n}" for n in range(rows)], "amount": [n + 0.5 for n in range(rows)]})


def test_rows_go_in_chunks_and_their_answers_stand_beside_them(scoring: Scoring) -> None:
    scored = scoring.score(table().set_index(pd.Index(range(10, 15))))
    assert [[list(row) for row in request.rows] for request in scoring.predictor.sent] == [
        [[0.5], [1.5]],
        [[2.5], [3.5]],
        [[4.5]],
    ]
    assert {(request.batch, tuple(request.columns)) for request in scoring.predictor.sent} == {(BATCH, ("amount",))}
    assert (scored.rows, scored.resumed, scored.answered) == (5, 0, {scoring.release: 5})
    kept = pd.read_parquet(scored.output)
    spread = [scoring.answered_ids[row // 2] for row in range(5)]
    expected = table().assign(prediction=table()["amount"], release=scoring.release, request_id=spread)
    pd.testing.assert_frame_equal(kept, expected, check_dtype=False)
    assert scoring.files() == [scoring.output.name]


def test_the_ledger_knows_who_sent_it_and_what_was_in_it(scoring: Scoring) -> None:
    scored = scoring.score(table())
    assert len(scoring.world.events(BatchServed)) == 1
    facts = batches_of(scoring.platform, ENDPOINT, [BATCH])[BATCH]
    assert (facts.dag_id, facts.run_id, facts.task_id, facts.try_number) == ("nightly", "2026-03-01", "score", 1)
    assert (facts.rows, facts.digest, facts.answered) == (5, scored.digest, {scoring.release: 5})
    assert scored.digest == scoring.platform.snapshots.digest(table(), name="the same rows")


def test_only_the_inputs_of_the_model_are_sent_in_its_order(scoring: Scoring) -> None:
    scoring.score(table(1).assign(country="DE")[["country", "id", "amount"]])
    (request,) = scoring.predictor.sent
    assert (list(request.columns), [list(row) for row in request.rows]) == (["amount", "country"], [[0.5, "DE"]])


def test_values_travel_as_json_says_them(scoring: Scoring) -> None:
    kinds = {"amount": "double", "country": "string", "paid": "long"} | dict.fromkeys(("at", "seen", "day"), "datetime")
    scoring.takes(json.dumps([{"name": name, "type": kind} for name, kind in kinds.items()]))
    rows = pd.DataFrame(
        {
            "amount": [1.0, math.nan],
            "country": ["DE", None],
            "paid": [1, 2],
            "at": [pd.Timestamp("2026-03-01T12:00"), pd.NaT],
            "seen": [datetime(2026, 3, 1, 12, tzinfo=UTC), pd.NaT],
            "day": [date(2026, 3, 1), None],
        }
    )
    scoring.score(rows)
    (request,) = scoring.predictor.sent
    assert [list(row) for row in request.rows] == [
        [1.0, "DE", 1, "2026-03-01T12:00:00", "2026-03-01T12:00:00+00:00", "2026-03-01"],
        [None, None, 2, None, None, None],
    ]
    assert type(request.rows[0][2]) is int


def test_answers_of_several_outputs_and_without_a_number_are_kept(scoring: Scoring) -> None:
    answers = iter([[0.1, 0.9], [math.nan, 1.0]])
    scoring.predictor.answers = lambda row: next(answers)
    kept = pd.read_parquet(scoring.score(table(2)).output)["prediction"].tolist()
    assert (list(kept[0]), math.isnan(kept[1][0]), kept[1][1]) == ([0.1, 0.9], True, 1.0)


def test_rows_that_bring_only_entities_are_sent_as_such_to_a_release_with_a_feature_service(scoring: Scoring) -> None:
    service = "columns: [amount, country]\n  service: payments\n  entities: [account]"
    manifest = make_manifest(("columns: [amount, country]", service))
    model = make_candidate("1.0.0").model_copy(update={"signature": {"inputs": INPUTS}})
    release = make_release().model_copy(
        update={"model": model, "feature_service": "payments", "feature_digest": digest_of("payments")}
    )
    scoring.world = World()
    platform, plane = scoring.world.memory, scoring.world.memory.plane
    plane.ensure(ENDPOINT, release, timeout_s=1)
    plane.apply(TrafficPlan(endpoint=ENDPOINT, current=release.id))
    opened = RolloutOpened(rollout_id="run-1", release=release, policy=make_policy(), manifest=manifest.to_json())
    journal.note(platform, ENDPOINT, opened)
    journal.note(platform, ENDPOINT, Promoted(rollout_id="run-1", watch_until=platform.clock.now()))
    accounts = pd.DataFrame({"account": ["a", "b"], "id": [1, 2]})
    assert scoring.score(accounts).rows == 2
    assert [list(request.columns) for request in platform.predictor.sent] == [["account"]]
    scoring.score(table(1).assign(account="a"), batch="with its features")
    assert list(platform.predictor.sent[-1].columns) == ["amount"]
    with pytest.raises(DataQualityFailed, match="or its entities: account"):
        scoring.score(accounts.drop(columns="account"))


# What fails.


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_a_chunk_that_fails_is_sent_again_with_growing_pauses(scoring: Scoring, status: int) -> None:
    scoring.predictor.trouble = [status, status]
    assert scoring.score(table(2)).answered == {scoring.release: 2}
    assert scoring.paused == list(PAUSES_S[:2])
    assert len(set(scoring.ids)) == 3


def test_a_chunk_that_fails_for_good_is_named_with_status_and_endpoint(scoring: Scoring) -> None:
    scoring.predictor.trouble = [200, *[503] * (len(PAUSES_S) + 1)]
    with pytest.raises(BatchUnanswered) as failed:
        scoring.score(table())
    assert failed.value.thing == f"batch {BATCH} of {ENDPOINT}, chunk 2 of 3"
    assert "HTTP 503" in str(failed.value.value)
    assert failed.value.transient
    assert scoring.paused == list(PAUSES_S)
    assert batches_of(scoring.platform, ENDPOINT, [BATCH])[BATCH].answered == {scoring.release: 2}
    assert not scoring.output.exists()


@pytest.mark.parametrize(("status", "error"), [(400, BatchRefused), (404, BatchRefused), (403, NotAuthorised)])
def test_a_refused_chunk_fails_at_once(scoring: Scoring, status: int, error: type[Exception]) -> None:
    scoring.predictor.trouble = [status]
    with pytest.raises(error, match=f"chunk 1 of 3.*HTTP {status}"):
        scoring.score(table())
    assert (len(scoring.predictor.sent), scoring.paused) == (1, [])
    assert batches_of(scoring.platform, ENDPOINT, [BATCH]) == {}


def test_answers_that_are_not_one_a_row_are_refused(scoring: Scoring, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scoring.predictor.predict
    monkeypatch.setattr(scoring.predictor, "predict", lambda request: replace(whole(request), predictions=[0.1]))
    with pytest.raises(BatchRefused, match="1 predictions by .* one for each of 2 rows"):
        scoring.score(table())
    assert scoring.world.events(BatchServed) == []


# Tries.


def test_the_next_try_goes_on_after_what_was_answered(scoring: Scoring) -> None:
    scoring.predictor.trouble = [200, 400]
    with pytest.raises(BatchRefused):
        scoring.score(table())
    first = scoring.answered_ids[0]
    del scoring.predictor.sent[:]
    scored = scoring.score(table(), try_number=2)
    assert (scored.resumed, scored.answered, len(scoring.ids)) == (2, {scoring.release: 5}, 2)
    kept = pd.read_parquet(scored.output)
    assert kept["prediction"].tolist() == table()["amount"].tolist()
    second, third = scoring.answered_ids
    assert kept["request_id"].tolist() == [first, first, second, second, third]
    assert scoring.files() == [scoring.output.name]
    assert batches_of(scoring.platform, ENDPOINT, [BATCH])[BATCH].try_number == 2


def test_a_line_that_a_killed_task_left_torn_is_asked_for_again(scoring: Scoring) -> None:
    scoring.predictor.trouble = [200, 200, 400]
    with pytest.raises(BatchRefused):
        scoring.score(table())
    (left,) = scoring.output.parent.iterdir()
    whole = left.read_text(encoding="utf-8")
    left.write_text(whole[: whole.rindex("predictions")], encoding="utf-8")
    scoring.predictor.trouble = [200, 400]
    with pytest.raises(BatchRefused):
        scoring.score(table(), try_number=2)
    scored = scoring.score(table(), try_number=3)
    assert (scored.resumed, scored.answered) == (4, {scoring.release: 5})


@pytest.mark.parametrize("change", ["rows", "chunk_rows", "batch"])
def test_answers_to_other_rows_chunks_or_batches_are_not_taken(scoring: Scoring, change: str) -> None:
    scoring.predictor.trouble = [200, 400]
    with pytest.raises(BatchRefused):
        scoring.score(table())
    rows = table().assign(amount=9.5) if change == "rows" else table()
    batch, chunk_rows = "other" if change == "batch" else BATCH, 3 if change == "chunk_rows" else 2
    scored = scoring.score(rows, try_number=2, batch=batch, chunk_rows=chunk_rows)
    assert scored.resumed == 0
    assert pd.read_parquet(scored.output)["prediction"].tolist() == rows["amount"].tolist()
    assert scoring.files() == [scoring.output.name]


def test_rows_that_are_sent_again_are_the_same_batch_under_ids_that_say_so(scoring: Scoring) -> None:
    scoring.score(table(2))
    scoring.score(table(2), try_number=2)
    first, second = scoring.ids
    assert first != second
    assert first.split("-")[:2] == second.split("-")[:2]
    (facts,) = batches_of(scoring.platform, ENDPOINT, [BATCH]).values()
    assert (facts.rows, facts.sent) == (2, 4)


def test_rows_are_counted_as_often_as_they_were_sent(scoring: Scoring) -> None:
    """What the plane counts under the batch's name beyond that is somebody else's."""
    scoring.predictor.trouble = [503, 503, 200, 400]
    with pytest.raises(BatchRefused):
        scoring.score(table())
    assert batches_of(scoring.platform, ENDPOINT, [BATCH])[BATCH].sent == 3 * 2 + 2
    scoring.score(table(), try_number=2)
    assert batches_of(scoring.platform, ENDPOINT, [BATCH])[BATCH].sent == 3 * 2 + 2 + (2 + 3)


def test_another_release_that_answers_the_rest_is_counted_by_itself(scoring: Scoring) -> None:
    scoring.predictor.trouble = [200, 400]
    with pytest.raises(BatchRefused):
        scoring.score(table())
    scoring.world.bring("run-2", "1.1.0", to="promoted")
    second = scoring.world.state.current
    assert second is not None
    scored = scoring.score(table(), try_number=2)
    assert scored.answered == {scoring.release: 2, second.id: 3}
    assert pd.read_parquet(scored.output)["release"].tolist() == [scoring.release] * 2 + [second.id] * 3


# What is refused before anything is sent.


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (table().drop(columns="amount"), "columns amount .*the table has id"),
        (table().assign(prediction=1.0, release="x"), "columns prediction, release"),
        (table().head(0), "at least one row"),
        (table().assign(amount=[1.0, 2.0, math.inf, -math.inf, 5.0]), "column amount .*2 infinite values"),
        (table().assign(amount=[Decimal(1)] * 5), "column amount .*Decimal"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(scoring: Scoring, rows: pd.DataFrame, says: str) -> None:
    with pytest.raises(DataQualityFailed, match=says):
        scoring.score(rows)
    assert scoring.predictor.sent == []


@pytest.mark.parametrize("batch", ["", "x" * 201, "März", " nightly", "a\nb"])
def test_a_batch_that_could_not_travel_in_a_header_is_refused(scoring: Scoring, batch: str) -> None:
    with pytest.raises(InvalidName, match="printable ASCII"):
        scoring.score(table(), batch=batch)
    assert scoring.predictor.sent == []


def test_a_model_without_named_inputs_cannot_score_a_table(scoring: Scoring) -> None:
    scoring.takes('[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]')
    with pytest.raises(SignatureMismatch, match="inputs with names"):
        scoring.score(table())


def test_an_endpoint_without_a_release_scores_nothing(scoring: Scoring) -> None:
    scoring.world = World(LIVE_STAGES)
    with pytest.raises(IllegalTransition, match="a current release"):
        scoring.score(table())
