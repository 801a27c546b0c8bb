"""How demanding gates are by what they may err, by what they detect, and by what they are compared with."""

from __future__ import annotations

import pytest

from airflow_provider_mlpipex.domain.manifest.diff import diff
from tests.support.manifests import MANIFEST, make_manifest

PRODUCTION = "environments.production"
OFFLINE = "    gates:\n      - accuracy within"


def alarms(share: str) -> tuple[str, str]:
    return OFFLINE, f"    false_alarms: {share}\n{OFFLINE}"


def detects(spec: str) -> tuple[str, str]:
    return "max: 1%, min_samples: 100", f"max: 1%, min_samples: 100{spec}"


def control(share: str) -> tuple[str, str]:
    return "window: 30m", f"window: 30m\n      control: {share}"


def exposure(max_bad: int, effect: str) -> tuple[str, str]:
    """The window of another gate goes with the clock."""
    before = MANIFEST[MANIFEST.index("      step_duration:") : MANIFEST.index("        - {name: errors")]
    budget = f"      exposure: {{max_bad: {max_bad}, effect: {effect}}}\n      gates:\n"
    return before, f"{budget}        - at most 900 critical errors\n"


def test_whether_a_clock_or_a_budget_asks_for_more_cannot_be_decided() -> None:
    clock, budget = make_manifest(), make_manifest(exposure(90, "5%"))
    for changes in (diff(clock, budget), diff(budget, clock)):
        paces = [change for change in changes if change.what == f"{PRODUCTION}.canary pace"]
        assert [change.kind for change in paces] == ["gate-loosened"]


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        # Fewer false alarms: more evidence before anything fails.
        (alarms("5%"), alarms("1%"), f"{PRODUCTION} false_alarms"),
        (detects(", detects: 6%"), detects(", detects: 7%"), f"{PRODUCTION}.canary.gates errors detects"),
        (detects(", detects: 6%"), detects(""), f"{PRODUCTION}.canary.gates errors detects"),
        (exposure(90, "5%"), exposure(91, "5%"), f"{PRODUCTION}.canary exposure max_bad"),
        (exposure(90, "5%"), exposure(90, "6%"), f"{PRODUCTION}.canary exposure effect"),
        (control("5%"), control("1%"), f"{PRODUCTION}.rollback control"),
        (control("1%"), ("window: 30m", "window: 30m"), f"{PRODUCTION}.rollback control"),
    ],
)
def test_what_blocks_later_or_passes_earlier_is_looser(
    before: tuple[str, str], after: tuple[str, str], what: str
) -> None:
    old, new = make_manifest(before), make_manifest(after)
    assert [(change.kind, change.what) for change in diff(old, new)] == [("gate-loosened", what)]
    assert [(change.kind, change.what) for change in diff(new, old)] == [("gate-tightened", what)]


def test_the_usual_share_of_false_alarms_need_not_be_written() -> None:
    assert make_manifest(alarms("5%")).digest == make_manifest().digest
