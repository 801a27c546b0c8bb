"""What a manifest must not say although every field is well-formed: it could never work, or never stop anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Literal

from airflow_provider_mlpipex.domain.fields.quantities import format_duration
from airflow_provider_mlpipex.domain.fields.refusal import did_you_mean
from airflow_provider_mlpipex.domain.fields.yaml_text import FieldPath, Problem
from airflow_provider_mlpipex.domain.gates.gate import LIVE_SOURCES, Gate, known_metric
from airflow_provider_mlpipex.domain.gates.metrics import TASK_METRICS
from airflow_provider_mlpipex.domain.gates.misreadings import Misreading, find_misreading
from airflow_provider_mlpipex.domain.manifest import drift_block, features_block, review_block, traffic_block
from airflow_provider_mlpipex.domain.manifest.evaluation_block import Labels
from airflow_provider_mlpipex.domain.manifest.manifest import EnvironmentSpec, Manifest
from airflow_provider_mlpipex.domain.validation import adoption_rules, live_rules, quality_rules, slice_rules

Block = Literal["gates", "shadow", "canary", "rollback", "outcomes"]
#: Where the gates of a block may take their evidence from.
BLOCK_SOURCES: dict[Block, tuple[str, ...]] = {
    "gates": ("evaluation", "baseline", "quality"),
    "shadow": ("shadow",),
    "canary": ("canary",),
    "rollback": ("serving", "drift"),
    "outcomes": ("outcomes",),
}
#: Twice the longest pause between two looks of a watcher (``sampling.look_every``).
#: Metrics that need probabilities, which ``predict`` does not give.
_OF_PROBABILITIES = ("auc", "log_loss", "brier")


def broken_rules(manifest: Manifest, *, prove: bool = True) -> list[Problem]:
    """Every rule that ``manifest`` breaks.

    :param prove: also play its gates on synthetic evidence: whether each can fail, pass, and decide in its time. That
        is most of the work, and nothing that the shape of a Dag depends on.
    """
    target = manifest.labels.target if manifest.labels else None
    features = features_block.broken_rules(manifest.features, target=target)
    problems = [
        *_training(manifest),
        *_runtime(manifest),
        *features,
        *_durations(manifest),
        *traffic_block.broken_rules(manifest.traffic),
    ]
    problems += adoption_rules.broken_rules(manifest)
    problems += quality_rules.broken_rules(manifest)
    problems += slice_rules.broken_rules(manifest)
    for name, environment in manifest.environments.items():
        path: FieldPath = ("environments", name)
        problems += review_block.broken_rules(environment.review, path)
        problems += _offline(manifest, environment, path)
        problems += _outcomes(manifest, environment, path)
        problems += live_rules.broken_rules(manifest.traffic.expected_rate, environment, path)
        problems += drift_block.broken_rules(environment.drift, (*path, "drift"), serve=environment.serve)
        problems += drift_block.broken_seasons(
            environment.drift,
            (*path, "drift"),
            reference=_reference(manifest),
            timed=_timed(manifest),
        )
        for block, where, gates in gate_blocks(environment):
            problems += _gates(gates, block, (*path, *where))
        if prove:
            from airflow_provider_mlpipex.domain.validation import decision_rules

            problems += decision_rules.undecided(manifest.traffic.expected_rate, environment, path)
            if not any(problem.path[: len(path)] == path for problem in problems):
                problems += _unproved(name, manifest)
    return problems


def cautions(manifest: Manifest) -> list[Problem]:
    """What a valid manifest can do, and not as well as somebody may think."""
    return [*_misread(manifest), *_of_drift(manifest)]


def _misread(manifest: Manifest) -> Iterator[Problem]:
    """Bare percentages of which somebody may think that they say something else."""
    for name, environment in manifest.environments.items():
        for _, where, gates in gate_blocks(environment):
            for index, gate in enumerate(gates):
                if (misreading := find_misreading(gate)) is not None:
                    at: FieldPath = ("environments", name, *where, index, misreading.field)
                    limit = (
                        f"read as {misreading.read}, which is {misreading.threshold} beside {misreading.beside}; "
                        f"{misreading.other} would be {misreading.other_threshold}"
                    )
                    yield Problem(at, misreading.value, limit, f"write {misreading.read}, or {_written(misreading)}")


def _written(misreading: Misreading) -> str:
    return "a smaller number of points" if misreading.field == "detects" else misreading.other


def _of_drift(manifest: Manifest) -> list[Problem]:
    return [
        caution
        for name, environment in manifest.environments.items()
        for caution in drift_block.cautions(
            environment.drift,
            ("environments", name, "drift"),
            reference=_reference(manifest),
            timed=_timed(manifest),
        )
    ]


def _reference(manifest: Manifest) -> timedelta | None:
    """For how long the rows were collected that drift is compared with; ``None`` where nobody knows."""
    return manifest.data.window.evaluate if manifest.data else None


def _timed(manifest: Manifest) -> bool:
    """Whether these rows know when each was."""
    return manifest.evaluation is None or manifest.evaluation.time_column is not None


#: The block that a stage takes its gates from, as :func:`gate_blocks` names it.
_BLOCK_OF: dict[str, FieldPath] = {
    "gate": ("gates",),
    "shadow": ("shadow", "gates"),
    "canary": ("canary", "gates"),
    "watch": ("rollback", "gates"),
    "outcomes": ("outcomes", "gates"),
}


def _unproved(environment: str, manifest: Manifest) -> Iterator[Problem]:
    """What is left when every single rule is kept: gates that still stop nothing, or everything."""
    from airflow_provider_mlpipex.domain.planning.proof import prove_environment

    declared = manifest.environments[environment]
    for proof in prove_environment(environment, declared, manifest.traffic.expected_rate):
        for defect in proof.defects:
            yield Problem(
                ("environments", environment, *_BLOCK_OF[proof.stage], proof.index),
                proof.rule,
                f"a gate that can block and can let pass; as it stands, {defect}",
                "correct its threshold or its detects, or remove the gate",
            )


def gate_blocks(environment: EnvironmentSpec) -> Iterator[tuple[Block, FieldPath, tuple[Gate, ...]]]:
    """Every list of gates of an environment, with its path in it."""
    yield "gates", ("gates",), environment.gates
    if environment.shadow:
        yield "shadow", ("shadow", "gates"), environment.shadow.gates
    if environment.canary:
        yield "canary", ("canary", "gates"), environment.canary.gates
    if environment.rollback:
        yield "rollback", ("rollback", "gates"), environment.rollback.gates
    if environment.outcomes:
        yield "outcomes", ("outcomes", "gates"), environment.outcomes.gates


def _training(manifest: Manifest) -> Iterator[Problem]:
    if manifest.training is None and manifest.model.trained:
        yield Problem(
            ("training",),
            "missing",
            "model.version auto trains a new version",
            "add a training block, pin model.version to a registered one, or adopt a model that MLflow has",
        )
    if manifest.training is not None and manifest.training.runtime and manifest.runtime.lock is None:
        yield Problem(
            ("training", "runtime"),
            f"{manifest.training.runtime}, and runtime: {{{manifest.runtime.kind}}}",
            "a runtime that a worker can build: runtime.lock",
            "pin a lock, or leave training.runtime out: then the worker's own environment trains",
        )


def _runtime(manifest: Manifest) -> Iterator[Problem]:
    serving = [name for name, environment in manifest.environments.items() if environment.serve]
    if manifest.runtime.image is not None and serving:
        yield Problem(
            ("runtime", "image"),
            manifest.runtime.image,
            f"a runtime that a serving plane runs, and none runs images yet; {', '.join(serving)} serves",
            "write environment: provider, or pin a lock file; or serve: false, where the image is only judged",
        )


def _durations(manifest: Manifest) -> Iterator[Problem]:
    stated: list[tuple[FieldPath, timedelta | None]] = []
    if manifest.data is not None:
        stated += [
            (("data", "window", "train"), manifest.data.window.train),
            (("data", "window", "evaluate"), manifest.data.window.evaluate),
            (("data", "max_age"), manifest.data.max_age),
        ]
    stated += [
        (("traffic", "timeout"), manifest.traffic.timeout),
        (("traffic", "lease"), manifest.traffic.lease),
    ]
    for name, environment in manifest.environments.items():
        path: FieldPath = ("environments", name)
        if environment.review:
            stated.append(((*path, "review", "timeout"), environment.review.timeout))
        if environment.shadow:
            stated.append(((*path, "shadow", "duration"), environment.shadow.duration))
        if environment.canary:
            stated.append(((*path, "canary", "step_duration"), environment.canary.step_duration))
        if environment.rollback:
            stated.append(((*path, "rollback", "window"), environment.rollback.window))
        if environment.outcomes:
            stated.append(((*path, "outcomes", "window"), environment.outcomes.window))
        for _, where, gates in gate_blocks(environment):
            for index, gate in enumerate(gates):
                stated.append(((*path, *where, index, "window"), gate.window))
                stated.append(((*path, *where, index, "max_age"), gate.max_age))
    for at, duration in stated:
        if duration is not None and duration <= timedelta(0):
            yield Problem(at, format_duration(duration), "longer than nothing", "write for example 30m")


def _offline(manifest: Manifest, environment: EnvironmentSpec, path: FieldPath) -> Iterator[Problem]:
    gates, labels = environment.gates, manifest.labels
    if gates and all(gate.advisory for gate in gates):
        yield Problem(
            (*path, "gates"), "only advisory gates", "one gate that has a say", "make one binding, or remove them all"
        )
    for index, gate in enumerate(gates):
        at: FieldPath = (*path, "gates", index)
        if gate.source not in ("evaluation", "baseline"):
            continue
        if manifest.data is not None:
            yield from live_rules.window_fits(gate, at, manifest.data.window.evaluate, "data.window.evaluate")
        if labels is not None:
            yield from _yields(gate, at, labels, predict_method=_predict_method(manifest))
        elif manifest.evaluation is not None:
            yield Problem(
                at,
                gate.rule,
                "labels, or nothing is evaluated and the gate could never pass",
                "add task and target to evaluation, or remove the gate",
            )
        elif gate.needs_current:
            yield Problem(
                at,
                gate.rule,
                "comparing with the current release needs the task and the target",
                "add a training block, or state max or min",
            )


def _predict_method(manifest: Manifest) -> str:
    """What is served of the model; empty where only the model itself knows."""
    return manifest.training.predict_method if manifest.training else ""


def _yields(gate: Gate, at: FieldPath, labels: Labels, *, predict_method: str) -> Iterator[Problem]:
    """Whether the evaluation of the task gives the gate's metric."""
    metric = gate.metric.partition(".")[2]
    if metric not in TASK_METRICS[labels.task]:
        yielded = ", ".join(TASK_METRICS[labels.task])
        yield Problem(
            at,
            gate.metric,
            f"a metric that the evaluation of a {labels.task} task yields",
            f"{did_you_mean(metric, TASK_METRICS[labels.task])} use one of {yielded}".strip(),
        )
    elif metric in _OF_PROBABILITIES and predict_method == "predict":
        yield Problem(
            at,
            gate.metric,
            "a metric of probabilities, but training.predict_method is predict",
            "write predict_method: predict_proba, or gate on accuracy",
        )


def _outcomes(manifest: Manifest, environment: EnvironmentSpec, path: FieldPath) -> Iterator[Problem]:
    """Labels are of what was served, and their metrics are those of the task."""
    outcomes, labels = environment.outcomes, manifest.labels
    if outcomes is None:
        return
    path = (*path, "outcomes")
    if not environment.serve:
        yield Problem(path, "given", "serve: false serves nobody", "remove it, or write serve: true")
    if labels is None:
        block = "task and target to evaluation" if manifest.evaluation else "a training block"
        yield Problem(path, "given", "the task, which says what a label is compared with", f"add {block}, or remove it")
    if all(gate.advisory for gate in outcomes.gates):
        yield Problem(
            (*path, "gates"),
            "only advisory gates",
            "one gate that can reopen a promotion",
            "make one binding, or remove the block: mlpipex labels performance tells the numbers without it",
        )
    for index, gate in enumerate(outcomes.gates):
        at: FieldPath = (*path, "gates", index)
        if gate.source != "outcomes":
            continue
        yield from live_rules.window_fits(gate, at, outcomes.window, "outcomes.window")
        if labels is not None:
            yield from _yields(gate, at, labels, predict_method=_predict_method(manifest))


def _gates(gates: Iterable[Gate], block: Block, path: FieldPath) -> Iterator[Problem]:
    names: list[str] = []
    for index, gate in enumerate(gates):
        at: FieldPath = (*path, index)
        if gate.name in names:
            first = names.index(gate.name)
            yield Problem((*at, "name"), gate.name, "gate names differ within a block", f"rename it, or [{first}]")
        names.append(gate.name)
        if gate.source not in BLOCK_SOURCES[block]:
            allowed = " or ".join(BLOCK_SOURCES[block][:2])
            yield Problem(
                (*at, "metric"),
                gate.metric,
                f"evidence of {allowed} in this block",
                "move the gate to the block of its source",
            )
        if gate.max_age is not None and gate.source in LIVE_SOURCES:
            yield Problem(
                (*at, "max_age"),
                format_duration(gate.max_age),
                "evidence that was there before: what is measured on live traffic ends at the look itself",
                "leave it out, or say with window how much time the evidence covers",
            )
        yield from _fires(gate, at)


def _fires(gate: Gate, at: FieldPath) -> Iterator[Problem]:
    """A gate that passes whatever is measured, or never passes, is a slip."""
    metric = known_metric(gate.metric)
    if gate.relative or metric.unit not in ("ratio", "count"):
        if gate.within is not None and gate.within >= 1 and gate.better == "higher":
            yield Problem(at, gate.rule, "below 100%, or nothing is too bad", "write a smaller fraction")
        return
    largest = 1.0 if metric.unit == "ratio" else float("inf")
    smallest = -1.0 if gate.metric.endswith(".r2") else 0.0
    always = gate.bound >= largest if gate.max is not None else gate.bound <= smallest
    never = gate.bound < smallest if gate.max is not None else gate.bound > largest
    if always or never:
        yield Problem(
            at,
            gate.rule,
            "a threshold that some measured value passes and another fails",
            "correct the threshold, or remove the gate" if never else "tighten the threshold, or remove the gate",
        )
