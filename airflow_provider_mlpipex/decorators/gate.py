"""``@task.gate``: a team's own measurement, judged like any other gate, and as hard to get around."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory
from pydantic import TypeAdapter, ValidationError

from airflow_provider_mlpipex.domain.errors import GateFailed, GateUndecided, ManifestInvalid
from airflow_provider_mlpipex.domain.gates import judging
from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.manifest.manifest import OfflineGates
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.operators.base import ROLLOUT_ID, StageTask, is_template
from airflow_provider_mlpipex.operators.declared_gates import DeclaredGate, mapped_gate, put_gates_first

if TYPE_CHECKING:
    from airflow.sdk import Context

_GATES = TypeAdapter(OfflineGates)


class GateDecoratedOperator(DeclaredGate, StageTask, DecoratedOperator, PythonOperator):
    """Judges what the decorated function returns: metric -> number, or metric -> fields of :class:`Evidence`.

    The function returns ``samples`` beside its metrics, how many rows they were measured on: a number that rests on
    nothing passes no gate. The verdict stands in the ledger of ``endpoint``, and a rollout there by the same Dag run
    can neither open, step nor be promoted unless every gate that its Dag declares for the endpoint has passed.

    :param endpoint: ``environment/name`` whose release is judged.
    :param gates: as in a manifest, sentences or mappings: ``["auc at least 70% from at least 1000 rows"]``.
    :param rollout_id: the rollout that is judged; one a Dag run by default.
    :param mlpipex_conn_id: connection of type ``mlpipex``.
    :raises ConfigurationInvalid: when the Dag file is parsed: ``endpoint`` can name none.
    :raises ManifestInvalid: likewise: a gate that cannot be read, or none that has a say.
    """

    stage_name = "gate"
    custom_operator_name = "@task.gate"
    template_fields = (*PythonOperator.template_fields, "endpoint", "gates", "rollout_id")

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Sequence[Any],
        op_kwargs: Mapping[str, Any],
        endpoint: str,
        gates: Sequence[str | Mapping[str, Any]],
        rollout_id: str = ROLLOUT_ID,
        mlpipex_conn_id: str = MlpipexHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        # DecoratedOperator keeps these three for itself; PythonOperator, which comes after it, wants them as well.
        called: dict[str, Any] = {"python_callable": python_callable, "op_args": op_args, "op_kwargs": op_kwargs}
        super().__init__(kwargs_to_upstream=called, **called, **kwargs)
        self.endpoint = endpoint
        self.gates = gates
        self.rollout_id = rollout_id
        self.mlpipex_conn_id = mlpipex_conn_id
        self.check_endpoint()
        if not is_template(gates):
            read_gates(gates, where=f"@task.gate {self.task_id}")
        put_gates_first(self)

    def judged_endpoint(self, render: Callable[[str], str] = str) -> str:
        return render(self.endpoint)

    def stage_endpoint(self) -> EndpointRef:
        return EndpointRef.parse(self.endpoint)

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.rollout.task_gates import record_task_gate

        with self.in_stage(context) as run:
            if context["ti"].map_index is not None and context["ti"].map_index >= 0:
                raise mapped_gate(self.task_id)
            gates = read_gates(self.gates, where=f"@task.gate {self.task_id}")
            measured = super().execute(context)
            now = run.platform.clock.now()
            evidence = read_evidence(measured, gates, now=now)
            results = tuple(judging.judge(gate, evidence.get(gate.metric), now=now) for gate in gates)
            run.envelope.gates(results)
            run.push("gates", [result.to_json() for result in results])
            verdict = record_task_gate(
                run.platform, run.endpoint, rollout_id=self.rollout_id, gate=self.task_id, results=results
            )
            run.envelope.add(verdict=verdict)
            if verdict != "pass":
                stopped = [result for result in results if result.verdict != "pass" and not result.advisory]
                raise (GateFailed if verdict == "fail" else GateUndecided)(
                    f"@task.gate {self.task_id}",
                    value="; ".join(f"{result.gate} {result.verdict}: {result.reason}" for result in stopped),
                    limit="every gate passes",
                    remedy="see XCom 'gates' for observed value, threshold and margin",
                )
            return {"verdict": verdict, "gates": [result.gate for result in results]}


def read_gates(written: Sequence[str | Mapping[str, Any]], *, where: str) -> tuple[Gate, ...]:
    """:raises ManifestInvalid: a gate that cannot be read, or none that has a say."""
    try:
        gates = _GATES.validate_python(list(written))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise ManifestInvalid(
            where, value=problems, limit="gates as in a manifest", remedy="correct the gate named"
        ) from None
    if all(gate.advisory for gate in gates):
        raise ManifestInvalid(
            where,
            value="only advisory gates" if gates else "no gates",
            limit="at least one gate that has a say",
            remedy="state one, for example 'auc at least 70%'",
        )
    return gates


def read_evidence(measured: Any, gates: Sequence[Gate], *, now: datetime) -> dict[str, Evidence]:
    """Evidence by ``source.metric``.

    What the function did not measure stays out, and its gate is inconclusive. What it measured and cannot be read is
    *broken*, and its gate an error.
    """
    if measured is None:
        return {}
    evidence: dict[str, Evidence] = {}
    for gate in gates:
        metric = gate.metric.partition(".")[2]
        where = {"source": gate.source, "metric": metric, "since": now, "until": now}
        try:
            value = measured.get(gate.metric, measured.get(metric))
            if value is None:
                continue
            fields = value if isinstance(value, Mapping) else {"value": value, "samples": measured.get("samples", 0)}
            if isinstance(fields.get("value"), bool):
                raise TypeError
            evidence[gate.metric] = Evidence.model_validate({**where, **fields})
        except (AttributeError, TypeError, ValidationError) as error:
            returned = f"the function returned {measured!r:.80} for it ({type(error).__name__})"
            evidence[gate.metric] = Evidence.model_validate({**where, "broken": returned})
    return evidence


def gate_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """Turn a function that measures into a task that judges; see :class:`GateDecoratedOperator` for the parameters."""
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=GateDecoratedOperator,
        **kwargs,
    )
