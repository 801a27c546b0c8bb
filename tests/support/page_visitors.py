"""People who look at the health page: each in a browser profile of their own, at one Airflow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.support.airflow_server import AirflowServer
from tests.support.browser import PATIENCE_MS

#: As Airflow names a scheduled run, of a team that puts slashes into its own.
RUN = "scheduled__2026-11-28T13:40:00+00:00/eu"
ENDPOINT = "production/fraud-scorer"


@dataclass
class Visitors:
    """:param browser: as Playwright has started it."""

    airflow: AirflowServer
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


def shows(page: Any, text: str | re.Pattern[str]) -> None:
    """Wait until ``text`` stands on the page; fail with all that stands there."""
    try:
        page.get_by_text(text).first.wait_for()
    except Exception as error:
        raise AssertionError(f"{page.url} does not show {text!r}: {page.faults} {text_of(page)[:2000]}") from error


def text_of(page: Any) -> str:
    return str(page.locator("body").inner_text())
