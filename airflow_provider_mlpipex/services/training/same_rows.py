"""What an evaluation is known to: the counts and variances of one model's metrics, and of two models on the same rows.

:mod:`domain.statistics.same_rows` says what is made of them, and where the methods come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_mlpipex.domain.release.training import Task
from airflow_provider_mlpipex.domain.statistics.same_rows import MIN_ROWS, Covaried, Discordant, Estimated, Paired
from airflow_provider_mlpipex.domain.statistics.summaries import Counted
from airflow_provider_mlpipex.services.training.labels import class_labels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]

#: Draws of the bootstrap. Its standard errors are right to 3 %, of which a verdict does not hang.
DRAWS = 500
#: Draws of a million rows are fewer, so that no evaluation takes minutes.
_MAX_DRAWN = 50_000_000
_MIN_DRAWS = 100
#: The same rows give the same verdict.
_SEED = 20131231


class Answers(NamedTuple):
    """One model's answers for rows with labels, as ``evaluation.evaluate`` takes them.

    :param classes: labels in the order of the probability columns.
    """

    truth: Any
    answers: Any
    classes: Sequence[Any] | None


class Sampling(NamedTuple):
    """What one metric is known to: of the candidate by itself, and beside the baseline where there is one."""

    own: Counted | Estimated
    paired: Paired | None


class _Model(NamedTuple):
    """One model's answers as every metric needs them, one row each.

    :param said: place of the class that it says; of a regression the prediction.
    :param scores: probability of each class, one column a class; ``None`` without.
    """

    said: Any
    scores: Any


def sample(task: Task, metrics: Iterable[str], own: Answers, base: Answers | None) -> Mapping[str, Sampling]:
    """Counts and variances of ``metrics``; those that these rows do not define are left out.

    :param own: the candidate's answers; ``base`` those of the baseline for the very same rows.
    """
    import numpy as np

    truth, given = np.asarray(own.truth), [own] if base is None else [own, base]
    if task == "regression":
        target: Any = truth.astype(float)
        models = [_Model(np.asarray(each.answers, dtype=float).reshape(len(truth)), None) for each in given]
    elif task == "binary":
        target = (truth == _positive(own)).astype(int)
        models = [_of_two(each) for each in given]
    else:
        known = np.unique(np.concatenate([truth, *(np.asarray(each.classes) for each in given if each.classes)]))
        target = np.searchsorted(known, truth)
        models = [_of_many(each, known) for each in given]
    measured = {name: _sampling(name, target, models) for name in metrics}
    return {name: sampling for name, sampling in measured.items() if sampling is not None}


def _positive(model: Answers) -> Any:
    """The last class, as the evaluation has it."""
    return (class_labels(model.truth) if model.classes is None else list(model.classes))[-1]


def _of_two(model: Answers) -> _Model:
    import numpy as np

    answers = np.asarray(model.answers)
    if answers.ndim == 2:
        answers = answers[:, -1]
    elif answers.dtype.kind != "f" or set(answers.tolist()) <= {0.0, 1.0}:
        return _Model((answers == _positive(model)).astype(int), None)
    return _Model((answers >= 0.5).astype(int), np.column_stack([1.0 - answers, answers]))


def _of_many(model: Answers, known: Any) -> _Model:
    import numpy as np

    answers = np.asarray(model.answers)
    if answers.ndim == 1:
        return _Model(np.searchsorted(known, answers), None)
    scores = np.zeros((len(answers), len(known)))
    scores[:, np.searchsorted(known, known if model.classes is None else np.asarray(model.classes))] = answers
    return _Model(scores.argmax(axis=1), scores)


def _sampling(name: str, target: Any, models: Sequence[_Model]) -> Sampling | None:
    if name == "accuracy":
        return _shares([model.said == target for model in models])
    if name == "recall":
        return _shares([model.said[target == 1] == 1 for model in models])
    if name == "auc":
        return _ranking(target, models)
    measures = [_measure(name, target, model) for model in models]
    return None if any(measure is None for measure in measures) else _drawn(len(target), measures)


def _shares(right: Sequence[Flags]) -> Sampling:
    own = Counted(events=int(right[0].sum()), trials=len(right[0]))
    if len(right) == 1:
        return Sampling(own, None)
    mine, theirs = right
    return Sampling(
        own,
        Discordant(
            both=int((mine & theirs).sum()),
            only_candidate=int((mine & ~theirs).sum()),
            only_baseline=int((~mine & theirs).sum()),
            neither=int((~mine & ~theirs).sum()),
        ),
    )


def _ranking(target: Any, models: Sequence[_Model]) -> Sampling | None:
    """By DeLong's placements: of more than two classes, of the mean over one against the rest."""
    import numpy as np

    if any(model.scores is None for model in models):
        return None
    width = models[0].scores.shape[1]
    classes = [1] if width == 2 else list(range(width))
    sizes = [min(int((target == place).sum()), int((target != place).sum())) for place in classes]
    rows = 2 * min(sizes)
    if rows < MIN_ROWS:
        nothing = Covaried(rows=rows, variance=0.0, baseline_variance=0.0, covariance=0.0, by="delong")
        return Sampling(Estimated(rows=rows, variance=0.0), nothing if len(models) > 1 else None)
    influences = []
    for model in models:
        parts = [_influence(target == place, model.scores[:, place]) for place in classes]
        influences.append(np.mean(parts, axis=0))
    own = influences[0]
    if len(influences) == 1:
        return Sampling(Estimated(rows=rows, variance=float(own @ own)), None)
    base = influences[1]
    paired = Covaried(
        rows=rows,
        variance=float(own @ own),
        baseline_variance=float(base @ base),
        covariance=float(own @ base),
        by="delong",
    )
    return Sampling(Estimated(rows=rows, variance=paired.variance), paired)


def _influence(positive: Flags, scores: Numbers) -> Numbers:
    """By how much each row moves the area under the curve; their squares add up to DeLong's variance."""
    import numpy as np
    from scipy.stats import rankdata

    many, few = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(scores)
    above = (ranks[positive] - rankdata(scores[positive])) / few
    below = 1.0 - (ranks[~positive] - rankdata(scores[~positive])) / many
    moved = np.empty(len(scores))
    moved[positive] = (above - above.mean()) / np.sqrt(many * (many - 1))
    moved[~positive] = (below - below.mean()) / np.sqrt(few * (few - 1))
    return moved


#: A metric of rows that were drawn so many times each.
_Measure = Callable[["Numbers"], float]


def _measure(name: str, target: Any, model: _Model) -> _Measure | None:
    """:return: ``None`` where the model's answers do not define the metric."""
    import numpy as np

    if name in ("mae", "rmse", "bias", "r2"):
        return _of_errors(name, target, model.said - target)
    if name in ("precision", "f1"):
        said, right = (model.said == 1).astype(float), ((model.said == 1) & (target == 1)).astype(float)
        true = (target == 1).astype(float)
        if name == "precision":
            return lambda drawn: _part(drawn @ right, drawn @ said)
        return lambda drawn: _part(2.0 * (drawn @ right), drawn @ said + drawn @ true)
    if name == "f1_macro":
        width = int(max(target.max(), model.said.max())) + 1
        hit = model.said == target

        def f1_macro(drawn: Numbers) -> float:
            true, said = (np.bincount(each, drawn, width) for each in (target, model.said))
            right = np.bincount(target[hit], drawn[hit], width)
            present = true + said > 0
            return float((2.0 * right[present] / (true + said)[present]).mean())

        return f1_macro
    if model.scores is None or name not in ("log_loss", "brier"):
        return None
    if name == "brier":
        losses = (model.scores[:, -1] - (target == 1)) ** 2
    else:
        # As scikit-learn has it: rows add up to 1, and no probability is less than a rounding error.
        floor = np.finfo(float).eps
        shares = np.clip(model.scores / model.scores.sum(axis=1, keepdims=True), floor, 1.0 - floor)
        losses = -np.log(shares[np.arange(len(target)), target])
    return lambda drawn: float(drawn @ losses / drawn.sum())


def _of_errors(name: str, target: Numbers, errors: Numbers) -> _Measure:
    squares, sizes = errors**2, abs(errors)
    # About the middle, so that large targets lose no digits.
    level = target - target.mean()
    powers = level**2

    def r2(drawn: Numbers) -> float:
        rows = drawn.sum()
        spread = drawn @ powers - (drawn @ level) ** 2 / rows
        return 1.0 - float(drawn @ squares / spread) if spread > 0 else 0.0

    measures: dict[str, _Measure] = {
        "mae": lambda drawn: float(drawn @ sizes / drawn.sum()),
        "rmse": lambda drawn: float((drawn @ squares / drawn.sum()) ** 0.5),
        "bias": lambda drawn: float(drawn @ errors / drawn.sum()),
        "r2": r2,
    }
    return measures[name]


def _part(some: float, whole: float) -> float:
    return float(some / whole) if whole else 0.0


def _drawn(rows: int, measures: Sequence[_Measure | None]) -> Sampling:
    """Rows are drawn with what every model answered to them."""
    import numpy as np

    generator = np.random.default_rng(_SEED)
    draws = max(_MIN_DRAWS, min(DRAWS, _MAX_DRAWN // max(rows, 1)))
    drawn = np.empty((draws, len(measures)))
    for draw in range(draws):
        counts = np.bincount(generator.integers(0, rows, rows), minlength=rows).astype(float)
        drawn[draw] = [measure(counts) for measure in measures if measure is not None]
    varied = np.atleast_2d(np.cov(drawn, rowvar=False))
    own = Estimated(rows=rows, variance=float(varied[0, 0]))
    if len(measures) == 1:
        return Sampling(own, None)
    return Sampling(
        own,
        Covaried(
            rows=rows,
            variance=own.variance,
            baseline_variance=float(varied[1, 1]),
            covariance=float(varied[0, 1]),
            by="bootstrap",
        ),
    )
