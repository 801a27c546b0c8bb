"""Alerts by Apprise, to a real web hook and a real mail server on loopback."""

from __future__ import annotations

import email
import re
import socketserver
import threading
from collections.abc import Iterator
from email import policy

import pytest

from airflow_provider_mlpipex.adapters.apprise.alerts import AppriseAlerter
from airflow_provider_mlpipex.demo.webhook import AlertReceiver
from airflow_provider_mlpipex.domain.errors import LedgerUnavailable
from airflow_provider_mlpipex.domain.rollout.events import AlertDelivery

FACTS = {"endpoint": "production/fraud-scorer", "serving now": "1.0.0-rt1.0.0-ab"}


class MailServer:
    """Enough of SMTP for one client: keeps every message it is sent."""

    def __init__(self) -> None:
        messages: list[bytes] = []

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 here\r\n")
                while line := self.rfile.readline():
                    verb = line.strip().upper()[:4]
                    if verb == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        lines: list[bytes] = []
                        while (part := self.rfile.readline()) not in (b".\r\n", b""):
                            lines.append(part)
                        messages.append(b"".join(lines))
                    self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
                    if verb == b"QUIT":
                        return

        self.messages = messages
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        port = self.server.server_address[1]
        return f"mailto://127.0.0.1:{port}?from=mlpipex@example.com&to=oncall@example.com&mode=insecure"


@pytest.fixture
def mail() -> Iterator[MailServer]:
    server = MailServer()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def hook() -> Iterator[AlertReceiver]:
    receiver = AlertReceiver()
    yield receiver
    receiver.stop()


def send(alerter: AppriseAlerter, channel: str = "on-call") -> AlertDelivery:
    return alerter.alert(
        channel=channel, title="fraud rolled back", body="too many errors", severity="critical", facts=FACTS
    )


def test_a_mail_has_one_line_a_fact(mail: MailServer) -> None:
    assert send(AppriseAlerter({"on-call": [mail.url]})).failures == ()
    (raw,) = mail.messages
    body = email.message_from_bytes(raw, policy=policy.default).get_body(("html", "plain"))
    assert body is not None
    text = str(body.get_content())
    shown = re.split(r"<br\s*/?>|</?p>|\n", text) if body.get_content_type() == "text/html" else text.splitlines()
    lines = [re.sub(r"<[^>]+>", "", line).replace("&nbsp;", " ").strip() for line in shown]
    expected = ["too many errors", *(f"{key}: {value}" for key, value in FACTS.items())]
    assert [line for line in lines if line in expected] == expected


def test_each_receiver_is_named_by_place_and_service_and_never_by_url(hook: AlertReceiver) -> None:
    nobody = "json://user:hush@127.0.0.1:9/"
    delivery = send(AppriseAlerter({"on-call": [hook.apprise_url, nobody]}))
    assert delivery.notified == ("channel on-call, receiver 1 of 2 (json)",)
    assert delivery.failures == ("channel on-call, receiver 2 of 2 (json): not delivered",)
    assert "serving now: 1.0.0-rt1.0.0-ab" in hook.received()[0]["message"]


def test_what_the_ledger_names_is_used_where_the_process_names_nobody(hook: AlertReceiver) -> None:
    shared = {"on-call": [hook.apprise_url], "team": [hook.apprise_url]}
    alerter = AppriseAlerter({"team": ["json://127.0.0.1:9/"]}, shared=lambda: shared)
    assert send(alerter).notified == ("channel on-call, receiver 1 of 1 (json)",)
    assert send(alerter, "team").notified == ()
    assert len(hook.received()) == 1


def test_a_channel_without_receivers_says_how_to_name_some() -> None:
    (why,) = send(AppriseAlerter({})).failures
    assert "mlpipex alerts set on-call" in why


def test_a_ledger_that_is_away_is_an_answer_and_no_error() -> None:
    def away() -> dict[str, tuple[str, ...]]:
        raise LedgerUnavailable("ledger sqlite:///x")

    (why,) = send(AppriseAlerter({}, shared=away)).failures
    assert "cannot be read" in why


@pytest.mark.parametrize(
    "evil", ["<!channel>", "<!here|now>", "<@U012AB>", "<https://evil.example|runbook>", "@everyone", "@here"]
)
def test_what_a_stranger_has_written_calls_nobody_and_makes_no_line(hook: AlertReceiver, evil: str) -> None:
    alerter = AppriseAlerter({"on-call": [hook.apprise_url]})
    body = f"too slow {evil}"
    facts = {"cause": f"x\nserving now: 9.9.9\x1b[2J {evil}"}
    alerter.alert(channel="on-call", title=f"back {evil}\nagain", body=body, severity="critical", facts=facts)
    (received,) = hook.received()
    said = received["title"] + "\n" + received["message"]
    assert evil not in said and "\x1b" not in said
    assert len(said.splitlines()) == 3, "title, body and one fact"
    # A person reads it as it was written.
    assert said.replace("\u200c", "").count(evil) == 3
