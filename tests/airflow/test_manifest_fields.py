"""No field without effect: every leaf of the manifest schema is shown to change what happens.

For each leaf there is a *probe*: a manifest in which the field matters, two values for it, and what is looked at: a
plan, the Dag, a verdict, what a plane is told, an alert, a trained model, a refusal. The two must differ. A leaf
without a probe fails: whoever adds a field shows here what it does.
"""

from __future__ import annotations

import copy
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.tree import DecisionTreeClassifier

from airflow_provider_mlpipex.domain.drift.references import Reference
from airflow_provider_mlpipex.domain.errors import ManifestInvalid, MlpipexError
from airflow_provider_mlpipex.domain.fields.yaml_text import read_yaml
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.manifest.schema import manifest_schema
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.planning.plan import plan, render
from airflow_provider_mlpipex.domain.release.release import Adoption
from airflow_provider_mlpipex.domain.release.training import TrainingContext, TrainingRecord
from airflow_provider_mlpipex.domain.validation.loading import load_manifest
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services.drift import check as drift_check
from airflow_provider_mlpipex.services.evidence import feature_parity
from airflow_provider_mlpipex.services.fleet.overview import overview
from airflow_provider_mlpipex.services.outcomes import ingest
from airflow_provider_mlpipex.services.rollout import opening
from airflow_provider_mlpipex.services.rollout.drill import drill
from airflow_provider_mlpipex.services.rollout.records import LedgerRecords
from airflow_provider_mlpipex.services.rollout.watch import WatchResult
from airflow_provider_mlpipex.services.training.register import register_model
from airflow_provider_mlpipex.services.training.snapshots import snapshot_dataset
from airflow_provider_mlpipex.services.training.train import train_model
from airflow_provider_mlpipex.serving.envoy import config as envoy_config
from airflow_provider_mlpipex.serving.envoy.config import Routing
from airflow_provider_mlpipex.serving.envoy.ingress_tokens import IngressTokens
from airflow_provider_mlpipex.testing.features import EVENT
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support import acme, flights_store
from tests.support.acme import manifest_text
from tests.support.drifting import reference, send_batch
from tests.support.factories import NOON
from tests.support.plain_mlflow import payments, save_lightgbm
from tests.support.rollouts import ENDPOINT, World, make_candidate, right_on

HERE = __name__
PRODUCTION = "environments.production"
#: For a value that is not there.
ABSENT = object()
Raw = dict[str, Any]
Effect = Callable[[Raw], Any]


# The leaves.


def leaves(schema: Mapping[str, Any]) -> list[str]:
    """Every place of the schema where a value is written: ``environments.*.canary.steps[]``."""

    def walk(node: Mapping[str, Any], path: str) -> Iterator[str]:
        if "$ref" in node:
            yield from walk(schema["$defs"][node["$ref"].rpartition("/")[2]], path)
        elif node.get("properties"):
            for name, inner in node["properties"].items():
                yield from walk(inner, f"{path}.{name}".lstrip("."))
        elif alternatives := node.get("anyOf") or node.get("oneOf"):
            for alternative in alternatives:
                if alternative.get("type") != "null":
                    yield from walk(alternative, path)
        elif isinstance(node.get("additionalProperties"), Mapping):
            yield from walk(node["additionalProperties"], f"{path}.*")
        elif "items" in node:
            yield from walk(node["items"], f"{path}[]")
        else:
            yield path

    return list(dict.fromkeys(walk(schema, "")))


# Manifests, and what is changed in them.


def base() -> Raw:
    raw: Raw = read_yaml(manifest_text()).data
    return raw


def place(raw: Raw, path: str, value: Any) -> Raw:
    """``raw`` with ``value`` at ``path``; whatever is missing on the way is made. :data:`ABSENT` takes away."""
    raw = copy.deepcopy(raw)
    at: Any = raw
    *way, last = path.split(".")
    for part in way:
        at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
    if value is ABSENT:
        at.pop(int(last) if isinstance(at, list) else last, None)
    elif isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value
    return raw


def read(raw: Raw) -> Manifest:
    return load_manifest(json.dumps(raw, indent=1), file="m.yaml", prove=False)


# What is looked at. Identifiers that carry a digest differ with anything; they are no effect.


def scrubbed(seen: Any) -> str:
    return re.sub(r"(?<![.\w])(?=\w*[a-f])[0-9a-f]{8,64}\b", "#", json.dumps(seen, default=str, sort_keys=True))


def refused(raw: Raw) -> Any:
    try:
        load_manifest(json.dumps(raw, indent=1), file="m.yaml")
    except ManifestInvalid as error:
        return error.problems
    return "accepted"


def planned(raw: Raw) -> Any:
    manifest = read(raw)
    return [render(plan(manifest, environment)) for environment in manifest.environments]


def parsed(raw: Raw) -> Any:
    """The release Dag: its tasks, how long they wait, and how often they look."""
    import tempfile

    from airflow.sdk import DAG

    from airflow_provider_mlpipex.task_groups import release_tasks, training_tasks

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLPIPEX_CODE_VERSION", "0123abcd")
        file = Path(folder) / "m.yaml"
        file.write_text(json.dumps(raw, indent=1), encoding="utf-8")
        with DAG("release", schedule=None) as dag:
            release_tasks(str(file), registered=training_tasks(str(file)))
    seen = ("poke_interval", "response_timeout", "step", "environment", "endpoint")
    return [(task.task_id, *[str(getattr(task, name, "")) for name in seen]) for task in dag.tasks]


def verdicts(results: Any) -> list[tuple[str, str]]:
    return [(result.gate, result.verdict) for result in results]


def alerts(world: World) -> list[Any]:
    return [(sent.channel, sent.title, sent.severity, sent.facts.get("owner")) for sent in world.memory.alerter.sent]


def candidate(world: World, manifest: Manifest, version: str, metrics: dict[str, float]) -> Any:
    world.memory.registry.answers[version] = right_on(metrics["accuracy"])
    model = make_candidate(version).model_copy(update={"metrics": metrics, "name": manifest.model.name})
    return opening.make_release(world.platform, manifest, model, manifest_dir=Path())


def opened(raw: Raw, *, accuracy: float = 0.8, age_days: float = 0.0, missing: tuple[str, ...] = ()) -> Any:
    """The offline gates of a second release, of ``accuracy``; the first one, which lies in force, has 0.8."""
    manifest = read(raw)
    world = World(manifest=manifest)
    world.bring("run-1", "1.0.0", to="promoted", manifest=read(base()))
    world.clock.advance(age_days * 86400)
    release = candidate(world, manifest, "1.1.0", {"accuracy": accuracy, "recall": 0.5})
    if missing:
        digest = digest_of("source")
        adopted = Adoption(source="models:/fraud/7", source_digest=digest, request_digest=digest, missing=missing)
        release = release.model_copy(update={"model": release.model.model_copy(update={"adopted": adopted})})
    check = opening.check_offline_gates(
        world.platform, endpoint=ENDPOINT, rollout_id="run-2", release=release, manifest=manifest
    )
    return check.verdict, verdicts(check.results), alerts(world)


def reviewed(raw: Raw, *, after: Mapping[str, Any]) -> Any:
    """Whether a person must approve ``raw``, where ``raw`` with the changes ``after`` is in force."""
    before = raw
    for path, value in after.items():
        before = place(before, path, value)
    world = World(manifest=read(raw))
    world.open("run-1", "1.0.0", manifest=read(before))
    if world.review("run-1").needs_person:
        world.decide("run-1")
    world.promote("run-1")
    world.open("run-2", "1.0.0")
    request = world.review("run-2")
    return request.needs_person, sorted({change.kind for change in request.changes})


def live(raw: Raw, *, to: str, seconds: int = 300, every: int = 25, first: Raw | None = None, **requests: float) -> Any:
    """A second release under ``raw`` in one live stage: each look, the plans as Envoy gets them, and the alerts."""
    if to != "shadow":
        raw = place(raw, f"{PRODUCTION}.shadow", ABSENT)
    if to == "watching":
        raw = place(raw, f"{PRODUCTION}.canary", ABSENT)
    manifest = read(raw)
    world = World(manifest=manifest)
    world.bring("run-1", "1.0.0", to="promoted", manifest=read(first or base()))
    world.bring("run-2", "1.1.0", to=to)  # type: ignore[arg-type]
    stage, step = ("watch", -1) if to == "watching" else (to.partition("-")[0], 0 if "-" in to else -1)
    looks, seen = [], WatchResult(status="watching")
    for _ in range(seconds // every):
        world.serve(every, **requests)
        world.clock.advance(every)
        seen = world.look("run-2", stage, step)  # type: ignore[arg-type]
        looks.append((seen.status, seen.ending, seen.verdict, verdicts(seen.results), "on hold" in seen.cause))
        if seen.status != "watching":
            break
    return looks, told_to_the_plane(world), alerts(world)


def told_to_the_plane(world: World) -> Any:
    """Every plan that was put in force: what Envoy gets, and the lease that the plane itself keeps."""
    plans = world.memory.plane.applied
    no_tokens = IngressTokens()
    return [
        (envoy_config.routes([Routing(plan=each, fallback=each.fallback)], tokens=no_tokens), each.lease_s, each.mirror)
        for each in plans
    ]


def waiting(raw: Raw, *, to: str) -> Any:
    """What becomes of a stage in which nobody sends anything for four times its duration."""
    return live(raw, to=to, seconds=4 * 900, every=50, outage=0.0) if to != "shadow" else quiet(raw)


def quiet(raw: Raw) -> Any:
    world = World(manifest=read(raw))
    world.bring("run-1", "1.0.0", to="promoted", manifest=read(base()))
    world.bring("run-2", "1.1.0", to="shadow")
    for _ in range(4 * 600 // 50):
        world.clock.advance(50)
        seen = world.look("run-2", "shadow")
        if seen.status != "watching":
            break
    return seen.status, seen.ending, "on hold" in seen.cause, alerts(world)


def labelled(raw: Raw, *, right: int = 39, wrong: int = 11, days: float = 0.0) -> Any:
    """Labels that come ``days`` after their requests; the release was registered with an accuracy of 80 %."""
    world = World(manifest=read(raw))
    release = world.first_release().id
    rows = []
    for truth, count in ((1, right), (0, wrong)):
        for number in range(count):
            request = f"{truth}-{number}"
            world.memory.plane.answer(ENDPOINT, request, {release: 0.9}, labels={release: "1"})
            rows.append({"request_id": request, "label": truth})
            world.clock.advance(60)
    world.clock.advance(days * 86400)
    judged = ingest.ingest(world.platform, ENDPOINT, pd.DataFrame(rows), subject="labels.csv").judged
    return (judged.verdict, judged.rows, verdicts(judged.results)) if judged else None, alerts(world)


def drifted(raw: Raw, *, lost: int = 0, rows: int = 2000, **moved: float) -> Any:
    """A look at drift an hour after ``rows`` requests whose columns had ``moved``."""
    world = World(manifest=read(raw))
    release = world.first_release().id
    world.memory.plane.know_reference(release, training_rows())
    world.clock.advance(3600)
    send_batch(world.memory, ENDPOINT, release, "moved", shifted=moved, rows=rows)
    if lost:
        world.memory.plane.drop_predictions(ENDPOINT, release, lost)
    world.clock.advance(3600)
    seen = drift_check.look(world.platform, ENDPOINT)
    return seen.verdict, seen.rows, seen.raising, alerts(world)


def drifted_in_one_batch(raw: Raw) -> Any:
    """A look at twelve batches, of which one is faulty and too small to move the window."""
    world = World(manifest=read(raw))
    release = world.first_release().id
    world.memory.plane.know_reference(release, training_rows())
    world.clock.advance(3600)
    for number in range(12):
        shifted = {"amount": 12.0} if number == 7 else {}
        send_batch(world.memory, ENDPOINT, release, f"b{number:02d}", shifted=shifted, rows=300)
        world.clock.advance(60)
    seen = drift_check.look(world.platform, ENDPOINT)
    return seen.verdict, seen.faulty_batches, alerts(world)


def sliced(raw: Raw) -> Any:
    """A look at a shadow that answers otherwise wherever ``country`` is 1, and nowhere else."""
    world = World(manifest=read(raw))
    current = world.first_release().id
    world.bring("run-2", "1.1.0", to="shadow")
    shadow = world.state.rollout.candidate.id  # type: ignore[union-attr]
    for number in range(600):
        country = float(number % 5)
        flips = country == 1.0
        world.memory.plane.answer(
            ENDPOINT,
            f"r{number}",
            {current: 0.1, shadow: 0.9 if flips else 0.1},
            inputs={"amount": float(number % 2), "country": country},
            labels={current: "0", shadow: "1" if flips else "0"},
        )
    world.serve(25)
    world.clock.advance(25)
    seen = world.look("run-2", "shadow")
    return seen.status, verdicts(seen.results)


@cache
def training_rows() -> Reference:
    return reference()


class Kept:
    """A registry that logs nothing: what would be logged is what is looked at."""

    def team_code(self) -> AbstractContextManager[None]:
        return nullcontext()

    def log_training(self, _: Any, record: TrainingRecord) -> TrainingRecord:
        return record


def trained(raw: Raw, *, real_quality: bool = False, later_days: float = 0.0) -> Any:
    """Snapshot and training: what was kept, what was learned, how good it is, or why it was refused."""
    manifest, world = read(raw), memory_platform()
    validator: Any = world.validator
    if real_quality:
        from airflow_provider_mlpipex.adapters.great_expectations.validator import GxValidator

        validator = GxValidator(RESULTS)
    try:
        snapshot, report = snapshot_dataset(manifest, NOON, store=world.snapshots, validator=validator)
        record = train_model(
            manifest,
            snapshot,
            store=world.snapshots,
            registry=Kept(),
            validator=validator,
            code_version="0123abcd",
            now=NOON + timedelta(days=later_days),
        )
    except MlpipexError as error:
        return type(error).__name__, str(error)
    window = (snapshot.rows, snapshot.window_start, snapshot.split_at)
    written = (
        sorted(str(path.relative_to(RESULTS)).split("/")[0] for path in RESULTS.glob("*/*")) if real_quality else []
    )
    return window, record.model_name, record.metrics, record.evaluation_rows, record.task, record.unlabelled, written


RESULTS = Path()


def served_quality(raw: Raw) -> Any:
    """What the candidate answered, judged before more users get it."""
    from airflow_provider_mlpipex.adapters.great_expectations.validator import GxValidator
    from airflow_provider_mlpipex.services.evidence.served_quality import judge_predictions

    world = World(manifest=read(raw), validator=GxValidator(None))
    release = world.first_release().id
    for number in range(20):
        world.memory.plane.answer(
            ENDPOINT, f"r{number}", {release: 0.9}, inputs={"amount": float(number), "country": -1.0}
        )
    results = judge_predictions(
        world.platform,
        ENDPOINT,
        world.manifest,
        release_id=release,
        since=world.clock.now() - timedelta(hours=1),
        until=world.clock.now() + timedelta(seconds=1),
    )
    return verdicts(results)


def adopted(raw: Raw) -> Any:
    """What is registered of a model that another pipeline logged, or why not."""
    from airflow_provider_mlpipex.hooks.adoption import adopt

    manifest, world = read(raw), memory_platform()
    world.registry.elsewhere |= {
        "models:/fraud/7": ADOPTED / "seven",
        "models:/fraud/8": ADOPTED / "eight",
    }
    try:
        model = adopt(world, manifest, folder=ADOPTED).model
    except MlpipexError as error:
        return type(error).__name__, str(error)
    missing = model.adopted.missing if model.adopted else ()
    return model.name, model.version, model.metrics, model.evaluation_rows, model.dataset.time_column, missing


ADOPTED = Path()


def looked_up(raw: Raw) -> Any:
    """A snapshot whose features come from a store, or why there is none."""
    manifest, world = read(raw), flights_store.platform()
    try:
        snapshot, _ = snapshot_dataset(
            manifest, flights_store.AS_OF, store=world.snapshots, validator=world.validator, features=world.features
        )
    except MlpipexError as error:
        return type(error).__name__, str(error)
    return snapshot.rows, sorted(snapshot.columns)


def served_alike(raw: Raw) -> Any:
    """Whether features as served are those of training, where one of the latest hundred rows is a little off."""
    manifest, world = read(raw), flights_store.platform()
    last = flights_store.FLIGHTS - 1
    at = flights_store.START + last * flights_store.STEP - timedelta(hours=1)
    wind = (float(last % 3 == 0) + last / flights_store.FLIGHTS) * 1.01
    world.features.put_online("weather", {"flight": f"F{last}", EVENT: at, "wind": wind, "gusts": last % 7})
    snapshot, _ = snapshot_dataset(
        manifest, flights_store.AS_OF, store=world.snapshots, validator=world.validator, features=world.features
    )
    record = train_model(
        manifest,
        snapshot,
        store=world.snapshots,
        validator=world.validator,
        registry=world.registry,
        code_version="0123abcd",
    )
    model = register_model(manifest, record, registry=world.registry).model
    release = opening.make_release(world, manifest, model, manifest_dir=Path())
    endpoint = EndpointRef.parse("production/wind-delay")
    return verdicts(feature_parity.judge(world, manifest, endpoint=endpoint, release=release))


def resolved(raw: Raw) -> Any:
    """The environment that the model server is started in, or why there is none."""
    world = World(manifest=read(raw), memory=memory_platform(locks={"a.lock": "numpy==1", "b.lock": "numpy==2"}))
    try:
        runtime = world.release("1.0.0").runtime
    except MlpipexError as error:
        return type(error).__name__
    return (
        runtime.kind,
        runtime.version,
        [
            kind
            for kind in ("a", "b")
            if runtime.digest == digest_of(["lock", world.memory.runtimes.locks[f"{kind}.lock"]])
        ],
    )


# The code of the team whose manifests these are.


def shallow(context: TrainingContext) -> Any:
    return DecisionTreeClassifier(max_depth=1).fit(context.features, context.target)


def guess(context: TrainingContext) -> Any:
    return DummyClassifier(strategy="uniform", random_state=context.seed).fit(context.features, context.target)


def load_some(start: datetime, end: datetime, *, unlabelled: float = 0.0) -> pd.DataFrame:
    """Every other payment; a share of the labels is not known yet."""
    table = acme.load(start, end).iloc[::2].reset_index(drop=True)
    every = max(1, round(1 / unlabelled)) if unlabelled else len(table) + 1
    return table.assign(fraud=table["fraud"].astype(float).where(table.index % every != 1))


def holdout(*, rows: int = 200) -> pd.DataFrame:
    return payments(rows, seed=2)


# The probes.


@dataclass(frozen=True)
class Probe:
    """:param at: where the leaf is written in the manifest. :param values: of which each must have another effect.
    :param given: other fields of that manifest, which make it matter. :param of: the manifest; the usual one if not
    given."""

    effect: Effect
    at: str
    values: tuple[Any, Any]
    given: Mapping[str, Any] = field(default_factory=dict)
    of: Callable[[], Raw] = base

    def look(self, value: Any) -> str:
        raw = self.of()
        for path, other in self.given.items():
            raw = place(raw, path, other)
        return scrubbed(self.effect(place(raw, self.at, value)))


def adopting() -> Raw:
    raw = base()
    for block in ("training", "data", "quality"):
        raw.pop(block)
    raw["model"] = {"adopt": "models:/fraud/7"}
    raw["features"] = {}
    raw["evaluation"] = {"file": "a.parquet", "task": "binary", "target": "fraud"}
    return raw


def flying(**parameters: Any) -> Raw:
    raw: Raw = json.loads(json.dumps(flights_store.manifest({"parity": {"min_equal": "99%", "rows": 100}}).to_json()))
    raw["data"]["parameters"] = parameters
    return raw


def only(*gates: Any, with_one_of: str = "") -> list[Any]:
    """Gates of a block; beside them one that passes, so that none of them is the only binding one."""
    lowest = 1 if with_one_of.endswith("requests") else "1%"
    return [*gates, *([{"name": "other", "metric": with_one_of, "min": lowest}] if with_one_of else [])]


def gate_probes(block: str) -> Iterator[tuple[str, Probe]]:
    """Every field of a gate, as it stands in ``block``."""
    at = f"{PRODUCTION}.gates" if block == "gates" else f"{PRODUCTION}.{block}.gates"
    source = {"gates": "evaluation", "rollback": "serving"}.get(block, block)
    leaf = at.replace(".production.", ".*.") + "[]"
    stage = {"shadow": "shadow", "canary": "canary-0", "rollback": "watching"}.get(block)
    given: dict[str, Any] = {}
    if block == "rollback":
        given[f"{PRODUCTION}.rollback.control"] = "10%"
    if block == "outcomes":
        given[f"{PRODUCTION}.outcomes.window"] = "30d"

    def probe(name: str, values: tuple[Any, Any], spec: Raw, effect: Effect, other: str = "") -> tuple[str, Probe]:
        written = {"name": "judged", **spec}
        return f"{leaf}.{name}", Probe(
            effect, f"{at}.0.{name}", values, {**given, at: only(written, with_one_of=other)}
        )

    def refusal(name: str, values: tuple[Any, Any], spec: Raw) -> tuple[str, Probe]:
        return probe(name, values, spec, refused)

    if stage:
        healthy = partial(live, to=stage)
        failing, slow, fast = (
            partial(live, to=stage, failing=0.1),
            partial(live, to=stage, latency_ms=180.0),
            partial(live, to=stage, latency_ms=5.0),
        )
        errors, latency = {"metric": f"{source}.error_rate"}, {"metric": f"{source}.latency_p95"}
        other = f"{source}.requests"
        most = {"shadow": 2900, "canary": 440, "rollback": 16_000}[block]
        yield leaf, Probe(failing, f"{at}.0", ("error rate at most 1%", "error rate at most 50%"), {**given, at: [{}]})
        yield probe("name", ("one", "two"), {**errors, "max": "1%"}, healthy)
        yield probe("metric", (f"{source}.critical_errors", f"{source}.requests"), {"max": 5}, healthy)
        yield probe("max", ("1%", "60%"), errors, failing)
        yield probe("min", (10, 10_000_000), {"metric": f"{source}.requests"}, healthy)
        yield probe("within", ("10%", "5000%"), latency, slow)
        yield probe("improves", ("10%", "90%"), latency, fast)
        yield probe("window", ("1m", "4m"), {**errors, "max": "5%"}, healthy)
        yield probe("min_samples", (10, most), {**errors, "max": "5%"}, healthy)
        yield probe("detects", ("20%", "0.1%"), {**errors, "max": "1%"}, healthy)
        yield refusal("max_age", (ABSENT, "1h"), {**errors, "max": "5%"})
        yield probe("advisory", (False, True), {**errors, "max": "1%"}, failing, other)
    else:
        judge = opened if block == "gates" else labelled
        accuracy = {"metric": f"{source}.accuracy"}
        given_up = {"accuracy": 0.78} if block == "gates" else {}
        worse = partial(judge, **given_up)
        better = partial(judge, **({"accuracy": 0.82} if block == "gates" else {"right": 41, "wrong": 9}))
        old = partial(judge, **({"age_days": 400.0} if block == "gates" else {"days": 5.0}))
        longer = {} if block == "outcomes" else {"data.window.evaluate": "60d"}
        windows = ("1d", "31d") if block == "gates" else ("30m", "2d")
        yield leaf, Probe(judge, f"{at}.0", ("accuracy at least 70%", "accuracy at least 90%"), {**given, at: [{}]})
        yield probe("name", ("one", "two"), {**accuracy, "min": "70%"}, judge)
        between = "75%" if block == "gates" else "85%"
        yield probe("metric", (f"{source}.accuracy", f"{source}.recall"), {"min": between}, judge)
        yield probe("max", ("70%", "90%"), accuracy, judge)
        yield probe("min", ("70%", "90%"), accuracy, judge)
        yield probe("within", ("1%", "10%"), accuracy, worse)
        yield probe("improves", ("1%", "10%"), accuracy, better)
        leaf_of_window, window = probe("window", windows, {**accuracy, "min": "70%"}, judge)
        yield leaf_of_window, replace(window, given={**window.given, **longer})
        yield probe("min_samples", (10, 100_000), {**accuracy, "min": "70%"}, judge)
        yield refusal("detects", (ABSENT, "1%"), {**accuracy, "min": "70%"})
        yield probe("max_age", ("1d", "3650d"), {**accuracy, "min": "70%"}, old)
        yield probe("advisory", (False, True), {**accuracy, "min": "90%"}, judge, f"{source}.accuracy")
    relative = {"metric": f"{source}.error_rate" if stage else f"{source}.accuracy", "within": "10%"}
    yield refusal("direction", ("lower", "higher"), relative)
    broken = (
        {"metric": f"{source}.error_rate", "max": "1%"} if stage else {"metric": f"{source}.accuracy", "min": "70%"}
    )
    if block == "rollback":
        yield probe("on_fail", ("revert", "grow-control"), broken, partial(live, to=stage or "", failing=0.1))
    else:
        yield refusal("on_fail", (ABSENT, "revert"), broken)


def drilled(raw: Raw) -> Any:
    """Whether the release that serves may be broken on purpose, as the plane asks the ledger."""
    world = World(manifest=read(raw))
    release = world.first_release()
    try:
        LedgerRecords(world.memory).record_fault(ENDPOINT, release.id, {"error_rate": 1.0}, by="somebody")
    except MlpipexError as error:
        return type(error).__name__
    return "broken"


def ready(raw: Raw) -> Any:
    """The lamp of a second release whose rollback was last shown to work twenty days ago."""
    world = World(manifest=read(raw))
    world.bring("run-1", "1.0.0", to="promoted")
    world.bring("run-2", "1.1.0", to="promoted")
    drill(world.memory, ENDPOINT, reason="probe", wait=lambda seconds: world.clock.advance(seconds))
    world.clock.advance(20 * 86_400)
    (found,) = overview(world.memory).endpoints
    return found.readiness.lamp


def rejected(raw: Raw) -> Any:
    return opened(place(raw, f"{PRODUCTION}.gates", ["accuracy at least 90%"]))


EXPECT = "quality.{}.0"
PROBES: dict[str, Probe] = {
    "apiVersion": Probe(refused, "apiVersion", ("mlpipex/v1", "mlpipex/v2")),
    "kind": Probe(refused, "kind", ("Deployment", "Pipeline")),
    "name": Probe(parsed, "name", ("fraud-scorer", "fraud-judge")),
    "owner.team": Probe(rejected, "owner.team", ("risk", "payments"), {f"{PRODUCTION}.alerts.on": ["rejected"]}),
    "owner.contact": Probe(
        rejected, "owner.contact", ("a@localhost", "b@localhost"), {f"{PRODUCTION}.alerts.on": ["rejected"]}
    ),
    "model.name": Probe(trained, "model.name", ("fraud-scorer", "fraud-model")),
    "model.adopt": Probe(adopted, "model.adopt", ("models:/fraud/7", "models:/fraud/8"), of=adopting),
    "model.version": Probe(parsed, "model.version", ("auto", "1.1.0")),
    "training.callable": Probe(trained, "training.callable", ("tests.support.acme:train", f"{HERE}:shallow")),
    "training.task": Probe(trained, "training.task", ("binary", "multiclass")),
    "training.target": Probe(
        trained,
        "training.target",
        ("fraud", "country"),
        {"features.columns": ["amount"], "training.task": "multiclass"},
    ),
    "training.predict_method": Probe(trained, "training.predict_method", ("predict", "predict_proba")),
    "training.seed": Probe(
        trained, "training.seed", (1, 2), {"training.callable": f"{HERE}:guess", "training.predict_method": "predict"}
    ),
    "training.parameters.*": Probe(trained, "training.parameters.depth", (1, 3)),
    "training.max_unlabelled": Probe(
        trained,
        "training.max_unlabelled",
        ("1%", "50%"),
        {"data.source": f"{HERE}:load_some", "data.parameters": {"unlabelled": 0.1}},
    ),
    "training.runtime": Probe(refused, "training.runtime", (ABSENT, "serving")),
    "runtime.version": Probe(
        partial(reviewed, after={"runtime.version": "1.0.0"}),
        "runtime.version",
        ("1.0.0", "1.1.0"),
        {f"{PRODUCTION}.review.auto_approve": ["data"]},
    ),
    "runtime.environment": Probe(refused, "runtime.environment", (ABSENT, "provider")),
    "runtime.lock": Probe(resolved, "runtime.lock", ("a.lock", "b.lock"), {"runtime.environment": ABSENT}),
    "runtime.image": Probe(
        refused,
        "runtime.image",
        (ABSENT, f"models/fraud@sha256:{'a' * 64}"),
        {"runtime.digest": "a" * 64},
    ),
    "runtime.digest": Probe(
        resolved,
        "runtime.digest",
        (digest_of(["lock", "numpy==1"]), digest_of(["lock", "numpy==2"])),
        {"runtime.environment": ABSENT, "runtime.lock": "a.lock"},
    ),
    "data.source": Probe(trained, "data.source", ("tests.support.acme:load", f"{HERE}:load_some")),
    "data.parameters.*": Probe(trained, "data.parameters.broken", (False, True)),
    "data.time_column": Probe(trained, "data.time_column", ("at", "then")),
    "data.window.train": Probe(trained, "data.window.train", ("60d", "50d")),
    "data.window.evaluate": Probe(trained, "data.window.evaluate", ("30d", "20d")),
    "data.max_age": Probe(partial(trained, later_days=3.0), "data.max_age", ("1d", "9d")),
    "evaluation.callable": Probe(
        adopted,
        "evaluation.callable",
        (f"{HERE}:holdout", "tests.support.plain_mlflow:payments"),
        {"evaluation.file": ABSENT},
        adopting,
    ),
    "evaluation.parameters.*": Probe(
        adopted,
        "evaluation.parameters.rows",
        (200, 300),
        {"evaluation.file": ABSENT, "evaluation.callable": f"{HERE}:holdout"},
        adopting,
    ),
    "evaluation.file": Probe(adopted, "evaluation.file", ("a.parquet", "b.parquet"), of=adopting),
    "evaluation.uri": Probe(
        lambda raw: adopted(place(raw, "evaluation.uri", f"file://{ADOPTED}/{raw['evaluation']['uri']}.parquet")),
        "evaluation.uri",
        ("a", "b"),
        {"evaluation.file": ABSENT},
        adopting,
    ),
    "evaluation.sql": Probe(
        adopted,
        "evaluation.sql",
        ("select * from payments", "select * from payments limit 100"),
        {"evaluation.file": ABSENT, "evaluation.connection": "warehouse"},
        adopting,
    ),
    "evaluation.connection": Probe(
        adopted,
        "evaluation.connection",
        ("warehouse", "nowhere"),
        {"evaluation.file": ABSENT, "evaluation.sql": "select * from payments"},
        adopting,
    ),
    "evaluation.task": Probe(adopted, "evaluation.task", ("binary", "multiclass"), of=adopting),
    "evaluation.target": Probe(adopted, "evaluation.target", ("fraud", "inverse"), of=adopting),
    "evaluation.time_column": Probe(adopted, "evaluation.time_column", (ABSENT, "at"), of=adopting),
    "quality.key": Probe(
        partial(trained, real_quality=True),
        "quality.key",
        ("at", "amount"),
        {EXPECT.format("snapshot"): {"expect": "column_values_to_be_between", "column": "amount", "max_value": 1}},
    ),
    "quality.key[]": Probe(
        partial(trained, real_quality=True),
        "quality.key",
        (["at"], ["at", "amount"]),
        {EXPECT.format("snapshot"): {"expect": "column_values_to_be_between", "column": "amount", "max_value": 1}},
    ),
    "quality.results": Probe(partial(trained, real_quality=True), "quality.results", ("here", "there")),
    "quality.snapshot[].expect": Probe(
        partial(trained, real_quality=True),
        f"{EXPECT.format('snapshot')}.expect",
        ("column_values_to_not_be_null", "column_values_to_be_null"),
        {"quality.snapshot": [{"column": "amount"}]},
    ),
    "quality.snapshot[].column": Probe(
        partial(trained, real_quality=True),
        f"{EXPECT.format('snapshot')}.column",
        ("amount", "country"),
        {"quality.snapshot": [{"expect": "column_values_to_be_between", "min_value": 0, "max_value": 9}]},
    ),
    "quality.features[].expect": Probe(
        partial(trained, real_quality=True),
        f"{EXPECT.format('features')}.expect",
        ("column_values_to_not_be_null", "column_values_to_be_null"),
        {"quality.features": [{"column": "amount"}]},
    ),
    "quality.features[].column": Probe(
        partial(trained, real_quality=True),
        f"{EXPECT.format('features')}.column",
        ("amount", "country"),
        {"quality.features": [{"expect": "column_values_to_be_between", "min_value": 0, "max_value": 9}]},
    ),
    "quality.predictions[].expect": Probe(
        served_quality,
        f"{EXPECT.format('predictions')}.expect",
        ("column_values_to_not_be_null", "column_values_to_be_null"),
        {"quality.predictions": [{"column": "amount"}]},
    ),
    "quality.predictions[].column": Probe(
        served_quality,
        f"{EXPECT.format('predictions')}.column",
        ("amount", "country"),
        {"quality.predictions": [{"expect": "column_values_to_be_between", "min_value": 0}]},
    ),
    "features.columns[]": Probe(trained, "features.columns", (["amount"], ["country"])),
    "features.service": Probe(looked_up, "features.service", ("flights-v1", "flights-v2"), of=flying),
    "features.entities[]": Probe(looked_up, "features.entities", (["flight"], ["at"]), of=flying),
    "features.max_dropped": Probe(looked_up, "features.max_dropped", ("1%", "50%"), of=partial(flying, unknown=60)),
    "features.parity.min_equal": Probe(served_alike, "features.parity.min_equal", ("99%", "100%"), of=flying),
    "features.parity.rows": Probe(served_alike, "features.parity.rows", (100, 5000), of=flying),
    "features.parity.tolerance": Probe(
        served_alike, "features.parity.tolerance", (1e-6, 0.5), {"features.parity.min_equal": "100%"}, flying
    ),
    "traffic.expected_rate": Probe(planned, "traffic.expected_rate", ("10/s", "20/s")),
    "traffic.sticky_header": Probe(
        partial(live, to="canary-0", seconds=25), "traffic.sticky_header", ("x-user-id", "x-account")
    ),
    "traffic.timeout": Probe(partial(live, to="canary-0", seconds=25), "traffic.timeout", ("2s", "20s")),
    "traffic.lease": Probe(partial(live, to="canary-0", seconds=25), "traffic.lease", ("60s", "90s")),
    "traffic.fallback": Probe(partial(live, to="watching", seconds=25), "traffic.fallback", ("previous", "none")),
    "environments.*.serve": Probe(
        planned,
        f"{PRODUCTION}.serve",
        (True, False),
        {f"{PRODUCTION}.{block}": ABSENT for block in ("shadow", "canary", "rollback")},
    ),
    "environments.*.false_alarms": Probe(planned, f"{PRODUCTION}.false_alarms", ("5%", "0.1%")),
    "environments.*.review.required_for[]": Probe(
        partial(reviewed, after={f"{PRODUCTION}.review.required_for": ["runtime"]}),
        f"{PRODUCTION}.review.required_for",
        (["runtime"], []),
        {f"{PRODUCTION}.review.auto_approve": ["model", "data"]},
    ),
    "environments.*.review.auto_approve[]": Probe(
        partial(reviewed, after={"runtime.version": "0.9.0"}),
        f"{PRODUCTION}.review.auto_approve",
        (["model", "runtime"], ["model"]),
        {f"{PRODUCTION}.review.required_for": ["gate-loosened"]},
    ),
    "environments.*.review.timeout": Probe(parsed, f"{PRODUCTION}.review.timeout", ("24h", "1h")),
    "environments.*.shadow.fraction": Probe(
        partial(live, to="shadow", seconds=25), f"{PRODUCTION}.shadow.fraction", ("50%", "20%")
    ),
    "environments.*.shadow.duration": Probe(
        partial(live, to="shadow"),
        f"{PRODUCTION}.shadow.duration",
        ("4m", "10m"),
        {f"{PRODUCTION}.shadow.min_pairs": 1},
    ),
    "environments.*.shadow.undecided": Probe(quiet, f"{PRODUCTION}.shadow.undecided", ("hold", "roll-back")),
    "environments.*.shadow.ignore_first": Probe(
        partial(live, to="shadow", seconds=50, latency_ms=500.0), f"{PRODUCTION}.shadow.ignore_first", (ABSENT, "1m")
    ),
    "environments.*.shadow.min_pairs": Probe(partial(live, to="shadow"), f"{PRODUCTION}.shadow.min_pairs", (1, 3000)),
    "environments.*.shadow.slices[]": Probe(
        sliced,
        f"{PRODUCTION}.shadow.slices",
        (["amount"], ["country"]),
        {f"{PRODUCTION}.shadow.gates": [{"name": "slice", "metric": "shadow.worst_slice_flip_rate", "max": "50%"}]},
    ),
    "environments.*.canary.steps[]": Probe(
        partial(live, to="canary-0", seconds=25), f"{PRODUCTION}.canary.steps", (["5%", "100%"], ["20%", "100%"])
    ),
    "environments.*.canary.step_duration": Probe(
        partial(live, to="canary-0"),
        f"{PRODUCTION}.canary.step_duration",
        ("4m", "15m"),
        {f"{PRODUCTION}.canary.gates": ["error rate at most 20%"]},
    ),
    "environments.*.canary.exposure.max_bad": Probe(
        refused,
        f"{PRODUCTION}.canary.exposure.max_bad",
        (1, 100_000),
        {f"{PRODUCTION}.canary.step_duration": ABSENT, f"{PRODUCTION}.canary.exposure": {"effect": "5%"}},
    ),
    "environments.*.canary.exposure.effect": Probe(
        planned,
        f"{PRODUCTION}.canary.exposure.effect",
        ("5%", "20%"),
        {
            f"{PRODUCTION}.canary.step_duration": ABSENT,
            f"{PRODUCTION}.canary.exposure": {"max_bad": 100_000},
            f"{PRODUCTION}.canary.gates": ["error rate at most 1%"],
        },
    ),
    "environments.*.canary.ignore_first": Probe(
        partial(live, to="canary-0", seconds=50, latency_ms=500.0),
        f"{PRODUCTION}.canary.ignore_first",
        (ABSENT, "1m"),
        {f"{PRODUCTION}.canary.gates": ["p95 latency under 120 ms"]},
    ),
    "environments.*.canary.undecided": Probe(
        partial(waiting, to="canary-0"),
        f"{PRODUCTION}.canary.undecided",
        ("hold", "roll-back"),
        {f"{PRODUCTION}.canary.gates": [{"name": "many", "metric": "canary.requests", "min": 10_000_000}]},
    ),
    "environments.*.rollback.window": Probe(
        partial(live, to="watching"),
        f"{PRODUCTION}.rollback.window",
        ("4m", "30m"),
        {f"{PRODUCTION}.rollback.gates": ["error rate at most 20%"]},
    ),
    "environments.*.rollback.control": Probe(
        partial(live, to="watching", seconds=25), f"{PRODUCTION}.rollback.control", ("1%", "10%")
    ),
    "environments.*.drift.window": Probe(partial(drifted, amount=15.0), f"{PRODUCTION}.drift.window", ("30m", "6h")),
    "environments.*.drift.limits.*": Probe(
        partial(drifted, amount=15.0), f"{PRODUCTION}.drift.limits.psi", (0.2, 50.0), {f"{PRODUCTION}.drift.limits": {}}
    ),
    "environments.*.drift.damage": Probe(partial(drifted, hour=9.0), f"{PRODUCTION}.drift.damage", (0.0, 5.0)),
    "environments.*.drift.alpha": Probe(
        partial(drifted, rows=150, amount=1.0),
        f"{PRODUCTION}.drift.alpha",
        ("40%", "0.0001%"),
        {f"{PRODUCTION}.drift.limits": {"psi": 0.25}},
    ),
    "environments.*.drift.max_dropped": Probe(
        partial(drifted, lost=200), f"{PRODUCTION}.drift.max_dropped", ("1%", "50%")
    ),
    "environments.*.drift.alert": Probe(partial(drifted, amount=15.0), f"{PRODUCTION}.drift.alert", (True, False)),
    "environments.*.drift.batches": Probe(
        drifted_in_one_batch, f"{PRODUCTION}.drift.batches", (True, False), {f"{PRODUCTION}.drift.limits": {"psi": 0.2}}
    ),
    "environments.*.drift.season": Probe(drifted, f"{PRODUCTION}.drift.season", ("day", None)),
    "environments.*.drift.cycle": Probe(
        refused, f"{PRODUCTION}.drift.cycle", (True, False), {f"{PRODUCTION}.drift.season": "day"}
    ),
    "environments.*.outcomes.window": Probe(
        labelled,
        f"{PRODUCTION}.outcomes.window",
        ("5m", "30d"),
        {f"{PRODUCTION}.outcomes": {"gates": ["accuracy at least 70%"]}},
    ),
    "environments.*.provenance": Probe(
        partial(opened, missing=("code-version",)),
        f"{PRODUCTION}.provenance",
        ("required", "recorded-as-missing"),
        {
            "model.adopt": "models:/fraud/7",
            "model.name": "fraud-adopted",
            "training": ABSENT,
            "data": ABSENT,
            "quality": ABSENT,
            "features": {},
            "evaluation": {"file": "a.parquet", "task": "binary", "target": "fraud"},
        },
    ),
    "environments.*.alerts.on[]": Probe(
        rejected, f"{PRODUCTION}.alerts.on", (["rolled-back"], ["rolled-back", "rejected"])
    ),
    "environments.*.alerts.channel": Probe(
        rejected, f"{PRODUCTION}.alerts.channel", ("on-call", "risk"), {f"{PRODUCTION}.alerts.on": ["rejected"]}
    ),
    "environments.*.drills.allowed": Probe(drilled, f"{PRODUCTION}.drills.allowed", (False, True)),
    "environments.*.drills.every": Probe(
        ready, f"{PRODUCTION}.drills.every", ("10d", "30d"), {f"{PRODUCTION}.drills.allowed": True}
    ),
    **{
        leaf: probe
        for block in ("gates", "shadow", "canary", "rollback", "outcomes")
        for leaf, probe in gate_probes(block)
    },
}
LEAVES = leaves(manifest_schema())


@pytest.fixture(scope="module", autouse=True)
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Models that another team logged, rows to prove them on, and a warehouse."""
    global ADOPTED, RESULTS
    folder = tmp_path_factory.mktemp("adopted")
    save_lightgbm(folder / "seven")
    save_lightgbm(folder / "eight", trees=3)
    rows = payments(seed=2)
    rows = rows.assign(inverse=1 - rows["fraud"], at=pd.date_range("2026-01-01", periods=len(rows), freq="h", tz="UTC"))
    rows.to_parquet(folder / "a.parquet")
    rows.head(300).to_parquet(folder / "b.parquet")
    with sqlite3.connect(folder / "warehouse.db") as warehouse:
        rows.drop(columns="at").to_sql("payments", warehouse, index=False)
    ADOPTED, RESULTS = folder, tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_WAREHOUSE", f"sqlite:///{folder}/warehouse.db")
        yield


@pytest.fixture(autouse=True)
def clean_results() -> None:
    import shutil

    for path in RESULTS.iterdir():
        shutil.rmtree(path)


def test_every_leaf_of_the_schema_has_a_probe() -> None:
    assert sorted(set(LEAVES) - set(PROBES)) == [], "show here what these fields do"
    assert sorted(set(PROBES) - set(LEAVES)) == [], "these fields are no longer in the schema"


#: One leaf of each effect that is looked at.
KINDS = {getattr(probe.effect, "func", probe.effect): leaf for leaf, probe in PROBES.items()}


@pytest.mark.parametrize("leaf", sorted(KINDS.values()))
def test_what_is_looked_at_is_the_same_for_the_same_manifest(leaf: str) -> None:
    """Or anything would be an effect."""
    probe = PROBES[leaf]
    assert probe.look(probe.values[0]) == probe.look(probe.values[0])


@pytest.mark.parametrize("leaf", LEAVES)
def test_another_value_has_another_effect(leaf: str) -> None:
    probe = PROBES[leaf]
    one, other = (probe.look(value) for value in probe.values)
    assert one != other
