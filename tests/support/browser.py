"""A real browser that opens pages of Airflow, as a person on call does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

#: Milliseconds that a page may take to show what is looked for; a busy machine is slow, and no verdict.
PATIENCE_MS = 300_000
#: A folder to keep a picture of every page in, for people.
SCREENSHOTS = "MLPIPEX_SCREENSHOTS"


@dataclass
class Browser:
    """One window, logged in. ``trouble``: what went wrong in any page since it was cleared."""

    page: Any
    url: str
    trouble: list[str] = field(default_factory=list)

    def task_page(self, dag_id: str, run_id: str, task_id: str, *, tab: str = "", expect: str) -> str:
        """Open the page of one task, wait until ``expect`` stands on it, and return all that stands there.

        :raises AssertionError: it crashed, or showed something else.
        """
        self.trouble.clear()
        where = f"{self.url}/dags/{dag_id}/runs/{run_id}/tasks/{task_id}{f'/{tab}' if tab else ''}"
        self.page.goto(where, wait_until="domcontentloaded")
        try:
            self.page.get_by_text(expect).first.wait_for()
        except Exception as error:
            body = self.page.locator("body").inner_text()
            raise AssertionError(f"{where} does not show {expect!r}: {self.trouble} {body[:2000]}") from error
        text = str(self.page.locator("body").inner_text())
        assert self.trouble == [], f"{where}: {self.trouble}"
        self._keep(f"{dag_id}.{task_id}{f'.{tab}' if tab else ''}.{run_id[-8:-6]}")
        return text

    def press(self, button: str) -> None:
        """Press the first button of this text."""
        self.page.get_by_role("button", name=button).first.click()

    def _keep(self, name: str) -> None:
        if folder := os.environ.get(SCREENSHOTS):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"))


@contextmanager
def started_chromium() -> Iterator[Any]:
    """Debian's Chromium; skips loudly where there is none, and fails under ``CI=true``."""
    executable = shutil.which("chromium")
    if executable is None:
        reason = "no chromium: apt-get install chromium (make machine does)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"], timeout=PATIENCE_MS
        )
        try:
            yield started
        finally:
            started.close()


@contextmanager
def chromium(url: str, *, user: str, password: str) -> Iterator[Browser]:
    """A window at the Airflow of ``url``, logged in (see :func:`started_chromium`)."""
    with started_chromium() as started:
        answer = httpx.post(
            f"{url}/auth/token", json={"username": user, "password": password}, timeout=PATIENCE_MS / 1000
        )
        answer.raise_for_status()
        context = started.new_context(viewport={"width": 1440, "height": 900})
        context.set_default_timeout(PATIENCE_MS)
        context.add_cookies([{"name": "_token", "value": answer.json()["access_token"], "url": url}])
        browser = Browser(context.new_page(), url)
        # What a crashed page says: React's error boundary catches it, and the browser's console tells of it.
        browser.page.on("pageerror", lambda error: browser.trouble.append(str(error)))
        yield browser
