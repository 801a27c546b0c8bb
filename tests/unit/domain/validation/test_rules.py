"""Manifests whose every field is well-formed, but which could never work or never stop anything."""

from __future__ import annotations

import pytest

from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.validation.loading import load_manifest
from airflow_provider_mlpipex.domain.validation.rules import cautions
from tests.support.manifests import FILE, edited, line_of, make_manifest

STAGING, PRODUCTION = "environments.staging", "environments.production"
SHADOW, CANARY, ROLLBACK = (f"{PRODUCTION}.{stage}" for stage in ("shadow", "canary", "rollback"))
DRIFT = f"{PRODUCTION}.drift"
ZERO = "zero critical errors in a 30-minute canary window"
ERRORS = "{name: errors, metric: canary.error_rate, max: 1%, min_samples: 100}"
FAILING = "{name: failing, metric: serving.error_rate, max: 2%, window: 1m}"
OFFLINE = "accuracy within 0.5% of the baseline"
RISING = "steps: [5%, 50%, 100%]"


def instead_of(gate: str, spec: str) -> tuple[str, str]:
    return gate, f"{{name: other, {spec}}}"


def drifting(block: str) -> tuple[str, str]:
    return "    alerts: {on", f"    drift: {{{block}}}\n    alerts: {{on"


# (edits, text on the line that is told, field, what it says)
REFUSALS = [
    # what is trained
    ([("training:\n  callable: acme.fraud:train\n  task: binary\n  target: fraud\n  predict_method: predict_proba\n"
       "  parameters: {depth: 3}\n", "")], "apiVersion", "training", "add a training block"),
    ([("[amount, country]", "[amount, fraud]")], "columns:", "features.columns[1]", "must not contain training.target"),
    ([("[amount, country]", "[amount, amount]")], "columns:", "features.columns[1]", "each column once"),
    # what is judged
    ([("features:\n", "  features:\n    - {expect: column_values_to_be_null, column: amuont}\nfeatures:\n")], "amuont",
     "quality.features[0].column", "did you mean amount?"),
    ([("features:\n", "  predictions:\n    - {expect: column_values_to_be_null, column: scor}\nfeatures:\n")], "scor}",
     "quality.predictions[0].column", "did you mean score?"),
    ([("features:\n", "  predictions:\n    - {expect: column_values_to_be_null, column: score}\nfeatures:\n"),
      ("[amount, country]", "[amount, score]")], "predictions:", "quality.predictions", "rename the feature"),
    ([(OFFLINE, "quality success_share at least 95%"),
      ("  snapshot:\n", "  predictions:\n")],
     "success_share", f"{PRODUCTION}.gates[0]", "nothing that it could judge"),
    # durations of nothing
    ([("train: 60d", "train: 0d")], "train: 0d", "data.window.train", "longer than nothing"),
    ([("evaluate: 30d", "evaluate: 0s")], "evaluate: 0s", "data.window.evaluate", "longer than nothing"),
    ([("time_column: at", "time_column: at\n  max_age: 0d")], "max_age", "data.max_age", "longer than nothing"),
    ([("10/s", "10/s\n  timeout: 0s")], "timeout: 0s", "traffic.timeout", "longer than nothing"),
    ([("10/s", "10/s\n  lease: 0s")], "lease: 0s", "traffic.lease", "longer than nothing"),
    ([("10/s", "10/s\n  lease: 29s")], "lease: 29s", "traffic.lease", "at least 30s"),
    ([("timeout: 24h", "timeout: 0h")], "timeout: 0h", f"{PRODUCTION}.review.timeout", "longer than nothing"),
    ([("duration: 10m", "duration: 0m")], "duration: 0m", f"{SHADOW}.duration", "longer than nothing"),
    ([("step_duration: 15m", "step_duration: 0m")], "step_duration", f"{CANARY}.step_duration", "longer than nothing"),
    ([("window: 30m", "window: 0m")], "window: 0m", f"{ROLLBACK}.window", "longer than nothing"),
    ([("window: 1m", "window: 0m")], "window: 0m", f"{ROLLBACK}.gates[0].window", "longer than nothing"),
    ([("max: 1%", "max: 1%, max_age: 1h")], "max_age", f"{CANARY}.gates[1].max_age", "ends at the look itself"),
    ([("max: 1%", "max: 1%, max_age: 0s")], "max_age", f"{CANARY}.gates[1].max_age", "longer than nothing"),
    # review
    ([("[data]", "[data, model]")], "auto_approve", f"{PRODUCTION}.review.auto_approve", "not by both"),
    # offline gates
    ([(f"gates:\n      - {OFFLINE}",
       "gates: # these\n      - {name: it, metric: evaluation.auc, min: 60%, advisory: true}")], "these",
     f"{PRODUCTION}.gates", "only advisory gates"),
    ([instead_of(OFFLINE, "metric: evaluation.rmse, max: 3")], "rmse", f"{PRODUCTION}.gates[0]",
     "a binary task yields"),
    ([("predict_proba", "predict"), instead_of(OFFLINE, "metric: evaluation.auc, min: 60%")], "evaluation.auc",
     f"{PRODUCTION}.gates[0]", "predict_method is predict"),
    ([instead_of(OFFLINE, "metric: evaluation.auc, min: 60%, window: 31d")], "31d", f"{PRODUCTION}.gates[0].window",
     "at most 30d"),
    # gates in the wrong block
    ([instead_of(OFFLINE, "metric: canary.error_rate, max: 1%")], "name: other", f"{PRODUCTION}.gates[0].metric",
     "evaluation or baseline"),
    ([("p95 latency under 120 ms", "canary p95 latency under 120 ms")], "canary p95", f"{SHADOW}.gates[0].metric",
     "evidence of shadow"),
    ([instead_of(ERRORS, "metric: serving.error_rate, max: 1%")], "name: other", f"{CANARY}.gates[1].metric",
     "evidence of canary"),
    ([instead_of(FAILING, "metric: canary.error_rate, max: 1%")], "name: other", f"{ROLLBACK}.gates[0].metric",
     "evidence of serving or drift"),
    ([instead_of(ERRORS, "metric: drift.worst_psi, max: 0.2")], "name: other", f"{CANARY}.gates[1].metric",
     "evidence of canary"),
    ([instead_of(OFFLINE, "metric: drift.worst_psi, max: 0.2")], "name: other", f"{PRODUCTION}.gates[0].metric",
     "evidence of evaluation"),
    ([instead_of(FAILING, "metric: drift.worst_psi, min: 0.2")], "name: other", f"{ROLLBACK}.gates[0]",
     "write max"),
    ([instead_of(FAILING, "metric: drift.worst_ks, max: 1")], "name: other", f"{ROLLBACK}.gates[0]",
     "a distance from 0 to 1"),
    ([instead_of(FAILING, "metric: drift.damage, max: 0")], "name: other", f"{ROLLBACK}.gates[0]", "more than 0"),
    ([instead_of(FAILING, "metric: drift.worst_psi, max: 0.2, window: 59s")], "59s", f"{ROLLBACK}.gates[0].window",
     "counted by the minute"),
    ([instead_of(FAILING, "metric: drift.worst_psi, max: 0.2, window: 31m")], "31m", f"{ROLLBACK}.gates[0].window",
     "at most 30m"),
    # what is not measured yet, by name
    ([instead_of(FAILING, "metric: prometheus.up, max: 1%")], "prometheus.up", f"{ROLLBACK}.gates[0].metric",
     "Prometheus as a source of gates is not there yet"),
    ([(OFFLINE, "prometheus error rate at most 1%")], "prometheus error", f"{PRODUCTION}.gates[0].metric",
     "@task.gate"),
    # gates of one name
    ([instead_of(ERRORS, "metric: canary.error_rate, max: 1%"), (ZERO, "{name: other, metric: canary.latency_p99, "
      "max: 1s}")], "canary.error_rate", f"{CANARY}.gates[1].name", "differ within a block"),
    # gates that cannot say both yes and no
    ([("max: 1%", "max: 100%")], "max: 100%", f"{CANARY}.gates[1]", "tighten the threshold"),
    ([("max: 1%", "max: -1%")], "max: -1%", f"{CANARY}.gates[1]", "correct the threshold"),
    ([("at least 60%", "at least 0%")], "at least 0%", f"{STAGING}.gates[0]", "tighten the threshold"),
    ([("at least 60%", "at least 160%")], "at least 160%", f"{STAGING}.gates[0]", "correct the threshold"),
    ([("within 0.5%", "within 100%")], "within 100%", f"{PRODUCTION}.gates[0]", "below 100%"),
    ([instead_of("p95 latency under 120 ms", "metric: shadow.pairs, min: 0")], "pairs, min", f"{SHADOW}.gates[0]",
     "tighten the threshold"),
    # shadow
    ([("fraction: 50%", "fraction: 0%")], "fraction: 0%", f"{SHADOW}.fraction", "from 0.01% to 100%"),
    ([("fraction: 50%", "fraction: 150%")], "fraction: 150%", f"{SHADOW}.fraction", "from 0.01% to 100%"),
    ([("min_pairs: 500", "min_pairs: 3001")], "min_pairs", f"{SHADOW}.min_pairs", "lengthen shadow.duration to 10m1s"),
    ([("duration: 10m", "duration: 1m")], "min_pairs", f"{SHADOW}.min_pairs", "bring 300"),
    ([instead_of("p95 latency under 120 ms", "metric: shadow.agreement, min: 9%, min_samples: 6000")], "6000",
     f"{SHADOW}.gates[0].min_samples", "lengthen shadow.duration to 20m"),
    ([("under 120 ms", "under 120 ms over 11m")], "over 11m", f"{SHADOW}.gates[0].window", "at most 10m"),
    ([("gates:\n        - p95 latency under 120 ms\n", "gates: []\n")], "gates: []", f"{SHADOW}.gates",
     "a shadow needs a signal"),
    ([("min_pairs: 500", "min_pairs: 500\n      slices: [contry]")], "slices:", f"{SHADOW}.slices[0]",
     "did you mean country?"),
    ([("min_pairs: 500", "min_pairs: 500\n      slices: [fraud]")], "slices:", f"{SHADOW}.slices[0]",
     "a model input: amount, country"),
    ([("min_pairs: 500", "min_pairs: 500\n      slices: [amount, amount]")], "slices:", f"{SHADOW}.slices[1]",
     "each column once"),
    ([("[amount, country]", "[amount, country, a, b, c, d, e, f, g]"),
      ("min_pairs: 500", "min_pairs: 500\n      slices: [amount, country, a, b, c, d, e, f, g]")],
     "slices:", f"{SHADOW}.slices", "at most 8"),
    ([("p95 latency under 120 ms", "worst slice flip rate under 10%")], "worst slice", f"{SHADOW}.gates[0]",
     "there is no worst one"),
    # canary
    ([(RISING, "steps: [5%, 5%, 100%]")], "steps:", f"{CANARY}.steps[1]", "more than the step before, 5%"),
    ([(RISING, "steps: [5%, 4%, 100%]")], "steps:", f"{CANARY}.steps[1]", "let the steps rise"),
    ([(RISING, "steps: [50%, 50.001%, 100%]")], "steps:", f"{CANARY}.steps[1]", "more than the step before"),
    ([(RISING, "steps: [5%, 50%, 90%]")], "steps:", f"{CANARY}.steps[2]", "the last step is 100%"),
    ([(RISING, "steps: [0%, 50%, 100%]")], "steps:", f"{CANARY}.steps[0]", "from 0.01% to 100%"),
    ([(RISING, "steps: [-5%, 50%, 100%]")], "steps:", f"{CANARY}.steps[0]", "from 0.01% to 100%"),
    ([(RISING, "steps: [50%, 100%, 110%]")], "steps:", f"{CANARY}.steps[2]", "from 0.01% to 100%"),
    ([("min_samples: 100", "min_samples: 451")], "451", f"{CANARY}.gates[1].min_samples", "step_duration to 15m2s"),
    ([("max: 1%, min_samples: 100", "max: 1%, window: 40m, min_samples: 13501")], "13501",
     f"{CANARY}.gates[1].min_samples", "over all steps"),
    ([("30-minute canary", "46-minute canary")], "46-minute", f"{CANARY}.gates[0].window", "at most 45m"),
    ([instead_of(ERRORS, "metric: canary.latency_p95, within: 10%, min_samples: 451")], "451",
     f"{CANARY}.gates[1].min_samples", "bring 450 of the current release"),
    ([instead_of(ERRORS, "metric: canary.latency_p95, within: 10%, window: 20m, min_samples: 13501")], "13501",
     f"{CANARY}.gates[1].min_samples", "bring 13500 of the current release"),
    ([(f"gates:\n        - {ZERO}\n", "gates: # these\n"), ("max: 1%", "max: 1%, advisory: true")], "these",
     f"{CANARY}.gates", "only advisory gates"),
    # rollback
    ([(f"gates:\n        - {FAILING}\n", "gates: []\n")], "gates: []", f"{ROLLBACK}.gates",
     "a rollback needs a signal"),
    ([(f"gates:\n        - {FAILING}", "gates: # these\n        - " + FAILING.replace("1m", "1m, advisory: true"))],
     "these", f"{ROLLBACK}.gates", "only advisory gates"),
    ([("window: 1m", "window: 31m")], "31m", f"{ROLLBACK}.gates[0].window", "at most 30m"),
    ([("window: 1m", "window: 1m, min_samples: 601")], "601", f"{ROLLBACK}.gates[0].min_samples",
     "widen the window to 1m1s"),
    ([(f"    rollback:\n      window: 30m\n      gates:\n        - {FAILING}\n", "")], "production:",
     f"{PRODUCTION}.rollback", "must be able to go back"),
    # gates that could not decide anything in their stage
    ([("step_duration: 15m", "step_duration: 2s")], "name: errors", f"{CANARY}.gates[1]",
     "2s at 10/s and 5% bring 1: not enough to fail even if every one of them were bad"),
    ([("step_duration: 15m", "step_duration: 2s")], "name: errors", f"{CANARY}.gates[1]",
     "lengthen canary.step_duration to 4s"),
    ([("duration: 10m", "duration: 100ms")], "under 120", f"{SHADOW}.gates[0]", "lengthen shadow.duration to 1s"),
    ([("window: 1m", "window: 100ms")], "window: 100ms", f"{ROLLBACK}.gates[0]", "lengthen the window to 1s"),
    ([("step_duration: 15m", "step_duration: 15m\n      ignore_first: 5m")], "ignore_first", f"{CANARY}.ignore_first",
     "at most a quarter of the shortest stage (15m)"),
    ([("max: 1%, min_samples: 100", "max: 1%, detects: 1%")], "detects", f"{CANARY}.gates[1].detects",
     "15m at 10/s and 5% bring 450, but this gate needs about"),
    ([("max: 1%, min_samples: 100", "max: 1%, detects: 1%")], "detects", f"{CANARY}.gates[1].detects",
     "lengthen canary.step_duration to 1h"),
    ([("max: 1%, min_samples: 100", "max: 1%, window: 40m, detects: 0.2%")], "detects", f"{CANARY}.gates[1].detects",
     "lengthen canary.step_duration to 57m"),
    ([("max: 2%, window: 1m", "max: 2%, window: 1m, detects: 1%")], "detects", f"{ROLLBACK}.gates[0].detects",
     "lengthen the window to"),
    ([instead_of("p95 latency under 120 ms", "metric: shadow.latency_p99, max: 1s, detects: 10ms"),
      ("duration: 10m", "duration: 2m")], "name: other", f"{SHADOW}.gates[0].detects", "lengthen shadow.duration to"),
    ([("max: 1%, min_samples: 100", "max: 60%, detects: 50%")], "detects", f"{CANARY}.gates[1].detects",
     "an excess that can be measured"),
    ([instead_of(FAILING, "metric: serving.latency_p95, max: 0ms")], "name: other", f"{ROLLBACK}.gates[0]",
     "lets a candidate pass"),
    ([("  expected_rate: 10/s", "  timeout: 2s"), ("min_pairs: 500", "min_pairs: 1"),
      (", min_samples: 100", ", detects: 5%")], "traffic:", "traffic.expected_rate", "checked against a rate"),
    ([("    review:\n", "    false_alarms: 0%\n    review:\n")], "false_alarms", f"{PRODUCTION}.false_alarms", "> 0"),
    ([("    review:\n", "    false_alarms: 100%\n    review:\n")], "false_alarms", f"{PRODUCTION}.false_alarms", "< 1"),
    # exposure budget instead of a clock
    ([("step_duration: 15m", "exposure: {max_bad: 20, effect: 1%}"), (ZERO, "at most 900 critical errors")],
     "exposure:", f"{CANARY}.exposure.max_bad", "errors finds an excess of 1% after about"),
    ([("step_duration: 15m", "exposure: {max_bad: 20, effect: 1%}"), (ZERO, "at most 900 critical errors")],
     "exposure:", f"{CANARY}.exposure.max_bad", "or let effect be"),
    ([("step_duration: 15m", "exposure: {max_bad: 1, effect: 1%}"), (ZERO, "at most 900 critical errors")],
     "exposure:", f"{CANARY}.exposure.max_bad", "| do: allow"),
    ([("step_duration: 15m", "exposure: {max_bad: 100, effect: 5%}"), (ZERO, "at most 900 critical errors"),
      ("10/s", "5000/s")], "exposure:", f"{CANARY}.exposure.max_bad", "until the next look and the revert (2s)"),
    ([("step_duration: 15m", "exposure: {max_bad: 100, effect: 5%}"), (ZERO, "at most 900 critical errors"),
      ("10/s", "5000/s")], "exposure:", f"{CANARY}.exposure.max_bad", "or begin with 0."),
    ([("step_duration: 15m", "exposure: {max_bad: 100, effect: 5%}"), (ZERO, "at most 900 critical errors"),
      ("  expected_rate: 10/s", "  timeout: 2s"), ("min_pairs: 500", "min_pairs: 1"), (", min_samples: 100", "")],
     "traffic:", "traffic.expected_rate", "how long an exposure budget makes the steps"),
    ([("step_duration: 15m", "exposure: {max_bad: 100, effect: 5%}"), (f"        - {ZERO}\n", ""),
      ("max: 1%, min_samples: 100", "within: 10%, window: 1s")], "exposure:", f"{CANARY}.exposure",
     "a binding gate that finds bad predictions by itself"),
    ([("step_duration: 15m", "exposure: {max_bad: 100, effect: 5%}")], "30-minute", f"{CANARY}.gates[0].window",
     "the whole canary"),
    ([("step_duration: 15m", "exposure: {max_bad: 100, effect: 5%}"), (ZERO, "at most 900 critical errors"),
      ("max: 1%, min_samples: 100", "max: 1%, detects: 0.1%")], "detects", f"{CANARY}.gates[1].detects",
     "a smaller exposure.effect"),
    ([("step_duration: 15m", "exposure: {max_bad: 100, effect: 5%}\n      step_duration: 15m")], "canary:",
     f"{CANARY}", "exactly one of step_duration, exposure"),
    ([("      step_duration: 15m\n", "")], "canary:", f"{CANARY}", "exactly one of step_duration, exposure"),
    ([("step_duration: 15m", "exposure: {max_bad: 0, effect: 5%}")], "exposure:", f"{CANARY}.exposure.max_bad", "≥ 1"),
    ([("step_duration: 15m", "exposure: {max_bad: 9, effect: 0%}")], "exposure:", f"{CANARY}.exposure.effect", "> 0"),
    # control arm
    ([instead_of(FAILING, "metric: serving.error_rate, within: 20%")], "name: other", f"{ROLLBACK}.gates[0]",
     "let the previous release keep a share with control: 1%"),
    ([("window: 30m", "window: 30m\n      control: 60%")], "control: 60%", f"{ROLLBACK}.control", "from 0.01% to 50%"),
    ([("window: 30m", "window: 30m\n      control: 0%")], "control: 0%", f"{ROLLBACK}.control", "from 0.01% to 50%"),
    ([("window: 30m", "window: 30m\n      control: 1%"), ("max: 2%, window", "max: 2%, on_fail: revert, window")],
     "on_fail", f"{ROLLBACK}.gates[0].on_fail", "give control a larger share"),
    ([("max: 1%, min_samples: 100", "max: 1%, on_fail: revert")], "on_fail", f"{CANARY}.gates[1]",
     "on_fail is for gates of a watch"),
    ([("window: 30m", "window: 30m\n      control: 1%"), instead_of(FAILING,
      "metric: serving.error_rate, within: 20%, min_samples: 181")], "name: other", f"{ROLLBACK}.gates[0].min_samples",
     "bring 180 of the control arm"),
    # traffic and serving
    ([("  expected_rate: 10/s", "  timeout: 2s")], "traffic:", "traffic.expected_rate", "declare the rate"),
    ([("serve: false", "serve: false\n    rollback: {window: 1m, gates: [p95 latency under 1s]}")],
     "rollback: {window", f"{STAGING}.rollback", "serves nobody"),
    # drift
    ([("serve: false", "serve: false\n    drift: {window: 1h}")], "drift: {", f"{STAGING}.drift", "serves nobody"),
    ([drifting("window: 0m")], "drift: {", f"{DRIFT}.window", "at least 1m"),
    ([drifting("window: 59s")], "drift: {", f"{DRIFT}.window", "counted by the minute"),
    ([drifting("limits: {}")], "drift: {", f"{DRIFT}.limits", "at least 1 of them"),
    ([drifting("limits: {pssi: 0.2}")], "drift: {", f"{DRIFT}.limits.pssi", "did you mean psi?"),
    ([drifting("limits: {psi: 0}")], "drift: {", f"{DRIFT}.limits.psi", "> 0"),
    ([drifting("limits: {psi: -0.1}")], "drift: {", f"{DRIFT}.limits.psi", "> 0"),
    ([drifting("limits: {psi: .inf}")], "drift: {", f"{DRIFT}.limits.psi", "a finite number"),
    ([drifting("limits: {ks: 1}")], "drift: {", f"{DRIFT}.limits.ks", "a distance from 0 to 1"),
    ([drifting("limits: {jensen_shannon: 1.5}")], "drift: {", f"{DRIFT}.limits.jensen_shannon", "below 1"),
    ([drifting("damage: -0.1")], "drift: {", f"{DRIFT}.damage", "≥ 0"),
    ([drifting("alpha: 0%")], "drift: {", f"{DRIFT}.alpha", "> 0"),
    ([drifting("alpha: 100%")], "drift: {", f"{DRIFT}.alpha", "< 1"),
    ([drifting("max_dropped: 100%")], "drift: {", f"{DRIFT}.max_dropped", "< 1"),
    ([drifting("season: day, cycle: false")], "drift: {", f"{DRIFT}.season", "have no season"),
    ([drifting("season: month")], "drift: {", f"{DRIFT}.season", "day"),
    ([drifting("season: week"), ("evaluate: 30d", "evaluate: 13d")], "drift: {", f"{DRIFT}.season", "at least 14d"),
]  # fmt: skip


@pytest.mark.parametrize(("edits", "on_line", "field", "says"), REFUSALS, ids=[f"{r[2]} {r[3][:24]}" for r in REFUSALS])
def test_what_can_never_work_is_refused(edits: list[tuple[str, str]], on_line: str, field: str, says: str) -> None:
    text = edited(*edits)
    with pytest.raises(ManifestInvalid) as refused:
        load_manifest(text, file=FILE)
    start = f"{FILE}:{line_of(text, on_line)}: {field}: "
    told = [problem for problem in refused.value.problems if problem.startswith(start) and says in problem]
    assert len(told) == 1, refused.value.problems


@pytest.mark.parametrize(
    "edits",
    [
        [("min_pairs: 500", "min_pairs: 3000")],
        [("min_samples: 100", "min_samples: 450")],
        [("max: 1%, min_samples: 100", "max: 1%, window: 40m, min_samples: 13500")],
        [instead_of(ERRORS, "metric: canary.latency_p95, within: 10%, window: 20m, min_samples: 13500")],
        [("window: 1m", "window: 1m, min_samples: 600")],
        [("30-minute canary", "45-minute canary")],
        [("under 120 ms", "under 120 ms over 10m")],
        [
            ("p95 latency under 120 ms", "worst slice flip rate under 10%"),
            ("min_pairs: 500", "min_pairs: 500\n      slices: [country]"),
        ],
        [(RISING, "steps: [100%]"), ("30-minute canary", "15-minute canary")],
        [(RISING, "steps: [0.01%, 100%]"), ("step_duration: 15m", "step_duration: 100000s")],
        [("  version: auto", "  version: 1.1.0")],
        [("max: 1%, min_samples: 100", "max: 1%, detects: 6%")],
        [("max: 1%, min_samples: 100", "max: 1%, detects: 0.2%"), ("step_duration: 15m", "step_duration: 60h")],
        [("    review:\n", "    false_alarms: 0.1%\n    review:\n")],
        [("window: 30m", "window: 30m\n      control: 50%")],
        [("step_duration: 15m", "exposure: {max_bad: 100, effect: 5%}"), (ZERO, "at most 900 critical errors")],
        [("step_duration: 15m", "exposure: {max_bad: 10, effect: 5%}"), (ZERO, "zero critical errors")],
        [
            ("window: 30m", "window: 30m\n      control: 1%"),
            instead_of(FAILING, "metric: serving.error_rate, within: 20%, min_samples: 180"),
        ],
        [drifting("window: 1m, limits: {psi: 0.001, ks: 0.999, wasserstein: 3}, damage: 0, max_dropped: 0%")],
        [drifting("")],
        [instead_of(FAILING, "metric: drift.worst_psi, max: 0.2, window: 1m")],
        [(FAILING, "drift damage at most 0.1 over 30 minutes")],
    ],
)
def test_the_very_limit_is_allowed(edits: list[tuple[str, str]]) -> None:
    assert make_manifest(*edits)


@pytest.mark.parametrize(
    ("block", "evaluate", "says"),
    [
        ("window: 6h", "30d", []),
        ("window: 6h", "6d", ["shorter than a day"]),
        ("window: 6h, season: none", "30d", ["shorter than a day"]),
        ("window: 6h, season: day", "30d", []),
        ("window: 1d", "30d", []),
        ("", "30d", []),
        ("window: 2d", "7d", ["longer than a quarter of the reference (7d)"]),
        ("window: 1d", "4d", []),
    ],
)
def test_what_works_less_well_than_it_looks_is_said(block: str, evaluate: str, says: list[str]) -> None:
    manifest = make_manifest(drifting(block), ("evaluate: 30d", f"evaluate: {evaluate}"))
    found = [caution for caution in cautions(manifest) if caution.path[-2:] == ("drift", "window")]
    assert len(found) == len(says)
    assert all(words in caution.limit for caution, words in zip(found, says, strict=True))


def test_a_bare_percentage_that_could_be_read_both_ways_is_said_with_both_numbers() -> None:
    offline = "{name: ranking, metric: evaluation.auc, within: 0.5%}"
    (caution,) = cautions(make_manifest((OFFLINE, offline)))
    assert caution.path == ("environments", "production", "gates", 0, "within")
    assert "0.5% of the baseline, which is 79.6% beside a baseline of 80%; 0.5 points would be 79.5%" in caution.limit
    for spelled_out in ("0.5% of the baseline", "0.5 points"):
        assert not cautions(make_manifest((OFFLINE, offline.replace("0.5%", spelled_out))))


def test_a_pinned_version_needs_no_training_but_then_no_comparison() -> None:
    training = (
        "training:\n  callable: acme.fraud:train\n  task: binary\n  target: fraud\n"
        "  predict_method: predict_proba\n  parameters: {depth: 3}\n"
    )
    pinned = [("  version: auto", "  version: 1.1.0"), (training, "")]
    assert make_manifest(*pinned, (OFFLINE, "accuracy at least 60%")).training is None
    with pytest.raises(ManifestInvalid, match="needs the task and the target"):
        make_manifest(*pinned)


def test_a_loaded_manifest_may_be_read_again_although_rules_have_changed() -> None:
    """Rules bind at loading; what the ledger holds was valid when it was written and must stay readable."""
    manifest = make_manifest()
    payload = manifest.to_json()
    payload["environments"]["production"]["rollback"] = None
    assert type(manifest).model_validate(payload).environments["production"].rollback is None
