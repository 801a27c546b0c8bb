"""Debian's Prometheus, scraping one address: what an operator would see of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.mlflow_server import free_port
from tests.support.polling import until


def promtool(*arguments: str, said: bytes = b"") -> str:
    """Run Prometheus' own checker; what it says, which is nothing where all is well. Fails where it does."""
    if shutil.which("promtool") is None:
        pytest.skip("Debian's prometheus is not installed")
    done = subprocess.run(["promtool", *arguments], input=said, capture_output=True, timeout=60, check=False)
    answer = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, answer
    return answer


class Prometheus:
    """:param url: of its own API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str, *, by: str = "") -> dict[str, float]:
        """The values of an instant vector by that label; by the empty text where there is none."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=30).raise_for_status()
        return {each["metric"].get(by, ""): float(each["value"][1]) for each in answer.json()["data"]["result"]}


@contextmanager
def scraping(target: str, *, token: Path, folder: Path, rules: Path | None = None) -> Iterator[Prometheus]:
    """:param target: host and port of what is scraped every second, at ``/metrics``, with the token in ``token``."""
    if shutil.which("prometheus") is None:
        pytest.skip("Debian's prometheus is not installed")
    scrape = {
        "job_name": "mlpipex",
        "authorization": {"credentials_file": str(token)},
        "static_configs": [{"targets": [target]}],
    }
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)] if rules else [],
        "scrape_configs": [scrape],
    }
    # JSON is YAML.
    (folder / "prometheus.yml").write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}", "--log.level=warn",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("ab") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        prometheus = Prometheus(f"http://{address}")
        until(lambda: _is_up(prometheus, server), within_s=120, what="Prometheus has scraped")
        yield prometheus
    finally:
        server.terminate()
        server.wait(timeout=60)


def _is_up(prometheus: Prometheus, server: subprocess.Popen[bytes]) -> bool:
    assert server.poll() is None, "Prometheus ended"
    try:
        return list(prometheus.query("up").values()) == [1.0]
    except httpx.HTTPError:
        return False
