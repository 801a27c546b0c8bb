"""The gates that a Dag declares beside those of its manifests, and the releases that they stand before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, MlpipexError
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.operators.base import ROLLOUT_ID

if TYPE_CHECKING:
    from airflow.sdk import Context


class DeclaredGate:
    """Mark of a task that judges a release by what it measures itself (``@task.gate``, ``QualityCheckOperator``).

    Whichever release of its endpoint its Dag carries needs its verdict, wherever in the file the two stand.
    ``gate``: ``False`` where the Dag file says that no release waits for it.
    """

    task_id: str
    rollout_id: str
    gate: bool = True

    def judged_endpoint(self, render: Callable[[str], str] = str) -> str:
        """``environment/name``.

        :param render: fills in templates, where a task is running.
        :raises MlpipexError: nobody can say it yet.
        """
        raise NotImplementedError


class OpensRollout:
    """Mark of the task that opens a rollout: the gates of its endpoint run before it.

    ``endpoint_hint``: ``environment/name`` where that is known when the Dag is parsed.
    """

    endpoint_hint: str | None = None

    def stage_endpoint(self) -> EndpointRef:
        """The endpoint whose rollout it opens."""
        raise NotImplementedError


def declared_gates(task: BaseOperator, endpoint: EndpointRef, context: Context) -> tuple[str, ...]:
    """Ids of the tasks that judge releases of ``endpoint`` in the Dag of ``task``, which is running.

    :raises ConfigurationInvalid: a gate of the Dag judges an endpoint that the Dag does not release: nobody would heed
        it. Or it is mapped.
    """
    tasks = list(_tasks_of(task))
    _refuse_mapped(tasks)
    released = {_opened(opening) for opening in tasks if isinstance(opening, OpensRollout)}
    declared = []
    for gate in tasks:
        if not isinstance(gate, DeclaredGate) or not gate.gate:
            continue
        judged = gate.judged_endpoint(lambda text: str(task.render_template(text, context)))
        if judged == str(endpoint):
            declared.append(gate.task_id)
        elif gate.rollout_id == ROLLOUT_ID and not released & {judged, None}:
            names = sorted(str(name) for name in released)
            near = get_close_matches(judged, names, n=1)
            raise ConfigurationInvalid(
                f"gate {gate.task_id}, endpoint",
                value=judged,
                limit=f"an endpoint that its Dag releases: {', '.join(names)}",
                remedy=f"did you mean {near[0]}?" if near else "name the endpoint whose release it judges",
            )
    return tuple(declared)


def releases_its_endpoint(task: BaseOperator, endpoint: EndpointRef) -> bool:
    """Whether the Dag of ``task``, which is running, releases ``endpoint``, so that its gates have a reader."""
    opened = {_opened(opening) for opening in _tasks_of(task) if isinstance(opening, OpensRollout)}
    return bool(opened & {str(endpoint), None})


def _opened(opening: OpensRollout) -> str | None:
    """``environment/name``; ``None`` where only the running task knows."""
    try:
        return opening.endpoint_hint or str(opening.stage_endpoint())
    except MlpipexError:
        return None


def put_gates_first(task: BaseOperator) -> None:
    """Let the declared gates of an endpoint run before its release, where ``task`` is one of the two."""
    tasks = list(_tasks_of(task))
    if isinstance(task, OpensRollout):
        _refuse_mapped(tasks)
    for other in tasks:
        if isinstance(task, DeclaredGate) and isinstance(other, OpensRollout) and _hinted(other, task):
            task.set_downstream(other)  # type: ignore[arg-type]  # a mark of operators
        elif isinstance(task, OpensRollout) and isinstance(other, DeclaredGate) and _hinted(task, other):
            task.set_upstream(other)  # type: ignore[arg-type]


def mapped_gate(task_id: str) -> ConfigurationInvalid:
    """The error for a gate of which nobody could say how many verdicts it owes."""
    return ConfigurationInvalid(
        f"gate {task_id}",
        value="a mapped task",
        limit="one verdict a gate",
        remedy="measure every slice in one task and return a metric for each; a quality check may say gate=False",
    )


def _refuse_mapped(tasks: Iterable[Any]) -> None:
    for other in tasks:
        made = getattr(other, "operator_class", None) if getattr(other, "is_mapped", False) else None
        if isinstance(made, type) and issubclass(made, DeclaredGate) and other.partial_kwargs.get("gate", True):
            raise mapped_gate(other.task_id)


def _hinted(opening: OpensRollout, gate: DeclaredGate) -> bool:
    if opening.endpoint_hint is None or not gate.gate:
        return False
    try:
        return opening.endpoint_hint == gate.judged_endpoint()
    except MlpipexError:
        return False  # a template, or a file that its own task refuses by name


def _tasks_of(task: BaseOperator) -> Iterator[Any]:
    dag = task.get_dag()
    return iter(list(dag.tasks) if dag is not None else [])
