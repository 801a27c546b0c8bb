"""``@task.gate``: a team's own measurement, judged like any other gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory
from airflow.sdk.exceptions import AirflowFailException
from pydantic import TypeAdapter, ValidationError

from airflow_provider_mlpipex.domain import gates as judging
from airflow_provider_mlpipex.domain.errors import GateFailed, GateUndecided, ManifestInvalid
from airflow_provider_mlpipex.domain.evidence import Evidence
from airflow_provider_mlpipex.domain.gates import Gate
from airflow_provider_mlpipex.domain.manifest import OfflineGates
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.operators.base import StageTask

if TYPE_CHECKING:
    from airflow.sdk import Context

_GATES = TypeAdapter(OfflineGates)


class GateDecoratedOperator(StageTask, DecoratedOperator, PythonOperator):
    """Judges what the decorated function returns: metric -> number, or metric -> fields of :class:`Evidence`.

    The function must return ``samples`` beside its metrics where a gate asks for a minimum.

    :param endpoint: ``environment/name`` whose ledger keeps the verdict.
    :param gates: as in a manifest, sentences or mappings: ``["auc at least 70% from at least 1000 rows"]``.
    :param mlpipex_conn_id: connection of type ``mlpipex``.
    """

    stage_name = "gate"
    custom_operator_name = "@task.gate"
    template_fields = (*PythonOperator.template_fields, "endpoint", "gates")

    def __init__(
        self,
        *,
        endpoint: str,
        gates: Sequence[str | Mapping[str, Any]],
        mlpipex_conn_id: str = MlpipexHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.gates = gates
        self.mlpipex_conn_id = mlpipex_conn_id

    def stage_endpoint(self) -> EndpointRef:
        return EndpointRef.parse(self.endpoint)

    def execute(self, context: Context) -> dict[str, Any]:
        gates = read_gates(self.gates, where=f"@task.gate {self.task_id}")
        measured = super().execute(context)
        with self.in_stage(context) as run:
            now = run.platform.clock.now()
            evidence = read_evidence(measured, gates, now=now)
            results = tuple(judging.judge(gate, evidence.get(gate.metric), now=now) for gate in gates)
            verdict = judging.overall(results)
            run.envelope.gates(results)
            run.envelope.add(verdict=verdict)
            run.push("gates", [result.to_json() for result in results])
            if verdict != "pass":
                raise (GateFailed if verdict == "fail" else GateUndecided)(
                    f"@task.gate {self.task_id}",
                    value="; ".join(f"{r.gate} {r.verdict}: {r.reason}" for r in results if r.verdict != "pass"),
                    limit="every gate passes",
                    remedy="see XCom 'gates' for observed value, threshold and margin",
                )
            return {"verdict": verdict, "gates": [result.gate for result in results]}


def read_gates(written: Sequence[str | Mapping[str, Any]], *, where: str) -> tuple[Gate, ...]:
    """:raises AirflowFailException: a gate that cannot be read, or none at all."""
    try:
        gates = _GATES.validate_python(list(written))
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        invalid = ManifestInvalid(where, value=found, limit="gates as in a manifest", remedy="correct the gate named")
        raise AirflowFailException(str(invalid)) from None
    if not gates:
        invalid = ManifestInvalid(where, value="no gates", limit="at least one", remedy="a gate that is not stated")
        raise AirflowFailException(str(invalid))
    return gates


def read_evidence(measured: Any, gates: Sequence[Gate], *, now: Any) -> dict[str, Evidence]:
    """Evidence by ``source.metric``; what the function did not measure stays out, and its gate is inconclusive."""
    if not isinstance(measured, Mapping):
        return {}
    samples = int(measured.get("samples", 1))
    found: dict[str, Evidence] = {}
    for gate in gates:
        metric = gate.metric.partition(".")[2]
        value = measured.get(gate.metric, measured.get(metric))
        if value is None:
            continue
        fields = dict(value) if isinstance(value, Mapping) else {"value": float(value), "samples": samples}
        found[gate.metric] = Evidence.model_validate(
            {"source": gate.source, "metric": metric, "since": now, "until": now, **fields}
        )
    return found


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
