"""Every metric that evidence can carry: who measures it, in what unit, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from airflow_provider_mlpipex.domain.gates.evidence import Source
from airflow_provider_mlpipex.domain.release.training import Task

Unit = Literal["ratio", "ms", "count", "number"]
Direction = Literal["higher", "lower"]


class Metric(NamedTuple):
    """One metric.

    :param better: which way is better; ``None`` where that is the manifest author's to say.
    :param compared: measured for the current release too, so that a gate may be relative to it.
    :param quantile: of latencies or differences; ``None`` for what is no quantile.
    :param lowest: value that can be measured, ``largest`` likewise (of a share it is 1).
    :param of_slices: of the worst of many slices, which share the alpha.
    """

    unit: Unit
    better: Direction | None
    compared: bool = True
    quantile: float | None = None
    lowest: float = 0.0
    of_slices: bool = False
    largest: float = math.inf

    @property
    def highest(self) -> float:
        """Value that can be measured."""
        return 1.0 if self.unit == "ratio" else self.largest

    @property
    def only_grows(self) -> bool:
        """A count: what it has exceeded once, no further evidence can take back."""
        return self.unit == "count"


_SCORES = {name: Metric("ratio", "higher") for name in ("accuracy", "precision", "recall", "f1", "f1_macro", "auc")}
_LOSSES = {name: Metric("number", "lower") for name in ("log_loss", "brier", "mae", "rmse")}
_FITS = {"r2": Metric("ratio", "higher", lowest=-math.inf), "bias": Metric("number", None, lowest=-math.inf)}
_EVALUATED: Mapping[str, Metric] = {**_SCORES, **_LOSSES, **_FITS}

#: Metrics that the evaluation of a task yields (``services.evaluation``).
TASK_METRICS: Mapping[Task, tuple[str, ...]] = {
    "binary": ("accuracy", "precision", "recall", "f1", "auc", "log_loss", "brier"),
    "multiclass": ("accuracy", "f1_macro", "auc", "log_loss"),
    "regression": ("mae", "rmse", "bias", "r2"),
}

_TRAFFIC: Mapping[str, Metric] = {
    "requests": Metric("count", "higher", compared=False),
    "error_rate": Metric("ratio", "lower"),
    "critical_errors": Metric("count", "lower", compared=False),
    "latency_p50": Metric("ms", "lower", quantile=0.50),
    "latency_p95": Metric("ms", "lower", quantile=0.95),
    "latency_p99": Metric("ms", "lower", quantile=0.99),
}
#: Of answers to the same requests (``domain.paired``). Differences are shadow minus current, in the score's own unit.
PAIRED: Mapping[str, Metric] = {
    "pairs": Metric("count", "higher", compared=False),
    "agreement": Metric("ratio", "higher", compared=False),
    "flip_rate": Metric("ratio", "lower", compared=False),
    "worst_slice_flip_rate": Metric("ratio", "lower", compared=False, of_slices=True),
    "mean_difference": Metric("number", None, compared=False, lowest=-math.inf),
    "mean_absolute_difference": Metric("number", "lower", compared=False),
    "p95_difference": Metric("number", "lower", compared=False, quantile=0.95),
    "latency_difference_p95": Metric("ms", "lower", compared=False, quantile=0.95, lowest=-math.inf),
    # Requests that the current release answered and the shadow failed.
    "one_sided_errors": Metric("count", "lower", compared=False),
    # Mirrored requests that one of the two releases has no record of.
    "missing_share": Metric("ratio", "lower", compared=False),
    # Distances between the distributions of scores, whoever got which.
    "psi": Metric("number", "lower", compared=False),
    "ks": Metric("number", "lower", compared=False),
    "js": Metric("number", "lower", compared=False),
}

#: What the judging of the candidate's tables gives (``domain.quality``): share of the expectations that hold, critical
#: ones that do not, and others that do not.
_QUALITY: Mapping[str, Metric] = {
    "success_share": Metric("ratio", "higher", compared=False),
    "broken": Metric("count", "lower", compared=False),
    "warnings": Metric("count", "lower", compared=False),
}

#: Of what a promoted release is asked and answers, beside what it was trained on (``domain.drift.gate_verdict``): the
#: worst column by each measure of drift, and the largest damage that the drift of a feature does to the score, in
#: standard deviations of the score. Chance is taken off.
_DRIFT: Mapping[str, Metric] = {
    **{
        f"worst_{measure}": Metric("number", "lower", compared=False, largest=largest)
        for measure, largest in {
            "psi": math.inf,
            "ks": 1.0,
            "jensen_shannon": 1.0,
            "chi_square": math.inf,
            "wasserstein": math.inf,
        }.items()
    },
    "damage": Metric("number", "lower", compared=False),
}

#: Source -> metrics that it yields. A gate on anything else could never fire. ``prometheus`` is a word that authors
#: write, and measures nothing: ``gate.known_metric`` says what does.
METRICS: Mapping[Source, Mapping[str, Metric]] = {
    "evaluation": _EVALUATED,
    "baseline": {name: metric._replace(compared=False) for name, metric in _EVALUATED.items()},
    "shadow": {**_TRAFFIC, **PAIRED},
    "canary": _TRAFFIC,
    # After promotion there is something to compare with where the manifest keeps a control arm (``live_rules``).
    "serving": _TRAFFIC,
    "drift": _DRIFT,
    "quality": _QUALITY,
    # Share of served feature rows that the offline path gives just so.
    "parity": {"equality": Metric("ratio", "higher", compared=False)},
    # What nobody knows of a model that was adopted.
    "provenance": {"missing": Metric("count", "lower", compared=False)},
    # Of what was served, by labels that came late; compared with what the release was registered with.
    "outcomes": _EVALUATED,
    "prometheus": {},
}


def find_metric(key: str) -> Metric | None:
    """The metric written ``source.metric``, or ``None`` where no source yields it."""
    source, _, name = key.partition(".")
    yielded = next((metrics for known, metrics in METRICS.items() if known == source), {})
    return yielded.get(name)
