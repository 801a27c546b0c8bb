"""The first manifest of a model that is adopted: at most fifteen lines, valid as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.release.adoption import ModelReference
from airflow_provider_mlpipex.domain.release.training import Task

#: By task, a gate that a model which is as good as the current one passes.
_GATES: dict[Task, str] = {
    "binary": "accuracy within 2% of the baseline",
    "multiclass": "accuracy within 2% of the baseline",
    "regression": "mae within 5% of the baseline",
}

_TEXT = """\
apiVersion: mlpipex/v1
kind: Deployment
name: {name}
owner: {{team: my-team, contact: my-team@example.com}}
model: {{adopt: {reference}}}
evaluation: {{{evaluation}}}
runtime: {{version: 1.0.0, environment: provider}}
traffic: {{expected_rate: 10/s}}
environments:
  production:
    provenance: recorded-as-missing
    gates: [{gates}]
    review: {{timeout: 24h}}
    canary: {{steps: [10%, 50%, 100%], step_duration: 10m, gates: [error rate at most 2% over 5 minutes]}}
    rollback: {{window: 1h, gates: [error rate at most 2% over 5 minutes]}}
"""


def adopting_manifest(name: str, reference: ModelReference, rows: dict[str, str], labels: dict[str, Any]) -> str:
    """YAML of an endpoint ``name`` that serves ``reference``, proven on ``rows`` (see :func:`rows_block`).

    :param labels: ``task`` and ``target``; empty where the rows have none.
    """
    evaluation = ", ".join(f"{field}: {_written(value)}" for field, value in {**rows, **labels}.items())
    gates = _GATES[labels["task"]] if labels else ""
    return _TEXT.format(name=name, reference=_written(reference.text), evaluation=evaluation, gates=gates)


def _written(text: str) -> str:
    """``text`` inside a flow mapping: quoted only where YAML would read something else."""
    import yaml

    plain = re.fullmatch(r"[A-Za-z0-9_./@:+-]+", text) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text)


def rows_block(rows: str, connection: str = "") -> dict[str, str]:
    """Where rows come from, of how it is written: a query where a connection is given, otherwise a function, the uri of
    an object, or a file."""
    if connection:
        return {"sql": rows, "connection": connection}
    if "://" in rows:
        return {"uri": rows}
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", rows):
        return {"callable": rows}
    return {"file": rows}


def labels_block(task: str, target: str) -> dict[str, Any]:
    """:raises ConfigurationInvalid: one is given without the other, or a task that does not exist."""
    if not task and not target:
        return {}
    if not (task and target) or task not in _GATES:
        raise ConfigurationInvalid(
            "--task, --target",
            value=", ".join(filter(None, (task, target))),
            limit=f"both or neither; a task of {', '.join(_GATES)}",
            remedy="write for example --task binary --target fraud",
        )
    return {"task": task, "target": target}


def name_of(reference: ModelReference) -> str:
    """A name for an endpoint: that of the registered model, as far as names go."""
    words = re.sub(r"[^a-z0-9]+", "-", reference.registered_model.lower()).strip("-")
    return words if re.match(r"[a-z]", words) else "my-model"


def free(path: Path) -> Path:
    """:raises ConfigurationInvalid: something stands there."""
    if path.exists():
        raise ConfigurationInvalid(
            f"file {path}",
            value="is there already",
            limit="a place where nothing is lost",
            remedy="name another folder, or another --name",
        )
    return path
