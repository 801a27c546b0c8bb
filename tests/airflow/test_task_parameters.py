"""No parameter without effect: of every operator, sensor, trigger, hook, notifier and piece of a Dag, each is given two
values, and what then happens must differ.

What happens is what somebody outside can see: what the task returns, fails or waits with, entries of the ledger, plans
of the plane, alerts, questions to people. A parameter that is not tried here fails
:func:`test_every_parameter_is_tried`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest
import sqlalchemy as sa
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, BaseNotifier, BaseOperator
from airflow.sdk.definitions.connection import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput, TaskDeferred
from airflow.triggers.base import BaseTrigger

import airflow_provider_mlpipex as provider
from airflow_provider_mlpipex.decorators.gate import GateDecoratedOperator
from airflow_provider_mlpipex.domain.drift.references import Reference
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, MlpipexError, ReleaseNotReady
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Origin
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.services.drift.check import look as look_at_drift
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout.drill import drill
from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform
from airflow_provider_mlpipex.triggers import base, drift, rollout, standing_watch
from tests.airflow.release_run import PRODUCTION, ReleaseRun
from tests.airflow.test_drift import BLOCK, DriftRun
from tests.airflow.test_parameters import own_classes, parameters, public_classes
from tests.support.acme import manifest_text
from tests.support.drifting import reference, send_batch
from tests.support.rollouts import SHADOW_S, STEP_S, Phase, World

#: A release takes so long to get ready in these scenes.
READY_AFTER_S = 30.0
#: Triggers that would look for ever are stopped after so many pauses.
PAUSES = 5
CONNECTION = "ours"
AMOUNT = {"expect": "column_values_to_be_between", "column": "amount", "min_value": 0}


_sleep = asyncio.sleep


class StoppedLooking(Exception):
    """The scene is over: the trigger would go on."""


@dataclass
class Scene:
    """A platform in memory, and what people, databases and clocks around it do."""

    folder: Path
    reference: Reference
    platform: MemoryPlatform = field(default_factory=memory_platform)
    acted_as: list[str] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def manifest(self, *edits: tuple[str, str], name: str = "fraud.yaml") -> Path:
        path = self.folder / name
        path.write_text(manifest_text(*edits), encoding="utf-8")
        return path

    @cached_property
    def first(self) -> ReleaseRun:
        """A run that has not begun, on an endpoint without any release: for what reads files, trains and registers."""
        return ReleaseRun(self.platform, self.manifest())

    @cached_property
    def world(self) -> World:
        """An endpoint with a current release."""
        world = World(memory=self.platform)
        world.first_release()
        return world

    def brought(self, to: Phase) -> World:
        """A second release on its way."""
        self.world.bring("run-2", "1.1.0", to=to)
        return self.world

    @cached_property
    def drifting(self) -> World:
        """An endpoint whose second batch has drifted from what its release was trained on."""
        world = World(BLOCK, memory=self.platform)
        release = world.first_release().id
        self.platform.plane.know_reference(release, self.reference)
        world.clock.advance(3600)
        for batch, shifted in (("monday", {}), ("tuesday", {"amount": 30.0})):
            send_batch(world.memory, PRODUCTION, release, batch, shifted=shifted)
            world.clock.advance(60)
        return world

    @cached_property
    def labelled(self) -> World:
        """The current release has answered 1 to the requests a, b and c."""
        assert self.world.state.current is not None
        release = self.world.state.current.id
        for rid in "abc":
            self.platform.plane.answer(PRODUCTION, rid, {release: 0.9}, labels={release: "1"})
        return self.world

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) > PAUSES:
            raise StoppedLooking
        await _sleep(0)
        self.platform.clock.advance(seconds)

    def hand_out(self, hook: MlpipexHook, origin: Origin) -> Platform:
        if hook.mlpipex_conn_id not in (CONNECTION, MlpipexHook.default_conn_name):
            raise ConfigurationInvalid("connection", value="unknown", limit="a connection", remedy="name another")
        self.acted_as.append(f"{origin.kind} {origin.dag_id}/{origin.task_id}")
        return self.platform.acting_as(origin)

    async def hand_out_async(self, hook: MlpipexHook, origin: Origin) -> Platform:
        return self.hand_out(hook, origin)

    # What somebody sees.

    def visible(self) -> dict[str, Any]:
        entries = [
            (str(endpoint), entry.event.model_dump(mode="json"), entry.origin.task_id)
            for endpoint in sorted({*self.platform.ledger.endpoints(), PRODUCTION, ORDERS}, key=str)
            for entry in [*self.platform.ledger.read(endpoint), *self.platform.ledger.records(endpoint)]
        ]
        return {
            "entries": entries,
            "plans": [(plan.weights, plan.lease_s) for plan in self.platform.plane.applied],
            "labels": sorted(map(str, self.platform.outcomes.labels(PRODUCTION, limit=10))),
            "alerts": [(sent.channel, sent.title, sent.severity) for sent in self.platform.alerter.sent],
            "questions": [(each["options"], each["body"]) for each in self.questions],
        }


ORDERS = EndpointRef.parse("production/orders")


@pytest.fixture(scope="module")
def trained() -> Reference:
    return reference()


@contextmanager
def scene(folder: Path, trained: Reference) -> Iterator[Scene]:
    folder.mkdir(parents=True, exist_ok=True)
    made = Scene(folder, trained)
    plane = type(made.platform.plane)
    original = plane.ensure

    def ensure(self: Any, endpoint: EndpointRef, release: Any, *, timeout_s: float) -> Any:
        if 1 < timeout_s < READY_AFTER_S:  # who prepares a scene says 1
            raise ReleaseNotReady(f"release {release.id}", value="loading", limit="its time", remedy="wait longer")
        return original(self, endpoint, release, timeout_s=timeout_s)

    with (
        patch.object(MlpipexHook, "platform", lambda hook, origin: made.hand_out(hook, origin)),
        patch.object(MlpipexHook, "platform_async", lambda hook, origin: made.hand_out_async(hook, origin)),
        patch.object(plane, "ensure", ensure),
        patch.dict(drill.__kwdefaults__, wait=made.platform.clock.advance),
        patch.object(base, "SETTLE_S", 0.0),
        patch(
            "airflow.providers.standard.operators.hitl.upsert_hitl_detail",
            lambda **question: made.questions.append(question),
        ),
    ):
        yield made


def run_task(made: Scene, task: BaseOperator, run_id: str = "run-2") -> dict[str, Any]:
    """What a task comes to: it returns, fails, is skipped, waits for a trigger, or for a person."""
    own = DriftRun(task_id=task.task_id, run_id=run_id, dag_id="release__fraud_scorer")
    try:
        how: dict[str, Any] = {"returned": task.execute(own.context)}
    except AirflowFailException as error:
        how = {"failed": str(error)}
    except AirflowSkipException as error:
        how = {"skipped": str(error)}
    except TaskDeferred as deferred:
        how = {"deferred": deferred.trigger.serialize(), "timeout": str(deferred.timeout)}
    except TaskAwaitingInput as waiting:
        how = {"waits for a person": str(waiting.timeout)}
    except MlpipexError as error:
        how = {"to be retried": str(error)}
    return {**how, "xcoms": own.xcoms, "assets": own.announced}


def run_trigger(made: Scene, trigger: BaseTrigger) -> dict[str, Any]:
    async def events() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    time = SimpleNamespace(monotonic=lambda: made.platform.clock.now().timestamp())
    with ExitStack() as stack:
        stack.enter_context(patch.object(asyncio, "sleep", made.sleep))
        for module in (base, drift, rollout, standing_watch):
            stack.enter_context(patch.object(module, "time", time))
        try:
            how: dict[str, Any] = {"said": asyncio.run(events())}
        except StoppedLooking:
            how = {"goes on": True}
        except MlpipexError as error:
            how = {"failed": str(error)}
    return {**how, "pauses": made.pauses[:PAUSES], "acted as": made.acted_as[-1:]}


def run_notifier(made: Scene, notifier: Any) -> dict[str, Any]:
    async def notify() -> None:
        await notifier

    notifier.context = notifier.context or {}
    try:
        asyncio.run(notify())
    except MlpipexError as error:
        return {"failed": str(error)}
    return {"behind": [each.heard for each in notifier.behind]}


def drawn(dag: DAG) -> dict[str, Any]:
    """The tasks of a Dag, what comes before each, and what each was made with."""
    tasks: dict[str, Any] = {}
    for task in dag.tasks:
        kept = {name: str(getattr(task, name, "")) for name in ("as_of", "manifest", "mlpipex_conn_id", "endpoint")}
        tasks[task.task_id] = (type(task).__name__, sorted(task.upstream_task_ids), kept)
    return tasks


#: Fields that are another in every scene, whatever is tried.
_VOLATILE = frozenset(
    {
        "artifact_digest",
        "artifact_uri",
        "duration_s",
        "fingerprint",
        "page",
        "plan",
        "plan_id",
        "report",
        "run_id",
        "seconds",
        "took_s",
        "trace_id",
    }
)


#: Digests of models, which hold such ids; heads of a chain; pages of Great Expectations.
_DIGESTS = re.compile(
    r"(?<=-rt1\.0\.0-)[0-9a-f]{8}|(?<=:)[0-9a-f]{64}|(?<=[(])[0-9a-f]{12}(?=[)])"
    r"|[-\d]{10}/\d{6}\.\d+Z-(?=passed|failed)"
)
_PAGES = re.compile(r"(?<=passed-|failed-)[0-9a-f]{8}")


def steady(value: Any) -> Any:
    """``value`` without the fields that differ by themselves."""
    if isinstance(value, Mapping):
        return {name: steady(part) for name, part in value.items() if name not in _VOLATILE}
    return [steady(part) for part in value] if isinstance(value, list | tuple) else value


def outcome(make: Callable[[Scene], Any], made: Scene) -> str:
    """Everything that can be seen of what ``make`` gives, as text that two scenes can be compared by."""
    try:
        thing = make(made)
    except MlpipexError as error:
        thing = {"refused when it is made": str(error)}
    if isinstance(thing, BaseOperator):
        thing = run_task(made, thing)
    elif isinstance(thing, BaseTrigger):
        thing = run_trigger(made, thing)
    elif isinstance(thing, BaseNotifier):
        thing = run_notifier(made, thing)
    text = json.dumps(steady([thing, made.visible()]), default=str, sort_keys=True)
    return _PAGES.sub("…", _DIGESTS.sub("…", text.replace(str(made.folder), "FOLDER")))


# What is tried: a parameter, how a working task of its class is made, and two values.


@dataclass(frozen=True)
class Probe:
    make: Callable[..., Any]
    given: Callable[[Scene], Mapping[str, Any]]
    values: tuple[Any, Any]


class Of:
    """A value that the scene knows."""

    def __init__(self, of: Callable[[Scene], Any]) -> None:
        self.of = of


PROBES: dict[str, Probe] = {}


def probe(make: Callable[..., Any], given: Callable[[Scene], Mapping[str, Any]], **pairs: tuple[Any, Any]) -> None:
    for name, values in pairs.items():
        label = f"{make.__name__}.{name}"
        assert label not in PROBES
        PROBES[label] = Probe(make, given, values)


def value_of(value: Any, made: Scene) -> Any:
    return value.of(made) if isinstance(value, Of) else value


CONN = {"mlpipex_conn_id": (CONNECTION, "elsewhere")}
WHERE = {"endpoint": (str(PRODUCTION), "production/other"), **CONN}
WHOSE = {"rollout_id": ("run-2", "run-9"), **WHERE}
READY = {"ready_timeout": (READY_AFTER_S, READY_AFTER_S - 1)}


def of_rollout(prepare: Callable[[Scene], Any], **more: Any) -> Callable[[Scene], dict[str, Any]]:
    def given(made: Scene) -> dict[str, Any]:
        prepare(made)
        return {"task_id": "tried", "endpoint": str(PRODUCTION), "rollout_id": "run-2", **more}

    return given


def approved(made: Scene) -> None:
    made.brought("review").decide("run-2")


def shadow_passed(made: Scene) -> None:
    made.brought("shadow").watch("run-2", "shadow", seconds=SHADOW_S + 60)


def all_passed(made: Scene) -> None:
    made.brought("canary-2").watch("run-2", "canary", 2, seconds=STEP_S + 60)


def to(phase: Phase) -> Callable[[Scene], Any]:
    return lambda made: made.brought(phase)


POKE = {"poke_interval": (5.0, 7.0)}
probe(provider.ShadowDeployOperator, of_rollout(approved), **WHOSE, **READY)
probe(provider.ShadowSensor, of_rollout(to("shadow")), **WHOSE, **POKE)
probe(provider.CanaryDeployOperator, of_rollout(shadow_passed, step=0), step=(0, 1), **WHOSE, **READY)
probe(provider.CanarySensor, of_rollout(to("canary-0"), step=0), step=(0, 1), **WHOSE, **POKE)
probe(provider.PromoteModelOperator, of_rollout(all_passed), **WHOSE, **READY)
probe(provider.EndpointHealthSensor, of_rollout(to("watching")), **WHOSE, **POKE)
HOURS = {"response_timeout": (timedelta(hours=1), timedelta(hours=2))}
probe(provider.DeploymentReviewOperator, of_rollout(to("opened")), **WHOSE, **HOURS)


def current(made: Scene) -> str:
    assert made.world.state.current is not None
    return made.world.state.current.id


def taken_back(made: Scene) -> dict[str, Any]:
    made.brought("watching")
    return {"task_id": "tried", "endpoint": str(PRODUCTION)}


probe(
    provider.RollbackOperator,
    taken_back,
    cause=("wrong currency", "wrong country"),
    release=(Of(current), "1.9.0-nobody"),
    hold=(True, False),
    only_open=(True, False),
    **WHERE,
)
probe(provider.RollbackOperator, of_rollout(to("shadow"), only_open=True), rollout_id=("run-2", "run-9"))
probe(
    provider.RollbackConfirmationOperator,
    taken_back,
    cause=("wrong currency", "wrong country"),
    release=("", "1.9.0-nobody"),
    **HOURS,
    **WHERE,
)


def to_drill(made: Scene) -> dict[str, Any]:
    """Two releases, of a manifest that allows drills."""
    made.world = World(("    alerts: {on", "    drills: {allowed: true}\n    alerts: {on"), memory=made.platform)
    made.world.first_release()
    made.brought("promoted")
    return {"task_id": "tried", "endpoint": str(PRODUCTION)}


probe(provider.RollbackDrillOperator, to_drill, reason=("Tuesday", "Friday"), seconds=(5.0, 6.0), **WHERE)


# From data to a model.


def with_manifest(made: Scene, **more: Any) -> dict[str, Any]:
    return {"task_id": "tried", "manifest": str(made.first.manifest), **more}


OTHER_MANIFEST = (
    Of(lambda made: str(made.first.manifest)),
    Of(lambda made: str(made.manifest(("depth: 3", "depth: 9"), name="other.yaml"))),
)
probe(
    provider.SnapshotDatasetOperator,
    lambda made: with_manifest(made, as_of="2026-03-01"),
    manifest=(OTHER_MANIFEST[0], Of(lambda made: str(made.folder / "none.yaml"))),
    as_of=("2026-03-01", "2026-02-01"),
    for_training=(False, True),
    **CONN,
)
probe(
    provider.TrainModelOperator,
    lambda made: with_manifest(made, snapshot=made.first.snapshot(), code_version="0123abc"),
    manifest=OTHER_MANIFEST,
    snapshot=(Of(lambda made: made.first.snapshot()), None),
    code_version=("0123abc", "4567def"),
    **CONN,
)


def trained_record(made: Scene) -> Any:
    return made.first.train(made.first.snapshot())


probe(
    provider.RegisterModelOperator,
    lambda made: with_manifest(made, trained=trained_record(made)),
    manifest=OTHER_MANIFEST,
    trained=(Of(trained_record), None),
    **CONN,
)
probe(provider.RegisterModelOperator, with_manifest, adopt=(None, "models:/fraud/7"))


def gates(made: Scene) -> dict[str, Any]:
    return with_manifest(made, environment="production", registered=made.first.register(), rollout_id="run-2")


probe(
    provider.GateCheckOperator,
    gates,
    manifest=OTHER_MANIFEST,
    environment=("production", "staging"),
    registered=(Of(lambda made: made.first.register()), None),
    rollout_id=("run-2", "run-9"),
    **CONN,
)


def hinted(**parameters: Any) -> dict[str, Any]:
    """A Dag with a gate of one endpoint, and a task that opens a rollout; which one, the hint alone says."""
    with DAG("hinted", schedule=None) as dag:
        measured(python_callable=auc, task_id="measure")
        provider.GateCheckOperator(task_id="gates", **parameters)
    return drawn(dag)


def templated(made: Scene) -> dict[str, Any]:
    return {"manifest": "{{ params.manifest }}", "environment": "production", "registered": {}}


hinted.__name__ = "GateCheckOperator"
probe(hinted, templated, endpoint_hint=(str(PRODUCTION), "production/other"))


# A team's own gates.


def measured(
    python_callable: Callable[..., Any], op_args: Sequence[Any] = (), op_kwargs: Mapping[str, Any] = {}, **given: Any
) -> GateDecoratedOperator:
    defaults = {"task_id": "tried", "endpoint": str(PRODUCTION), "gates": ["auc at least 70% from at least 10 rows"]}
    return GateDecoratedOperator(
        python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **{**defaults, **given}
    )


measured.__name__ = "GateDecoratedOperator"


def auc(value: float = 0.8, samples: int = 1000) -> dict[str, float]:
    return {"auc": value, "samples": samples}


def worse() -> dict[str, float]:
    return auc(0.6)


probe(
    measured,
    lambda made: {"python_callable": auc, "rollout_id": "run-2"},
    python_callable=(auc, worse),
    op_args=((0.8,), (0.6,)),
    op_kwargs=({"value": 0.8}, {"value": 0.6}),
    gates=(["auc at least 70% from at least 10 rows"], ["auc at least 90% from at least 10 rows"]),
    **WHOSE,
)


# Tables.


def orders(*, bad: bool = False) -> pd.DataFrame:
    return pd.DataFrame({"order_id": ["o0", "o1"], "amount": [1.0, -2.0 if bad else 2.0]})


def returns() -> pd.DataFrame:
    return orders(bad=True)


def csv_of(load: Callable[[], pd.DataFrame]) -> Of:
    def written(made: Scene) -> str:
        path = made.folder / f"{load.__name__}.csv"
        load().to_csv(path, index=False)
        return str(path)

    return Of(written)


def database(made: Scene) -> str:
    url = f"sqlite:///{made.folder / 'shop.db'}"
    engine = sa.create_engine(url)
    orders().to_sql("orders", engine, index=False, if_exists="replace")
    returns().to_sql("returns", engine, index=False, if_exists="replace")
    engine.dispose()
    return url


def checked(**parameters: Any) -> Any:
    return provider.QualityCheckOperator(task_id="check-orders", **parameters)


checked.__name__ = "QualityCheckOperator"


def of_orders(**table: Any) -> Callable[[Scene], dict[str, Any]]:
    def given(made: Scene) -> dict[str, Any]:
        from airflow_provider_mlpipex.adapters.great_expectations.validator import GxValidator

        made.platform = replace(made.platform, validator=GxValidator(made.folder / "quality"))  # type: ignore[arg-type]
        common = {"expectations": [AMOUNT], "endpoint": str(ORDERS), "rollout_id": "run-2"}
        return {**common, **{name: value_of(value, made) for name, value in table.items()}}

    return given


def in_sql(made: Scene) -> dict[str, Any]:
    return of_orders(table="orders", sql_url=database(made))(made)


def by_manifest(made: Scene) -> dict[str, Any]:
    """A block for each kind of table; that of features is broken by ``orders``."""
    return {**of_orders(manifest=expecting(made, least=0), expectations=None)(made), "load": orders}


def expecting(made: Scene, *, least: int) -> str:
    block = f"quality:\n  features: [{{expect: column_values_to_be_between, column: amount, min_value: {2 + least}}}]\n"
    snapshot = ("column_values_to_not_be_null\n      column: amount\n      mostly: 0.99", BETWEEN.format(least))
    return str(made.manifest(("quality:\n", block), snapshot, name=f"expecting-{least}.yaml"))


BETWEEN = "column_values_to_be_between\n      column: amount\n      min_value: {}"


def connections(made: Scene) -> dict[str, Any]:
    for name, table in (("shop", orders()), ("returns", returns())):
        engine = sa.create_engine(f"sqlite:///{made.folder / name}.db")
        table.to_sql("orders", engine, index=False, if_exists="replace")
        engine.dispose()
    return of_orders(table="orders")(made)


def url_of(name: str) -> Of:
    return Of(lambda made: f"sqlite:///{made.folder / name}.db")


def sql_connection(conn_id: str) -> Connection:
    return Connection(conn_id=conn_id, conn_type="sqlite", host=f"{PLACE[-1] / conn_id}.db")


#: The folder of the scene that is played, for connections that are asked for by their id alone.
PLACE: list[Path] = []
KWARGS = ({"bad": False}, {"bad": True})
TABLE = {"load": (orders, returns), "load_kwargs": KWARGS}
probe(
    checked,
    of_orders(load=orders),
    **TABLE,
    expectations=([AMOUNT], [{**AMOUNT, "min_value": 2}]),
    endpoint=(str(ORDERS), str(PRODUCTION)),
    **CONN,
)
probe(checked, of_orders(), path=(csv_of(orders), csv_of(returns)))
probe(checked, of_orders(load=returns), key=("order_id", "amount"))
probe(checked, in_sql, table=("orders", "returns"), schema=("main", "nowhere"))
probe(checked, connections, sql_url=(url_of("shop"), url_of("returns")), sql_conn_id=("shop", "returns"))
probe(
    checked,
    by_manifest,
    block=("snapshot", "features"),
    manifest=(Of(lambda made: expecting(made, least=0)), Of(lambda made: expecting(made, least=5))),
)
probe(
    checked,
    lambda made: {**of_orders(manifest=str(made.first.manifest), expectations=None)(made), "endpoint": None},
    as_of=("2026-03-01", "2026-02-01"),
)


def checked_in_a_release(**parameters: Any) -> Any:
    with DAG("release", schedule=None):
        provider.GateCheckOperator(
            task_id="gates", manifest="m.yaml", environment="production", registered={}, endpoint_hint=str(PRODUCTION)
        )
        return checked(**parameters)


checked_in_a_release.__name__ = "QualityCheckOperator"
probe(
    checked_in_a_release,
    lambda made: {**of_orders(load=orders)(made), "endpoint": str(PRODUCTION)},
    gate=(True, False),
    rollout_id=("run-2", "run-9"),
)


def labels(*, bad: bool = False) -> pd.DataFrame:
    return pd.DataFrame({"request_id": ["a", "b", "c"], "label": [0 if bad else 1, 1, 1]})


def bad_labels() -> pd.DataFrame:
    return labels(bad=True)


def of_labels(made: Scene, **more: Any) -> dict[str, Any]:
    assert made.labelled
    return {"task_id": "tried", "endpoint": str(PRODUCTION), **more}


def of_kept_labels(made: Scene) -> dict[str, Any]:
    given = of_labels(made, load=bad_labels)
    run_task(made, provider.IngestOutcomesOperator(task_id="before", endpoint=str(PRODUCTION), load=labels))
    return given


probe(
    provider.IngestOutcomesOperator,
    lambda made: of_labels(made, load=labels),
    load=(labels, bad_labels),
    load_kwargs=KWARGS,
    **WHERE,
)
probe(provider.IngestOutcomesOperator, of_labels, path=(csv_of(labels), csv_of(bad_labels)))
probe(provider.IngestOutcomesOperator, of_kept_labels, correct=(False, True))


def payments(*, rows: int = 3) -> pd.DataFrame:
    return pd.DataFrame({"amount": [1.5, 20.5, 300.5], "country": [0.0, 1.0, 2.0]}).head(rows)


def few_payments() -> pd.DataFrame:
    return payments(rows=1)


def of_payments(made: Scene, **more: Any) -> dict[str, Any]:
    made.first.first_release()
    given = {"endpoint": str(PRODUCTION), "output_path": str(made.folder / "scores.parquet"), "batch": "nightly"}
    return {"task_id": "tried", **given, **more}


def scored(**parameters: Any) -> Any:
    """What is answered, in how many requests, and where: the files that are there afterwards are seen too."""
    made = parameters.pop("scene")
    how = run_task(made, provider.ScoreBatchOperator(**parameters))
    files = [(path.name, len(pd.read_parquet(path))) for path in sorted(made.folder.glob("*.parquet"))]
    return {**how, "files": files, "requests": [len(sent.rows) for sent in made.platform.predictor.sent]}


scored.__name__ = "ScoreBatchOperator"
probe(
    scored,
    lambda made: of_payments(made, load=payments, scene=made),
    load=(payments, few_payments),
    load_kwargs=({"rows": 3}, {"rows": 2}),
    output_path=(
        Of(lambda made: str(made.folder / "scores.parquet")),
        Of(lambda made: str(made.folder / "others.parquet")),
    ),
    batch=("nightly", "daily"),
    chunk_rows=(1000, 1),
    **WHERE,
)
probe(scored, lambda made: of_payments(made, scene=made), path=(csv_of(payments), csv_of(few_payments)))


# Drift.


def of_drift(made: Scene, **more: Any) -> dict[str, Any]:
    assert made.drifting
    return {"task_id": "tried", "endpoint": str(PRODUCTION), **more}


#: Numbers by which the drift of the scene is none.
LOOSE = Of(lambda made: str(made.manifest(BLOCK, ("{window: 6h}", "{window: 6h, psi: 99, damage: 99}"), name="l.yaml")))
NOBODY = ("", "9.9.9-nobody")


def ago(**delta: float) -> Of:
    return Of(lambda made: (made.drifting.clock.now() - timedelta(**delta)).isoformat())


probe(
    provider.DriftCheckOperator,
    of_drift,
    manifest=(None, LOOSE),
    release=NOBODY,
    since=(ago(hours=5), ago(seconds=70)),
    until=(ago(seconds=0), ago(seconds=70)),
    on_drift=("fail", "announce"),
    **WHERE,
)
probe(provider.DriftCheckOperator, lambda made: of_drift(made, until="2020-01-01"), undecided=("fail", "skip"))
probe(provider.DriftSensor, of_drift, manifest=(None, LOOSE), release=NOBODY, **WHERE)
probe(
    provider.DriftSensor,
    lambda made: {"task_id": "tried", "endpoint": str(PRODUCTION), "timeout": 3600.0},
    poke_interval=(300.0, 60.0),
)


def at_the_end(**parameters: Any) -> Any:
    """What the sensor says when the time is over."""
    sensor = provider.DriftSensor(**parameters)
    sensor.execute = lambda context: sensor.execute_complete(context, {"status": "over"})
    return sensor


at_the_end.__name__ = "DriftSensor"
probe(at_the_end, lambda made: {"task_id": "tried", "endpoint": str(PRODUCTION)}, undecided=("fail", "skip"))


# Triggers.

TASK = {"dag_id": "release__fraud_scorer", "run_id": "run-2", "task_id": "canary_0_watch", "try_number": 1}
OTHER_TASK = {**TASK, "task_id": "canary_1_watch"}
LOOKS = {"poll_interval": (5.0, 7.0), "task": (TASK, OTHER_TASK)}


def triggered(made: Scene, **more: Any) -> dict[str, Any]:
    return {"mlpipex_conn_id": CONNECTION, "endpoint": str(PRODUCTION), "task": TASK, **more}


def of_canary(made: Scene) -> dict[str, Any]:
    made.brought("canary-0")
    return triggered(made, rollout_id="run-2", stage="canary", step=0)


def failing(made: Scene) -> dict[str, Any]:
    given = of_canary(made)
    made.world.serve(60, failing=0.9)
    made.platform.clock.advance(5)
    return given


def away(made: Scene, given: dict[str, Any]) -> dict[str, Any]:
    made.platform.plane.away = True
    return given


probe(provider.RolloutTrigger, failing, step=(0, 1), stage=("canary", "shadow"), task=(TASK, OTHER_TASK), **WHOSE)
probe(provider.RolloutTrigger, of_canary, poll_interval=(5.0, 7.0))
GIVES_UP = {"give_up_after": (-1.0, 3600.0)}
probe(provider.RolloutTrigger, lambda made: away(made, of_canary(made)), **GIVES_UP)


def of_waiting(made: Scene, **more: Any) -> dict[str, Any]:
    assert made.drifting
    until = made.platform.clock.now() + timedelta(hours=6)
    return {**triggered(made), "until": until.isoformat(), "poll_interval": 5.0, **more}


probe(
    provider.DriftTrigger,
    of_waiting,
    until=(ago(seconds=-3600), ago(seconds=0)),
    manifest=("", LOOSE),
    release=NOBODY,
    **LOOKS,
    **WHERE,
)
probe(provider.DriftTrigger, lambda made: away(made, of_waiting(made)), **GIVES_UP)


def of_watch(made: Scene, **more: Any) -> dict[str, Any]:
    """An endpoint that is unhealthy, outside its rollback window."""
    made.platform.plane.serve(PRODUCTION, current(made), requests=1000, errors=900)
    made.platform.clock.advance(5)
    until = made.platform.clock.now() + timedelta(seconds=12)
    return {"mlpipex_conn_id": CONNECTION, "until": until.isoformat(), "task": TASK, "poll_interval": 5.0, **more}


def later(**delta: float) -> Of:
    return Of(lambda made: (made.platform.clock.now() + timedelta(**delta)).isoformat())


probe(
    provider.StandingWatchTrigger,
    of_watch,
    until=(later(seconds=12), later(seconds=0)),
    endpoints=((), ("staging/*",)),
    **LOOKS,
    **CONN,
)
probe(provider.StandingWatchTrigger, lambda made: away(made, of_watch(made)), **GIVES_UP)
probe(
    provider.StandingWatchOperator,
    lambda made: {"task_id": "tried"},
    endpoints=((), ("staging/*",)),
    look_every=(5.0, 7.0),
    lifetime=(timedelta(hours=6), timedelta(hours=1)),
    give_up_after=(600.0, 60.0),
    **CONN,
)


def with_old_records(made: Scene) -> dict[str, Any]:
    for _ in range(2):
        look_at_drift(made.platform, PRODUCTION) if made.labelled else None
    made.platform.clock.advance(timedelta(days=30).total_seconds())
    return {"task_id": "tried"}


probe(provider.StandingWatchOperator, with_old_records, records_kept=(timedelta(days=90), timedelta(days=7)))


# What is no task.


class Heard(BaseNotifier):
    """A notifier of a team, which keeps what it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def notify(self, context: Any) -> None:
        self.heard.append(f"{context['rollout']['title']} {context.get('run_id')}")


def notified(made: Scene) -> dict[str, Any]:
    assert made.world
    return {"endpoint": str(PRODUCTION), "channel": "team", "behind": [Heard()]}


probe(
    provider.RolloutNotifier,
    notified,
    channel=("team", ""),
    behind=(Of(lambda made: [Heard()]), []),
    severity=("info", "critical"),
    context=({"run_id": "run-1"}, {"run_id": "run-2"}),
    **WHERE,
)


def connected(mlpipex_conn_id: str) -> Any:
    """Where the hook of a connection finds ledger and plane."""
    settings = MlpipexHook(mlpipex_conn_id).get_conn()
    return {"plane": settings.plane_url, "ledger": settings.ledger_url}


connected.__name__ = "MlpipexHook"
probe(connected, lambda made: {}, mlpipex_conn_id=("mlpipex_default", "mlpipex_other"))


def piece(make: Callable[..., Any], name: str) -> Callable[..., Any]:
    """``make`` in a Dag, beside a task that it may come after; what is seen is the Dag."""

    def in_a_dag(**parameters: Any) -> Any:
        with DAG("pieces", schedule=None) as dag:
            before = EmptyOperator(task_id="before")
            if parameters.pop("later", False):
                parameters["after"] = before
            make(**parameters)
        return drawn(dag)

    in_a_dag.__name__ = name
    return in_a_dag


PIECES = {
    "manifest": (
        Of(lambda made: str(made.first.manifest)),
        Of(lambda made: str(made.manifest(("version: auto", "version: 1.0.0"), name="pinned.yaml"))),
    ),
    **CONN,
}
training = piece(provider.training_tasks, "training_tasks")
probe(
    training,
    lambda made: {"manifest": str(made.first.manifest)},
    as_of=("2026-03-01", "2026-02-01"),
    group_id=("model", "other"),
    later=(False, True),
    **PIECES,
)


def released(registered: str = "model", **parameters: Any) -> Any:
    manifest = parameters["manifest"]
    made = {name: provider.training_tasks(manifest, group_id=name) for name in ("model", "other")}
    return provider.release_tasks(registered=made[registered], **parameters)


releasing = piece(released, "release_tasks")
probe(
    releasing,
    lambda made: {"manifest": str(made.first.manifest)},
    manifest=(
        Of(lambda made: str(made.first.manifest)),
        Of(lambda made: str(made.manifest(("steps: [5%, 50%, 100%]", "steps: [50%, 100%]"), name="two.yaml"))),
    ),
    registered=("model", "other"),
    later=(False, True),
    **CONN,
)
for name in ("training_tasks", "release_tasks"):
    PROBES[f"{name}.after"] = PROBES.pop(f"{name}.later")
    PROBES[f"{name}.after"] = replace(PROBES[f"{name}.after"], values=(("later", False), ("later", True)))


def asset(name: str) -> Any:
    return {"asset": provider.drift_asset(name).uri}


asset.__name__ = "drift_asset"
probe(asset, lambda made: {}, name=("fraud-scorer", "churn"))


def loaded(path: str) -> Any:
    return {"digest": provider.load_manifest_file(path).digest}


loaded.__name__ = "load_manifest_file"
probe(loaded, lambda made: {}, path=OTHER_MANIFEST)


def manifests_in(folder: str) -> Any:
    return {"manifests": sorted(path.name for path in provider.read_manifests(folder))}


def two_manifests(made: Scene) -> str:
    (made.folder / "two").mkdir(exist_ok=True)
    made.manifest(name="two/fraud.yaml")
    return str(made.folder / "two")


manifests_in.__name__ = "read_manifests"
probe(manifests_in, lambda made: {}, folder=(Of(two_manifests), Of(lambda made: str(made.folder))))


# The tests.


def labels_of(label: str) -> tuple[str, Probe]:
    return label.partition(".")[2], PROBES[label]


def every_parameter() -> set[str]:
    classes = {
        f"{public.__name__}.{name}"
        for public in public_classes()
        for part in own_classes(public)
        if "__init__" in vars(part)
        for name in parameters(part.__init__)
    }
    functions = {
        f"{name}.{parameter}"
        for name in provider.__all__
        if callable(getattr(provider, name)) and not isinstance(getattr(provider, name), type)
        for parameter in parameters(getattr(provider, name))
    }
    return classes | functions


def test_every_parameter_is_tried() -> None:
    assert set(PROBES) == every_parameter()


#: One parameter of each scene: where nothing is changed, nothing may differ.
PLAYED_TWICE = set({(tried.make, tried.given): label for label, tried in PROBES.items()}.values())


def see(label: str, value: Any, folder: Path, trained: Reference) -> str:
    name, tried = labels_of(label)

    def make(made: Scene) -> Any:
        given = dict(tried.given(made))
        if name == "after":
            return tried.make(**{**given, "later": value[1]})
        return tried.make(**{**given, name: value_of(value, made)})

    with scene(folder, trained) as made:
        PLACE.append(folder)
        return outcome(make, made)


@pytest.mark.parametrize("label", sorted(PROBES))
def test_another_value_gives_another_behaviour(
    label: str, tmp_path: Path, trained: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MlpipexHook, "get_connection", classmethod(lambda cls, conn_id: connection_of(conn_id)))
    if label.endswith("for_training"):
        monkeypatch.setattr(MlpipexHook, "code_version", lambda self, folder: "")
    one, other = labels_of(label)[1].values
    before = see(label, one, tmp_path / "scene", trained)
    if label in PLAYED_TWICE:
        assert before == see(label, one, tmp_path / "again" / "scene", trained), "what differs by itself shows nothing"
    assert before != see(label, other, tmp_path / "other" / "scene", trained)


def connection_of(conn_id: str) -> Connection:
    if conn_id.startswith("mlpipex"):
        return Connection(conn_id=conn_id, conn_type="mlpipex", host=conn_id, port=8089, password="secret")
    return sql_connection(conn_id)
