"""What Great Expectations found, as files for people: its result as JSON, and its Data Docs, a static site.

Below the root, for each folder that a manifest names::

    index.html                                                    all results, the newest first
    validations/<table>/<date>/<time>-<verdict>-<id>/result.html  Great Expectations' page of one result
    validations/<table>/<date>/<time>-<verdict>-<id>/result.json  the result itself

Pages take style sheets and scripts from public addresses, as all Data Docs do; nothing else is fetched. Values out of
tables are shown as text, whatever stands in them: predictions hold what clients sent.
"""

from __future__ import annotations

import fcntl
import html
import json
import math
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.atomic import atomic_file
from airflow_provider_mlpipex.domain.quality.report import ResultPlace

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

#: Items of a list, and characters of a text, that a result keeps.
MAX_LIST_LENGTH, MAX_TEXT_LENGTH = 20, 2000
#: Results that the index lists.
LISTED = 200
#: The vendor's pictures, asked for with a time stamp by whoever opens a page.
_VENDOR_PICTURES = re.compile(r"https://great-expectations-web-assets\.[^\"')\s]*")
_RESULT = re.compile(r"(?P<time>\d{6}\.\d{6})Z-(?P<verdict>passed|failed)-[0-9a-f]{8}")


class ResultsFolder:
    """:param root: folder of all results; made where it is missing."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(
        self, report: ExpectationSuiteValidationResult, place: ResultPlace, *, passed: bool, now: datetime
    ) -> Path:
        """Keep ``report`` and list it in the index; return its page.

        :raises OSError: the folder cannot be written.
        """
        site = self._root / place.folder
        moment = now.astimezone(UTC)
        verdict = "passed" if passed else "failed"
        name = f"{moment:%H%M%S.%f}Z-{verdict}-{secrets.token_hex(4)}"
        folder = site / "validations" / place.table / f"{moment:%Y-%m-%d}" / name
        folder.mkdir(parents=True)
        content = report.to_json_dict()  # type: ignore[no-untyped-call]  # theirs is not annotated
        _write(folder / "result.json", json.dumps(plain(content), indent=2, allow_nan=False))
        page = folder / "result.html"
        _write(page, _page(report))
        with (site / ".lock").open("w") as lock:
            # Who lists last must have seen what everybody wrote.
            fcntl.flock(lock, fcntl.LOCK_EX)
            _write(site / "index.html", _index(site, title=place.folder))
        return page


def plain(value: Any) -> Any:
    """``value`` as plain JSON: NumPy's scalars as Python's, numbers that are not finite as text, long lists cut."""
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT_LENGTH else f"{value[:MAX_TEXT_LENGTH]}… ({len(value)} characters)"
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)) or hasattr(value, "tolist"):
        items = value.tolist() if hasattr(value, "tolist") else list(value)
        shown = [plain(item) for item in items[:MAX_LIST_LENGTH]]
        return [*shown, f"… {len(items) - MAX_LIST_LENGTH} more"] if len(items) > MAX_LIST_LENGTH else shown
    return value.isoformat() if hasattr(value, "isoformat") else plain(str(value))


def _page(report: ExpectationSuiteValidationResult) -> str:
    """One Data Docs page. Great Expectations writes values of tables into it as if they were HTML; so they are escaped
    before."""
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer

    shown = ExpectationSuiteValidationResult(
        success=report.success,
        results=[
            ExpectationValidationResult(
                success=result.success,
                expectation_config=result.expectation_config,
                result=_escaped(_with_rows(plain(result.result))),
                meta=result.meta,
                exception_info=_escaped(plain(result.exception_info or {})),
            )
            for result in report.results
        ],
        suite_name=report.suite_name,
        statistics=report.statistics,
        meta=report.meta,
    )
    return _view("DefaultJinjaPageView", ValidationResultsPageRenderer().render(shown))


def _with_rows(result: dict[str, Any]) -> dict[str, Any]:
    """Name the rows in the page too: Great Expectations shows them only where it lists every one of them."""
    if "unexpected_count" in result and "unexpected_percent" not in result:
        # Great Expectations stumbles over what it itself says of sets.
        lists = {"not in it": "partial_unexpected_list", "missing": "partial_missing_list"}
        words = [f"{what}: {', '.join(map(str, result[name]))}" for what, name in lists.items() if result.get(name)]
        return {"observed_value": "; ".join(words) or "all as expected"}
    rows = result.get("partial_unexpected_index_list")
    if not rows or not all(isinstance(row, dict) for row in rows):
        return result
    return {**result, "unexpected_index_list": rows, "unexpected_list": result.get("partial_unexpected_list", [])}


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {html.escape(name): _escaped(inner) for name, inner in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


def _index(site: Path, *, title: str) -> str:
    from great_expectations.render.renderer.site_index_page_renderer import SiteIndexPageRenderer

    links: list[dict[str, Any]] = []
    pages = sorted(site.glob("validations/*/*/*/result.html"), key=lambda page: page.parts[-3:-1], reverse=True)
    for page in pages[:LISTED]:
        table, date, name = page.parts[-4:-1]
        if match := _RESULT.fullmatch(name):
            moment = datetime.strptime(f"{date} {match['time']}", "%Y-%m-%d %H%M%S.%f").replace(tzinfo=UTC)
            links.append(
                {
                    "expectation_suite_name": table,
                    "expectation_suite_filepath": page.relative_to(site).as_posix(),
                    "filepath": page.relative_to(site).as_posix(),
                    "validation_success": match["verdict"] == "passed",
                    "run_time": moment,
                    "run_name": date,
                    "asset_name": table,
                    "batch_identifier": name,
                    "batch_kwargs": {},
                    "batch_spec": {},
                }
            )
    index: Any = SiteIndexPageRenderer
    return _view("DefaultJinjaIndexPageView", index.render({"site_name": title, "validations_links": links}))


def _view(kind: str, content: Any) -> str:
    import great_expectations.render.view as views

    rendered = getattr(views, kind)().render(content, show_how_to_buttons=False)
    return _VENDOR_PICTURES.sub("", rendered)


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")
