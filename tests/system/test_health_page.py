"""The health page as people on call have it: a real browser, Airflow's own api-server and UI, a real plane.

Airflow is its api-server alone: neither scheduler nor worker nor triggerer nor registry runs, so what works here works
while they are down.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from airflow_provider_mlpipex.composition import Settings, build_platform
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.events import GatesJudged, Origin, RolloutOpened, RolloutPolicy
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout import promote
from tests.support.airflow_server import ROLES, AirflowServer
from tests.support.browser import started_chromium
from tests.support.factories import make_gate_result
from tests.support.manifests import make_manifest
from tests.support.page_visitors import RUN, Visitors, shows, text_of
from tests.support.plane import READY_TIMEOUT_S, RealPlane, Traffic, real_plane
from tests.support.polling import until

__all__ = ["real_plane"]
pytestmark = [pytest.mark.system, pytest.mark.timeout(3600)]

ENDPOINT = EndpointRef.parse("production/fraud-scorer")
REASON = "errors rise since noon"


@dataclass
class Site(Visitors):
    """What is served, and where it is looked at."""

    plane: RealPlane
    platform: Platform

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
            site = Site(airflow, browser, real_plane, platform)
            real_plane.ensure(ENDPOINT, 1, 2)
            site.promote("manual__first", real_plane.release(1))
            site.promote(RUN, real_plane.release(2))
            yield site
    finally:
        airflow.stop()


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
    shows(page, "Rollback")
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
    shows(page, "your role may not start runs of the Dag rollback")
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
    assert RUN in text_of(page)
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
        shows(page, before.id)
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
    shows(page, str(ENDPOINT))
    page.context.clear_cookies()

    def is_said() -> bool:
        # Airflow's own page may have led to the login meanwhile.
        return "/auth/login" in page.url or "log in again" in text_of(page).lower()

    until(is_said, within_s=180, what="the end of the session is shown")
    page.context.close()


def test_what_is_refused_here_costs_no_other_page(site: Site) -> None:
    """Airflow's own client blocks what once answered 403; a page of its own must not make it."""
    page = site.window("viewer")
    refused = {"title": "NotPermitted", "status": 403, "detail": "not for you"}
    page.route("**/mlpipex/api/**", lambda route: route.fulfill(status=403, json=refused))
    page.goto(site.place())
    shows(page, "not for you")
    page.get_by_role("link", name="Dags").first.click()
    page.wait_for_url(f"{site.airflow.url}/dags**")
    shows(page, re.compile("Dags?"))
    page.unroute("**/mlpipex/api/**")
    page.get_by_role("link", name="Models").first.click()
    shows(page, str(ENDPOINT))
    assert page.faults == []
    page.context.close()


def test_a_plane_that_is_away_is_an_ordinary_state(site: Site) -> None:
    site.plane.kill_supervisor()
    page = site.window("viewer")
    page.goto(site.place(f"/e/{ENDPOINT}"))
    shows(page, "The serving plane does not answer.")
    shows(page, site.plane.release(1).id)
    assert not re.search(r"\b(NaN|undefined|Invalid Date)\b", text_of(page))
    assert page.faults == []
    page.context.close()
    site.plane.start()
