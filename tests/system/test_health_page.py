"""The health page as people on call have it: a real browser, Airflow's own api-server and UI, a real plane.

Airflow is its api-server alone: neither scheduler nor worker nor triggerer nor registry runs, so what works here works
while they are down.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_mlpipex.composition import Settings, build_platform
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.events import GatesJudged, Origin, RolloutOpened, RolloutPolicy
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import promote
from tests.support.airflow_server import ROLES, AirflowServer
from tests.support.browser import PATIENCE_MS, SCREENSHOTS, started_chromium
from tests.support.factories import make_gate_result
from tests.support.manifests import make_manifest
from tests.support.page import UI, fixtures_script
from tests.support.plane import READY_TIMEOUT_S, RealPlane, Traffic, real_plane
from tests.support.polling import until

__all__ = ["real_plane"]
pytestmark = [pytest.mark.system, pytest.mark.timeout(3600)]

ENDPOINT = EndpointRef.parse("production/fraud-scorer")
#: As Airflow names a scheduled run, of a team that puts slashes into its own.
RUN = "scheduled__2026-11-28T13:40:00+00:00/eu"
REASON = "errors rise since noon"


@dataclass
class Site:
    """What is served, and where it is looked at."""

    airflow: AirflowServer
    plane: RealPlane
    platform: Platform
    browser: Any

    def window(self, user: str | None, *, width: int = 1280, **options: Any) -> Any:
        """A new page of a new browser profile, logged in as ``user``. Faults of its scripts are in ``page.faults``."""
        context = self.browser.new_context(viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(PATIENCE_MS)
        if user is not None:
            token = self.airflow.token(user)
            context.add_cookies([{"name": "_token", "value": token, "url": self.airflow.origin}])
        page = context.new_page()
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        return page

    def place(self, view: str = "", **query: str) -> str:
        """Address of a view of the endpoint, or of the fleet."""
        search = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        return f"{self.airflow.url}/plugin/mlpipex{view}{'?' if search else ''}{search}"

    def promote(self, rollout_id: str, release: Release) -> None:
        """Carry ``release`` all the way, on a gate that passed."""
        policy = RolloutPolicy(rollback_window_s=3600.0)
        manifest = make_manifest().to_json()
        opened = RolloutOpened(rollout_id=rollout_id, release=release, policy=policy, manifest=manifest)
        journal.note(self.platform, ENDPOINT, opened)
        result = make_gate_result("recall of fraud", "pass")
        judged = GatesJudged(rollout_id=rollout_id, stage="gate", verdict="pass", results=(result,))
        journal.note(self.platform, ENDPOINT, judged)
        promote.promote(self.platform, endpoint=ENDPOINT, rollout_id=rollout_id, timeout_s=READY_TIMEOUT_S)

    @property
    def served(self) -> str:
        current = journal.load(self.platform, ENDPOINT).current
        assert current is not None
        return current.id


@pytest.fixture(scope="module")
def site(real_plane: RealPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    ledger = f"sqlite:///{real_plane.state_dir.parent}/ledger.db"
    settings = {
        "MLPIPEX_LEDGER_URL": ledger,
        "MLPIPEX_PLANE_URL": real_plane.control_url,
        "MLPIPEX_PLANE_TOKEN_FILE": str(real_plane.state_dir / "token"),
    }
    platform = build_platform(Settings.from_environment(settings), Origin(kind="test"))
    airflow = AirflowServer(
        tmp_path_factory.mktemp("airflow"),
        connection={
            "host": "127.0.0.1",
            "port": real_plane.control_port,
            "extra": {"ledger_url": ledger, "plane_token_file": str(real_plane.state_dir / "token")},
        },
    )
    try:
        airflow.start()
        with started_chromium() as browser:
            site = Site(airflow, real_plane, platform, browser)
            real_plane.ensure(ENDPOINT, 1, 2)
            site.promote("manual__first", real_plane.release(1))
            site.promote(RUN, real_plane.release(2))
            yield site
    finally:
        airflow.stop()


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
#: The moment of ui/test/fixtures.ts.
NOW = "2026-11-28T14:03:00Z"


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


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_is_readable(site: Site, recorded_answers: str, theme: str, width: int) -> None:
    """By axe no serious finding, nothing wider than the window, and no fault; ``make screenshots`` keeps pictures."""
    page = site.window("op", width=width, timezone_id="Europe/Zurich", locale="en-GB")
    page.add_init_script(f"localStorage.setItem('theme', '{theme}'); {recorded_answers}")
    page.clock.set_fixed_time(NOW)
    found: dict[str, Any] = {}
    for name, (view, query, expected) in VIEWS.items():
        page.goto(site.place(view, **query))
        _shows(page, expected)
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
    if not folder:
        return
    from PIL import Image

    size = page.viewport_size
    length = page.evaluate("document.querySelector('.mlpx').scrollHeight")
    page.set_viewport_size({"width": width, "height": min(max(length + 120, 700), 2400)})
    page.wait_for_timeout(500)  # charts follow the size of their box
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(128)
    Path(folder).mkdir(parents=True, exist_ok=True)
    taken.save(Path(folder) / f"{name}-{theme}{'-phone' if width < 600 else ''}.png", optimize=True)
    page.set_viewport_size(size)


def _shows(page: Any, text: str | re.Pattern[str]) -> None:
    """Wait until ``text`` stands on the page; fail with all that stands there."""
    try:
        page.get_by_text(text).first.wait_for()
    except Exception as error:
        raise AssertionError(f"{page.url} does not show {text!r}: {page.faults} {_text(page)[:2000]}") from error


def _text(page: Any) -> str:
    return str(page.locator("body").inner_text())


@pytest.mark.parametrize("role", ROLES)
def test_each_role_logs_in_and_drills_from_the_fleet_to_a_rollout(site: Site, role: str) -> None:
    page = site.window(None)
    page.goto(f"{site.airflow.url}/auth/login")
    page.locator("input[name=username]").fill(role)
    page.locator("input[name=password]").fill(role)
    page.locator("button[type=submit]").click()
    page.wait_for_url(lambda address: "/auth/login" not in address)
    page.get_by_role("link", name="Models").first.click()
    page.get_by_role("link", name=str(ENDPOINT)).click()
    page.get_by_role("heading", name=str(ENDPOINT)).wait_for()
    _shows(page, "Rollback")
    page.get_by_role("link", name="Rollouts").click()
    page.get_by_role("heading", name=f"Rollouts of {ENDPOINT}").wait_for()
    assert page.faults == []
    assert page.url.startswith(f"{site.airflow.url}/plugin/mlpipex/e/production/fraud-scorer/")
    page.context.close()


def test_a_viewer_reads_why_the_button_is_shut_and_is_refused_all_the_same(site: Site) -> None:
    served = site.served
    page = site.window("viewer")
    page.goto(site.place(f"/e/{ENDPOINT}"))
    button = page.get_by_role("button", name="Roll back")
    button.wait_for()
    _shows(page, "your role may not start runs of the Dag rollback")
    assert button.is_disabled()
    status = page.evaluate(
        """async (address) => (await fetch(address, {method: "POST", headers: {"content-type": "application/json",
           "Idempotency-Key": "a-key-of-a-viewer"}, body: JSON.stringify({reason: "just so"})})).status""",
        f"{site.airflow.url}/mlpipex/api/v1/endpoints/{ENDPOINT}/rollback",
    )
    assert status == 403
    assert site.served == served
    page.context.close()


def test_an_address_that_holds_a_run_id_opens_that_rollout(site: Site) -> None:
    page = site.window("viewer")
    page.goto(site.place(f"/e/{ENDPOINT}/rollout", id=RUN))
    page.get_by_role("article", name="Gate recall of fraud").wait_for()
    assert RUN in _text(page)
    assert page.faults == []
    page.context.close()


def test_a_rollback_by_click_returns_traffic(site: Site) -> None:
    """And says within which time; nobody but the api-server, the ledger and the plane is there."""
    before, after = site.plane.release(2), site.plane.release(1)
    assert site.served == before.id
    page = site.window("op")
    with Traffic(site.plane, ENDPOINT, clients=1) as traffic:
        traffic.wait_for(10)
        assert traffic.answered_by == {2}
        page.goto(site.place(f"/e/{ENDPOINT}"))
        _shows(page, before.id)
        page.get_by_role("button", name="Roll back").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Roll back now").click()
        dialog.get_by_role("alert").wait_for()
        assert site.served == before.id, "nothing is done without a reason"
        dialog.get_by_label("Reason").fill(REASON)
        dialog.get_by_role("button", name="Roll back now").click()
        dialog.get_by_text(re.compile(r"Traffic has returned in [\d.]+ (ms|s)")).wait_for()
        assert after.id in dialog.inner_text()
        answered = Counter(traffic.answers)
        traffic.wait_for(20)
        assert set(traffic.answers - answered) == {(200, 1)}, "whoever asks now is answered by the previous release"
        assert traffic.failures == {}
        dialog.get_by_role("button", name="Close").click()
    assert site.served == after.id
    (entry,) = [e for e in site.platform.ledger.read(ENDPOINT) if e.event.type == "rollback-decided"]
    assert (entry.origin.kind, entry.origin.user) == ("http", "op")
    assert REASON in entry.event.cause
    # The page, which was never loaded anew, shows what is true now, and that automation waits for a person.
    page.get_by_text("On hold").first.wait_for()
    page.get_by_role("button", name="Roll back").wait_for()
    assert page.get_by_role("button", name="Roll back").is_disabled()
    assert page.faults == []
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("the cause is found")
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    until(lambda: journal.load(site.platform, ENDPOINT).held_back is None, within_s=120, what="resumed")
    page.context.close()


def test_a_session_that_has_ended_is_said_to_have_ended(site: Site) -> None:
    page = site.window("viewer")
    page.goto(site.place())
    _shows(page, str(ENDPOINT))
    page.context.clear_cookies()

    def is_said() -> bool:
        # Airflow's own page may have led to the login meanwhile.
        return "/auth/login" in page.url or "log in again" in _text(page).lower()

    until(is_said, within_s=180, what="the end of the session is shown")
    page.context.close()


def test_what_is_refused_here_costs_no_other_page(site: Site) -> None:
    """Airflow's own client blocks what once answered 403; a page of its own must not make it."""
    page = site.window("viewer")
    refused = {"title": "NotPermitted", "status": 403, "detail": "not for you"}
    page.route("**/mlpipex/api/**", lambda route: route.fulfill(status=403, json=refused))
    page.goto(site.place())
    _shows(page, "not for you")
    page.get_by_role("link", name="Dags").first.click()
    page.wait_for_url(f"{site.airflow.url}/dags**")
    _shows(page, re.compile("Dags?"))
    page.unroute("**/mlpipex/api/**")
    page.get_by_role("link", name="Models").first.click()
    _shows(page, str(ENDPOINT))
    assert page.faults == []
    page.context.close()


def test_a_plane_that_is_away_is_an_ordinary_state(site: Site) -> None:
    site.plane.kill_supervisor()
    page = site.window("viewer")
    page.goto(site.place(f"/e/{ENDPOINT}"))
    _shows(page, "The serving plane does not answer.")
    _shows(page, site.plane.release(1).id)
    assert not re.search(r"\b(NaN|undefined|Invalid Date)\b", _text(page))
    assert page.faults == []
    page.context.close()
    site.plane.start()
