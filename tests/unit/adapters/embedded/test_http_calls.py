"""What goes along with a request, by where it goes."""

from __future__ import annotations

import ssl
from typing import Any

import httpx
import pytest

from airflow_provider_mlpipex.adapters.embedded import http_calls


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def request(method: str, url: str, **given: Any) -> httpx.Response:
        calls.append({"method": method, "url": url, **given})
        return httpx.Response(200)

    monkeypatch.setattr(httpx, "request", request)
    return calls


@pytest.mark.parametrize("host", ["127.0.0.1:8089", "localhost:8089", "[::1]:8089"])
def test_no_proxy_sees_a_token_that_is_meant_for_this_machine(sent: list[dict[str, Any]], host: str) -> None:
    http_calls.send("GET", f"http://{host}/v1", headers={}, timeout=1.0)
    assert (sent[0]["trust_env"], sent[0]["verify"]) == (False, False)


@pytest.mark.parametrize("url", ["https://127.0.0.1/v1", "https://plane.example/v1", "http://plane.example/v1"])
def test_certificates_are_verified_wherever_there_may_be_some(sent: list[dict[str, Any]], url: str) -> None:
    for _ in range(2):
        http_calls.send("GET", url, headers={}, timeout=1.0)
    context = sent[0]["verify"]
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert sent[1]["verify"] is context, "they are read once"


def test_a_name_that_only_begins_like_this_machine_is_another_one(sent: list[dict[str, Any]]) -> None:
    http_calls.send("GET", "http://127.0.0.1.example/v1", headers={}, timeout=1.0)
    assert sent[0]["trust_env"] is True
