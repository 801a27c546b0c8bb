"""Evidently's page on drift: it is drawn, it holds no client's markup, and nobody is told of it."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from airflow_provider_mlpipex.adapters.evidently.report import EvidentlyReporter
from airflow_provider_mlpipex.composition import Settings, build_platform
from airflow_provider_mlpipex.domain.drift.report import DriftPage
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Origin

ENDPOINT = EndpointRef.parse("production/fraud-scorer")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ATTACK = "<script>alert('owned')</script>"
CHANCE = np.random.default_rng(0)
TRAINED = pd.DataFrame(
    {
        "amount": CHANCE.normal(size=300),
        "country": CHANCE.choice(["NL", "BE"], 300),
        "member": CHANCE.choice([True, False], 300),
    }
)
SERVED = pd.DataFrame({"request_id": [f"r{n}" for n in range(200)], "amount": CHANCE.normal(2.0, size=200)}).assign(
    country="NL", member=True
)


def draw(root: Path, trained: pd.DataFrame = TRAINED, served: pd.DataFrame = SERVED) -> DriftPage:
    return EvidentlyReporter(root).draw(trained, served, endpoint=ENDPOINT, release="1.0.0-rt1.0.0-3fa9c2d1", at=NOON)


def test_a_page_shows_every_column_that_both_sides_have(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "drift")
    assert drawn.trouble == ""
    page = Path(drawn.address)
    assert page.parent == tmp_path / "drift" / "production" / "fraud-scorer" / "2026-03-01"
    assert page.name == "120000.000000Z-1.0.0-rt1.0.0-3fa9c2d1.html"
    text = page.read_text(encoding="utf-8")
    assert all(name in text for name in ("amount", "country", "member"))
    assert "request_id" not in text
    assert list(page.parent.iterdir()) == [page]


def test_what_clients_sent_is_shown_as_text(tmp_path: Path) -> None:
    trained = TRAINED.rename(columns={"member": ATTACK})
    served = SERVED.assign(country=ATTACK).rename(columns={"member": ATTACK})
    drawn = draw(tmp_path, trained, served)
    text = Path(drawn.address).read_text(encoding="utf-8")
    assert ATTACK not in text and "alert(&#x27;owned&#x27;)" in text


def test_values_that_are_no_numbers_cost_no_page(tmp_path: Path) -> None:
    odd = [None, np.nan, np.inf, -np.inf, "12.5", "abc", [1], {"a": 1}] * 25
    drawn = draw(
        tmp_path, served=SERVED.assign(amount=pd.Series(odd, dtype=object), country=pd.Series(odd, dtype=object))
    )
    assert drawn.trouble == ""


@pytest.mark.parametrize(
    ("trained", "served"),
    [
        (TRAINED, SERVED[["request_id"]]),
        (TRAINED[["amount"]], SERVED.assign(amount="abc")),
        (TRAINED[["amount"]].assign(amount=np.nan), SERVED),
        (TRAINED.head(0), SERVED),
    ],
    ids=["no-column", "no-number", "no-training-value", "no-training-row"],
)
def test_nothing_to_compare_is_said(tmp_path: Path, trained: pd.DataFrame, served: pd.DataFrame) -> None:
    drawn = draw(tmp_path, trained, served)
    assert drawn.address == "" and "no column has values both" in drawn.trouble
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "production").write_text("a file", encoding="utf-8")
    drawn = draw(tmp_path)
    assert drawn.address == "" and "Not a directory" in drawn.trouble


def test_without_evidently_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "evidently", None)
    drawn = draw(tmp_path)
    assert drawn.address == "" and "install the extra evidently" in drawn.trouble


def test_a_stumble_of_evidently_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import evidently

    def stumble(*_: object, **__: object) -> None:
        raise TypeError("ufunc 'isinf' not supported")

    monkeypatch.setattr(evidently.Dataset, "from_pandas", stumble)
    drawn = draw(tmp_path)
    assert (drawn.address, drawn.trouble) == ("", "Evidently gave up: TypeError: ufunc 'isinf' not supported")


def test_a_folder_for_pages_turns_them_on(tmp_path: Path) -> None:
    def reporter(root: Path | None) -> object:
        ledger = f"sqlite:///{tmp_path}/ledger.db"
        return build_platform(Settings(ledger_url=ledger, drift_root=root), Origin(kind="test")).drift_reporter

    assert reporter(None) is None
    assert isinstance(reporter(tmp_path), EvidentlyReporter)


def test_nobody_is_told_that_a_page_was_drawn(tmp_path: Path) -> None:
    """In a process of its own, where every connection and every look-up of a host is an error that is counted."""
    code = f"""
import os, socket
from datetime import datetime, UTC
from pathlib import Path
for name in ("DO_NOT_TRACK", "EVIDENTLY_DISABLE_TELEMETRY"):
    os.environ.pop(name, None)
asked = []
def refuse(*args, **kwargs):
    asked.append(args)
    raise OSError("nobody is to be asked")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
import pandas as pd
from airflow_provider_mlpipex.adapters.evidently.report import EvidentlyReporter
from airflow_provider_mlpipex.domain.names import EndpointRef
rows = pd.DataFrame({{"x": [float(n % 7) for n in range(100)]}})
drawn = EvidentlyReporter(Path({str(tmp_path)!r})).draw(
    rows, rows + 1, endpoint=EndpointRef.parse("production/x"), release="r", at=datetime(2026, 3, 1, tzinfo=UTC)
)
assert drawn.address and not drawn.trouble, drawn
assert not asked, asked
from evidently.telemetry import event_logger
assert not event_logger.is_enabled()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)
