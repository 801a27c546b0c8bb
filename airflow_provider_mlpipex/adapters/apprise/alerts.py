"""On-call by Apprise: one url a receiver (mail, Slack, PagerDuty, a webhook …), grouped into channels."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

_SEVERITY = {"critical": "failure", "warning": "warning", "info": "info"}


class AppriseAlerter:
    """:param channels: channel name -> Apprise urls. They hold credentials: they come from a connection or the
    environment, never from a manifest, and are never logged."""

    def __init__(self, channels: Mapping[str, Sequence[str]]) -> None:
        self._channels = channels

    def alert(self, *, channel: str, title: str, body: str, severity: str, facts: Mapping[str, str]) -> list[str]:
        """Send to every url of ``channel``; the position of a failed receiver is reported, not its url."""
        urls = self._channels.get(channel, ())
        if not urls:
            return [f"channel {channel}: nobody is configured to be told"]
        try:
            import apprise
        except ImportError:
            return [f"channel {channel}: Apprise is not installed; install airflow-provider-mlpipex[alerts]"]
        # Apprise logs urls at info level on some failures; they hold tokens.
        logging.getLogger("apprise").setLevel(logging.ERROR)
        text = "\n".join([body, *(f"{key}: {value}" for key, value in facts.items())])
        failures = []
        for position, url in enumerate(urls, start=1):
            receiver = apprise.Apprise()
            delivered = receiver.add(url) and receiver.notify(
                title=title, body=text, notify_type=apprise.NotifyType(_SEVERITY.get(severity, "info"))
            )
            if not delivered:
                failures.append(f"channel {channel}, receiver {position} of {len(urls)}: not delivered")
        return failures
