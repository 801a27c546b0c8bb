"""Alert rules of a manifest, by Prometheus' own checker: what fires, when, and what stays quiet."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_mlpipex.domain.planning.alert_rules import alert_rules
from airflow_provider_mlpipex.manifest_files import load_manifest_file
from tests.support.manifests import make_manifest
from tests.support.prometheus import promtool
from tests.support.terminal import answer, run

MANIFESTS = Path(__file__).parents[3] / "dags" / "manifests"
FILES = sorted(MANIFESTS.glob("*.yaml"))
ROLLBACK = (
    "rollback:\n      window: 30m\n      control: 10%\n      gates:\n"
    "        - {name: failing, metric: serving.error_rate, max: 2%, window: 2m, min_samples: 100}\n"
    "        - {name: slow, metric: serving.latency_p95, max: 150ms, window: 2m, min_samples: 100}\n"
    "        - {name: any-error, metric: serving.critical_errors, max: 0, window: 2m, advisory: true}\n"
    "        - {name: beside, metric: serving.latency_p50, within: 10% of the baseline, window: 2m}"
)
BEFORE = (
    "rollback:\n      window: 30m\n      gates:\n"
    "        - {name: failing, metric: serving.error_rate, max: 2%, window: 1m}"
)
LABELS = 'environment="production",endpoint="fraud-scorer",role="current"'
RELEASE = "1.0.0-rt1.0.0-aaaaaaaa"
INFO = f'mlpipex_release_info{{{LABELS},release="{RELEASE}",model_version="1.0.0",runtime_version="1.0.0"}}'
UP = f'mlpipex_model_server_up{{environment="production",endpoint="fraud-scorer",release="{RELEASE}"}}'


def test_there_are_manifests() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_promtool_takes_the_rules_of_every_manifest(file: Path, tmp_path: Path) -> None:
    written = tmp_path / "rules.yml"
    written.write_text(run("rules", str(file)).stdout)
    assert "SUCCESS" in promtool("check", "rules", str(written))
    groups, _ = alert_rules(load_manifest_file(file))
    assert yaml.safe_load(written.read_text()) == groups


def fired(tmp_path: Path, *, errors: float, quick: float = 1.0, up: str = "1x10", info: str = "1x10") -> set[str]:
    """Gates, or names, of what fires after ten minutes.

    :param errors: share of ten requests a second. :param quick: share of them that took less than 0.1 s; the others
        took up to 0.25 s. :param up: the release's process; ``info``: whether the plane is scraped.
    """
    groups, _ = alert_rules(make_manifest((BEFORE, ROLLBACK)))
    (tmp_path / "rules.json").write_text(json.dumps(groups))
    requests = 600

    def growing(name: str, step: float, **more: str) -> dict[str, str]:
        labels = ",".join([LABELS, *(f'{label}="{value}"' for label, value in more.items())])
        return {"series": f"{name}{{{labels}}}", "values": f"0+{step:g}x10"}

    bucket = "mlpipex_request_duration_seconds_bucket"
    series = [
        growing("mlpipex_requests_total", requests),
        growing("mlpipex_request_errors_total", requests * errors),
        growing(bucket, requests * quick, le="0.1"),
        growing(bucket, requests, le="0.25"),
        growing(bucket, requests, le="+Inf"),
        {"series": INFO, "values": info},
        {"series": UP, "values": up},
        {"series": "mlpipex_ingress_up", "values": "1x10"},
    ]
    names = {rule["alert"] for group in groups["groups"] for rule in group["rules"]}
    firing: set[str] = set()
    # promtool only says whether what was expected fires: each alert is asked for, and expected to be quiet.
    for name in sorted(names):
        case = {"interval": "1m", "input_series": series, "alert_rule_test": [_quiet(name)]}
        (tmp_path / "test.yml").write_text(json.dumps({"rule_files": ["rules.json"], "tests": [case]}))
        firing |= _firing(tmp_path / "test.yml", name)
    return firing


def _quiet(name: str) -> dict[str, Any]:
    return {"eval_time": "10m", "alertname": name, "exp_alerts": []}


def _firing(case: Path, name: str) -> set[str]:
    done = subprocess.run(["promtool", "test", "rules", str(case)], capture_output=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).decode()
    if done.returncode == 0:
        return set()
    got = said[said.index("got:") :]
    return set(re.findall(r'gate="([^"]+)"', got)) or {name}


def test_a_good_release_calls_nobody(tmp_path: Path) -> None:
    assert fired(tmp_path, errors=0.0) == set()


def test_errors_beyond_the_limit_call_by_the_gates_name(tmp_path: Path) -> None:
    assert fired(tmp_path, errors=0.015) == {"any-error"}
    assert fired(tmp_path, errors=0.025) == {"any-error", "failing"}


def test_slow_answers_call(tmp_path: Path) -> None:
    assert fired(tmp_path, errors=0.0, quick=0.98) == set()
    assert fired(tmp_path, errors=0.0, quick=0.80) == {"slow"}


def test_a_release_that_is_down_and_a_plane_that_is_away_call(tmp_path: Path) -> None:
    assert fired(tmp_path, errors=0.0, up="0x10") == {"MlpipexCurrentReleaseDown"}
    assert fired(tmp_path, errors=0.0, info="_x10") == {"MlpipexPlaneAway"}


def test_what_has_no_rule_says_why() -> None:
    _, left_out = alert_rules(make_manifest((BEFORE, ROLLBACK)))
    assert left_out == {
        "production.beside": "it is relative to the control arm, which is there only while a promotion is watched"
    }


def test_few_requests_break_no_gate() -> None:
    groups, _ = alert_rules(make_manifest((BEFORE, ROLLBACK)))
    rules = [rule for group in groups["groups"] for rule in group["rules"] if rule["labels"].get("gate") == "failing"]
    assert [rule["expr"].rpartition(" and ")[2] for rule in rules] == [
        f"sum(increase(mlpipex_requests_total{{{LABELS}}}[2m])) >= 100"
    ]


def test_alerts_link_to_where_the_runbooks_are_read() -> None:
    answered = answer("rules", str(FILES[0]), "--runbooks", "https://wiki.example.com/ml/")
    urls = {rule["annotations"]["runbook_url"] for group in answered["groups"] for rule in group["rules"]}
    pages = {url.removeprefix("https://wiki.example.com/ml/").removesuffix(".md") for url in urls}
    assert pages <= {page.stem for page in (MANIFESTS.parents[1] / "docs" / "runbooks").glob("*.md")}
