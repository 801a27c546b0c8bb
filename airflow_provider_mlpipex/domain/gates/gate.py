"""Gates: numeric criteria on evidence, as a manifest states them. :mod:`judging` gives their verdicts."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_serializer, field_validator, model_validator

from airflow_provider_mlpipex.domain.errors import InvalidQuantity
from airflow_provider_mlpipex.domain.fields.differences import Difference, ToBaseline, format_points, read_excess
from airflow_provider_mlpipex.domain.fields.quantities import (
    Duration,
    format_duration,
    format_ratio,
    parse_duration,
    parse_ratio,
)
from airflow_provider_mlpipex.domain.fields.refusal import Refusal, did_you_mean
from airflow_provider_mlpipex.domain.gates.evidence import Source
from airflow_provider_mlpipex.domain.gates.metrics import METRICS, TASK_METRICS, Direction, Metric, Unit, find_metric
from airflow_provider_mlpipex.domain.names import Name
from airflow_provider_mlpipex.domain.values import Recorded

Criterion = Literal["max", "min", "within", "improves"]
#: What a watch does with a broken limit that the control arm cannot tell from an outage yet.
WhenBroken = Literal["grow-control", "revert"]
CRITERIA: tuple[Criterion, ...] = ("max", "min", "within", "improves")
#: Sources that are looked at again and again while they grow.
LIVE_SOURCES: tuple[Source, ...] = ("shadow", "canary", "serving")


class Gate(Recorded):
    """One criterion on one metric.

    :param metric: ``source.metric``, one of :data:`~airflow_provider_mlpipex.domain.gates.metrics.METRICS`.
    :param max: highest value that passes, in the metric's unit (latency in milliseconds); ``min`` the lowest.
    :param within: passes while not worse than the baseline by more than this: ``0.5% of the baseline``, or of a share
        ``0.5 points``. A bare ``0.5%`` is of the baseline.
    :param improves: passes if better than the baseline by at least this, in the same forms.
    :param direction: which way is better, for relative gates on metrics where it is not known.
    :param window: time that the evidence must cover before the gate can pass.
    :param min_samples: observations below which it cannot pass. On live traffic it may fail from fewer, where those
        leave no doubt.
    :param detects: on live traffic, how far beyond its threshold the truth must be excluded before it passes, in the
        metric's unit: of a share ``0.5 points``, for which a bare ``0.5%`` stands as well.
    :param max_age: evidence that ended longer ago than this is stale.
    :param advisory: judged and recorded, but stops nothing.
    :param on_fail: of a watch with a control arm: take the release back at once when nobody can tell whether an outage
        broke the limit (``revert``), or first let the control arm have half of the requests, for a moment
        (``grow-control``, which is what happens where nothing is written).
    """

    added_later = frozenset({"on_fail"})

    name: Name
    metric: str
    max: float | None = None
    min: float | None = None
    within: ToBaseline = None
    improves: ToBaseline = None
    direction: Direction | None = None
    window: Duration | None = None
    min_samples: int = Field(default=1, ge=1)
    detects: float | None = None
    max_age: Duration | None = None
    advisory: bool = False
    on_fail: WhenBroken | None = None

    @field_validator("metric")
    @classmethod
    def _measured(cls, key: str) -> str:
        known_metric(key)
        return key

    @field_validator("max", "min", mode="before")
    @classmethod
    def _read_threshold(cls, raw: Any, info: ValidationInfo) -> float | None:
        key = info.data.get("metric")
        return None if raw is None or key is None else read_threshold(raw, known_metric(key).unit)

    @field_validator("detects", mode="plain")
    @classmethod
    def _read_excess(cls, raw: Any, info: ValidationInfo) -> float | None:
        key = info.data.get("metric")
        if raw is None or key is None:
            return None
        unit = known_metric(key).unit
        return read_excess(raw) if unit == "ratio" else read_threshold(raw, unit)

    @field_validator("within", "improves")
    @classmethod
    def _read_difference(cls, difference: Difference | None, info: ValidationInfo) -> Difference | None:
        key = info.data.get("metric")
        if difference is None or key is None:
            return difference
        if not 0 <= difference < math.inf:
            raise Refusal("from 0 up", value=format_ratio(difference), remedy="write 0.5% of the baseline")
        if difference.in_points and known_metric(key).unit != "ratio":
            raise Refusal(
                f"points are of shares, and {key} is none",
                value=format_points(difference),
                remedy=f"write {format_ratio(difference)} of the baseline",
            )
        return difference

    @model_validator(mode="after")
    def _one_criterion(self) -> Gate:
        stated = [criterion for criterion in CRITERIA if getattr(self, criterion) is not None]
        if len(stated) != 1:
            raise Refusal(
                f"exactly one of {', '.join(CRITERIA)}",
                value=", ".join(stated) or "none of them",
                remedy="split it into one gate a criterion",
            )
        if not self.relative:
            if self.direction is not None:
                raise Refusal(
                    "direction belongs to within and improves",
                    value=f"direction: {self.direction}",
                    remedy="leave it out: max and min say which way is better",
                )
        elif not self._metric.compared:
            raise Refusal(
                f"{self.metric} has no baseline to be {self.criterion} of",
                value=f"{self.criterion}: {self._difference}",
                remedy="state max or min, or compare in evaluation, shadow or canary",
            )
        elif self.direction is None and self._metric.better is None:
            raise Refusal(
                f"which way {self.metric} gets better is not known",
                value=f"{self.criterion}: {self._difference}",
                remedy="add direction: higher or direction: lower",
            )
        elif self.direction and self._metric.better and self.direction != self._metric.better:
            raise Refusal(
                f"{self.metric} gets better when {self._metric.better}",
                value=f"direction: {self.direction}",
                remedy="leave direction out",
            )
        return self

    @model_validator(mode="after")
    def _watched(self) -> Gate:
        if self.on_fail is not None and (self.source != "serving" or self.relative or self.max is None):
            raise Refusal(
                "on_fail is for gates of a watch with max",
                value=f"{self.metric}, on_fail: {self.on_fail}",
                remedy="leave it out: what is on trial waits until it can be told, and a relative gate compares anyway",
            )
        return self

    @model_validator(mode="after")
    def _limits_drift(self) -> Gate:
        if self.source == "drift" and self.max is None:
            raise Refusal(
                "drift has a highest value that is allowed",
                value=f"{self.metric}, {self.criterion}: {self.bound:g}",
                remedy="write max, for example max: 0.2",
            )
        if self.source == "drift" and self.max is not None and not 0 < self.max < self._metric.highest:
            raise Refusal(
                f"more than 0{', below 1: it is a distance from 0 to 1' if self._metric.highest == 1 else ''}",
                value=f"{self.metric}, max: {self.max:g}",
                remedy="write for example max: 0.2",
            )
        return self

    @model_validator(mode="after")
    def _detectable(self) -> Gate:
        if self.detects is None:
            return self
        if self.source not in LIVE_SOURCES or self._metric.only_grows:
            raise Refusal(
                f"detects is for gates on live traffic ({', '.join(LIVE_SOURCES)}), and not for counts",
                value=f"{self.metric}, detects: {self.apart(self.detects)}",
                remedy="leave detects out: this gate is judged by its value",
            )
        if self.of_slices:
            raise Refusal(
                "a metric of all requests: no small slice excludes what detects says",
                value=f"{self.metric}, detects: {self.apart(self.detects)}",
                remedy="leave detects out, or gate on shadow.flip_rate",
            )
        if self.detects <= 0:
            raise Refusal("more than nothing", value=f"detects: {self.apart(self.detects)}", remedy="write 0.5%")
        return self

    @field_serializer("max", "min", "detects")
    def _write_threshold(self, bound: float | None) -> str | float | None:
        if bound is None:
            return None
        match self._metric.unit:
            case "ms":
                return format_duration(timedelta(milliseconds=bound))
            case "ratio":
                return format_ratio(bound)
            case _:
                return bound

    @property
    def source(self) -> Source:
        """Who measures the evidence."""
        return next(source for source in METRICS if source == self.metric.partition(".")[0])

    @property
    def criterion(self) -> Criterion:
        return next(criterion for criterion in CRITERIA if getattr(self, criterion) is not None)

    @property
    def bound(self) -> float:
        """The number that was written: a threshold, or a fraction of the baseline."""
        return float(getattr(self, self.criterion))

    @property
    def relative(self) -> bool:
        """Whether it compares the candidate with the current release."""
        return self.within is not None or self.improves is not None

    @property
    def needs_current(self) -> bool:
        """Whether it can only be judged where a current release exists."""
        return self.relative or self.source == "baseline"

    @property
    def better(self) -> Direction:
        """Which way the value has to move to pass."""
        if not self.relative:
            return "lower" if self.max is not None else "higher"
        better = self.direction or self._metric.better
        assert better is not None  # a validator has refused the gate otherwise
        return better

    @property
    def rule(self) -> str:
        """The gate as people read it: ``evaluation.accuracy within 0.5% of the baseline``."""
        words = {
            "max": f"at most {self.in_unit(self.bound)}",
            "min": f"at least {self.in_unit(self.bound)}",
            "within": f"within {self._difference} of the baseline",
            "improves": f"improves on the baseline by at least {self._difference}",
        }
        parts = [f"{self.metric} {words[self.criterion]}"]
        if self.window:
            parts.append(f"over {format_duration(self.window)}")
        if self.min_samples > 1:
            parts.append(f"from at least {self.min_samples} samples")
        if self.detects is not None:
            parts.append(f"excluding {self.apart(self.detects)} beyond it")
        return " ".join(parts)

    def threshold(self, baseline: float | None) -> float | None:
        """What the value is compared with; ``None`` for a relative gate without a baseline."""
        if not self.relative:
            return self.bound
        if baseline is None:
            return None
        return baseline + self.towards(self.allowed_difference(baseline))

    def allowed_difference(self, baseline: float) -> float:
        """How far the threshold of a relative gate lies from ``baseline``, in the metric's unit."""
        return self.bound if self.in_points else self.bound * abs(baseline)

    def towards(self, difference: float) -> float:
        """``difference`` with the sign by which a relative gate moves its threshold away from the baseline."""
        return difference if (self.criterion == "improves") == (self.better == "higher") else -difference

    @property
    def in_points(self) -> bool:
        """Whether it is a number of points that the candidate and the baseline may lie apart."""
        stated = self.within if self.within is not None else self.improves
        return stated is not None and stated.in_points

    @property
    def _difference(self) -> str:
        return format_points(self.bound) if self.in_points else format_ratio(self.bound)

    @property
    def offset(self) -> float:
        """What a relative gate adds to ``scale`` times the baseline to get its threshold."""
        return self.towards(self.bound) if self.in_points else 0.0

    @property
    def scale(self) -> float:
        """What a relative gate multiplies the baseline by to get its threshold, where the baseline is not negative."""
        if self.in_points:
            return 1.0
        better_is_more = (self.criterion == "improves") == (self.better == "higher")
        return max(0.0, 1.0 + self.bound if better_is_more else 1.0 - self.bound)

    def margin(self, value: float, threshold: float) -> float:
        """Signed distance to the threshold in the better direction; negative: beyond it."""
        return value - threshold if self.better == "higher" else threshold - value

    @property
    def counts(self) -> bool:
        """Whether it judges a count, which is exact and cannot be a false alarm."""
        return self._metric.only_grows

    @property
    def in_ratio(self) -> bool:
        """Whether it judges a share."""
        return self._metric.unit == "ratio"

    def nearest_measurable(self, value: float) -> float:
        """``value``, or the end of what its metric can measure that is nearest to it."""
        return min(max(value, self._metric.lowest), self._metric.highest)

    @property
    def quantile(self) -> float | None:
        """Which quantile of latencies or differences it judges; ``None`` if it judges something else."""
        return self._metric.quantile

    @property
    def of_slices(self) -> bool:
        """Whether it judges the worst of many slices."""
        return self._metric.of_slices

    @property
    def _metric(self) -> Metric:
        return known_metric(self.metric)

    def in_unit(self, value: float, digits: int = 9) -> str:
        """``value`` as people read this gate's metric: ``120ms``, ``0.5%``, ``3``; nine digits are enough for eyes."""
        scale, unit = {"ms": (1, "ms"), "ratio": (100, "%")}.get(self._metric.unit, (1, ""))
        return f"{value * scale:.{digits}g}{unit}"

    def apart(self, distance: float, digits: int = 9) -> str:
        """A difference of two values of this gate's metric: of shares in points, which no percentage is taken for."""
        if not self.in_ratio:
            return self.in_unit(distance, digits)
        shown = f"{distance * 100:.{digits}g}"
        return f"{shown} {'point' if shown == '1' else 'points'}"


class UnknownMetric(Refusal):
    """A metric that its source does not yield.

    :param task: of the manifest's training, where it is known; then only what its evaluation yields is offered.
    """

    def __init__(self, key: str, *, task: str | None = None) -> None:
        self.key = key
        source, _, name = key.partition(".")
        yielded = next(list(names) for known, names in METRICS.items() if known == source)
        of_task = next((names for known, names in TASK_METRICS.items() if known == task), ())
        offered = [name for name in yielded if name in of_task] or yielded
        limit = f"a metric that {source} yields{f' for a {task} task' if offered is not yielded else ''}"
        near = did_you_mean(name, offered)
        super().__init__(limit, value=key, remedy=f"{near} It yields {', '.join(offered)}".strip())


def known_metric(key: str) -> Metric:
    """The metric written ``source.metric``.

    :raises Refusal: no source yields it, so a gate on it could never pass.
    """
    metric = find_metric(key)
    if metric is not None:
        return metric
    source, dot, _ = key.partition(".")
    if source == "prometheus":
        raise Refusal(
            "Prometheus as a source of gates is not there yet",
            value=key,
            remedy="use what the plane measures itself, for example canary.error_rate or serving.latency_p95; or ask "
            "Prometheus in a function of your Dag with @task.gate",
        )
    yielded = next((list(names) for known, names in METRICS.items() if known == source), [])
    if not dot or not yielded:
        measuring = ", ".join(known for known, names in METRICS.items() if names)
        near = did_you_mean(key, [f"{known}.{name}" for known, names in METRICS.items() for name in names])
        raise Refusal(
            f"source.metric, measured by one of {measuring}",
            value=key,
            remedy=near or "write for example canary.error_rate",
        )
    raise UnknownMetric(key)


def read_threshold(raw: Any, unit: Unit) -> float:
    """A bound of ``max`` or ``min`` as written, in the unit of its metric.

    :raises Refusal: a number without its unit, a percentage of something that is no share, infinity.
    """
    try:
        if unit == "ms":
            return parse_duration(raw) / timedelta(milliseconds=1)
        if unit == "ratio":
            return parse_ratio(raw)
    except InvalidQuantity as error:
        raise Refusal.of(error) from None
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not math.isfinite(raw):
        raise Refusal("a plain number", value=raw, remedy="write for example 0.25, without unit or quotes")
    if unit == "count" and (raw < 0 or raw != int(raw)):
        raise Refusal("a count: a whole number from 0 up", value=raw, remedy="write for example 0")
    return float(raw)
