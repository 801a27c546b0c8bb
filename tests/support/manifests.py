"""A small valid manifest as text, and edits of it."""

from __future__ import annotations

from functools import cache

from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.validation.loading import load_manifest

FILE = "fraud.yaml"
MANIFEST = """\
apiVersion: mlpipex/v1
kind: Deployment
name: fraud-scorer
owner: {team: risk, contact: oncall@example.com}
model:
  name: fraud-scorer
  version: auto
training:
  callable: acme.fraud:train
  task: binary
  target: fraud
  predict_method: predict_proba
  parameters: {depth: 3}
runtime:
  version: 1.0.0
  environment: provider
data:
  source: acme.fraud:load
  time_column: at
  window: {train: 60d, evaluate: 30d}
quality:
  snapshot:
    - expect: column_values_to_not_be_null
      column: amount
      mostly: 0.99
features:
  columns: [amount, country]
traffic:
  expected_rate: 10/s
environments:
  staging:
    serve: false
    gates: [accuracy at least 60%]
  production:
    gates:
      - accuracy within 0.5% of the baseline
    review:
      auto_approve: [data]
      timeout: 24h
    shadow:
      fraction: 50%
      duration: 10m
      min_pairs: 500
      gates:
        - p95 latency under 120 ms
    canary:
      steps: [5%, 50%, 100%]
      step_duration: 15m
      gates:
        - zero critical errors in a 30-minute canary window
        - {name: errors, metric: canary.error_rate, max: 1%, min_samples: 100}
    rollback:
      window: 30m
      gates:
        - {name: failing, metric: serving.error_rate, max: 2%, window: 1m}
    alerts: {on: [rolled-back], channel: on-call}
"""


def edited(*edits: tuple[str, str]) -> str:
    """:data:`MANIFEST` with each first text, which must occur, replaced by the second."""
    text = MANIFEST
    for before, after in edits:
        assert before in text, f"nothing to edit: {before!r}"
        text = text.replace(before, after, 1)
    return text


@cache
def make_manifest(*edits: tuple[str, str]) -> Manifest:
    return load_manifest(edited(*edits), file=FILE)


def line_of(text: str, needle: str) -> int:
    """The line that ``needle`` stands on, from 1."""
    assert text.count(needle) == 1, f"{needle!r} occurs {text.count(needle)} times"
    return text[: text.index(needle)].count("\n") + 1
