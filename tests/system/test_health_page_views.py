"""Every view of the health page in Airflow's own UI: read by axe, in both themes, on a desk and on a telephone.

The API's answers are those of ui/test/fixtures.ts, which tests/airflow/test_health_page_answers.py holds to the API.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_server import AirflowServer
from tests.support.browser import SCREENSHOTS, started_chromium
from tests.support.mlflow_server import free_port
from tests.support.page import UI, fixtures_script
from tests.support.page_visitors import ENDPOINT, RUN, Visitors, shows

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]
AXE = UI / "node_modules" / "axe-core" / "axe.min.js"
#: Each view of the page, with what it shows once its data is there.
VIEWS = {
    "fleet": ("", {}, "production/pricing"),
    "endpoint": (f"/e/{ENDPOINT}", {}, "What users get"),
    "rollouts": (f"/e/{ENDPOINT}/rollouts", {}, "fraud-scorer 2.2.0"),
    "rollout": (f"/e/{ENDPOINT}/rollout", {"id": RUN}, "p95 latency"),
    "drift": (f"/e/{ENDPOINT}/drift", {"seq": "377"}, "distance"),
    "batch": (f"/e/{ENDPOINT}/batch", {"id": "in-kilometres/2026-11-27"}, "score_nightly · score"),
    "history": (f"/e/{ENDPOINT}/history", {}, "Verify the chain"),
}
#: Pictures are kept of all views on a desk, and of these on a telephone as well.
DESK, ON_A_TELEPHONE = 1280, ("fleet", "endpoint")
#: The moment of ui/test/fixtures.ts.
NOW = "2026-11-28T14:03:00Z"


@pytest.fixture(scope="module")
def visitors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitors]:
    """At an Airflow whose plane and ledger nobody asks here."""
    folder = tmp_path_factory.mktemp("airflow")
    extra = {"ledger_url": f"sqlite:///{folder}/ledger.db"}
    airflow = AirflowServer(folder, connection={"host": "127.0.0.1", "port": free_port(), "extra": extra})
    try:
        airflow.start()
        with started_chromium() as browser:
            yield Visitors(airflow, browser)
    finally:
        airflow.stop()


@pytest.fixture(scope="module")
def recorded_answers(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A script that answers the page with ui/test/fixtures.ts: what a fleet would need weeks to come to."""
    script = fixtures_script(tmp_path_factory.mktemp("fixtures"))
    return f"""{script.read_text(encoding="utf-8")}
        const ask = globalThis.fetch;
        globalThis.fetch = async (address, init) => {{
            const answer = String(address).includes("/mlpipex/api/") ? fixtures.answerTo(String(address)) : undefined;
            return answer === undefined ? ask(address, init) : Response.json(answer);
        }};"""


@pytest.mark.parametrize("width", [DESK, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_is_readable(visitors: Visitors, recorded_answers: str, theme: str, width: int) -> None:
    """By axe no serious finding, nothing wider than the window, and no fault; ``make screenshots`` keeps pictures."""
    page = visitors.window("op", width=width, timezone_id="Europe/Zurich", locale="en-GB")
    page.add_init_script(f"localStorage.setItem('theme', '{theme}'); {recorded_answers}")
    page.clock.set_fixed_time(NOW)
    found: dict[str, Any] = {}
    for name, (view, query, expected) in VIEWS.items():
        page.goto(visitors.place(view, **query))
        shows(page, expected)
        page.locator(".mlpx .skeleton").first.wait_for(state="detached")
        assert theme in (page.locator("html").get_attribute("class") or "").split()
        page.evaluate(AXE.read_text(encoding="utf-8"))
        result = page.evaluate("axe.run('.mlpx', {resultTypes: ['violations']})")
        serious = [v for v in result["violations"] if v["impact"] in ("serious", "critical")]
        found[name] = [(v["id"], [node["html"][:200] for node in v["nodes"][:3]]) for v in serious]
        wide = page.evaluate(
            "(() => { const m = document.querySelector('.mlpx'); return m.scrollWidth - m.clientWidth })()"
        )
        if wide > 1:
            found[name].append(("wider than the window by", wide))
        _keep(page, name, theme, width)
    assert {name: faults for name, faults in found.items() if faults} == {}
    assert page.faults == []
    page.context.close()


def _keep(page: Any, name: str, theme: str, width: int) -> None:
    """A picture of the whole view in the folder that ``MLPIPEX_SCREENSHOTS`` names, of 128 colours to be small."""
    folder = os.environ.get(SCREENSHOTS)
    if not folder or (width < DESK and name not in ON_A_TELEPHONE):
        return
    from PIL import Image

    size = page.viewport_size
    length = page.evaluate("document.querySelector('.mlpx').scrollHeight")
    page.set_viewport_size({"width": width, "height": min(max(length + 120, 700), 2400)})
    page.wait_for_timeout(500)  # charts follow the size of their box
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(128)
    Path(folder).mkdir(parents=True, exist_ok=True)
    taken.save(Path(folder) / f"{name}-{theme}{'-phone' if width < DESK else ''}.png", optimize=True)
    page.set_viewport_size(size)
