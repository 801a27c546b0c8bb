"""On-call by Apprise: one url a receiver (mail, Slack, PagerDuty, a webhook …), grouped into channels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.rollout.events import AlertDelivery

_SEVERITY = {"critical": "failure", "warning": "warning", "info": "info"}

Channels = Mapping[str, Sequence[str]]


class AppriseAlerter:
    """Urls hold credentials: they come from a connection, the environment or the ledger's settings, never from a
    manifest, and are never logged.

    :param channels: channel name -> Apprise urls, as this process knows them.
    :param shared: reads those that the ledger's settings name for everybody; asked for channels not in ``channels``.
    """

    def __init__(self, channels: Channels, *, shared: Callable[[], Channels] = dict) -> None:
        self._channels = channels
        self._shared = shared

    def alert(self, *, channel: str, title: str, body: str, severity: str, facts: Mapping[str, str]) -> AlertDelivery:
        """Send to every url of ``channel``; a receiver is named by its position and service, not by its url."""
        try:
            urls = self._channels.get(channel) or self._shared().get(channel, ())
        except MlpipexError as error:
            return AlertDelivery(failures=(f"channel {channel}: the ledger's settings cannot be read ({error.thing})",))
        if not urls:
            nobody = f"channel {channel}: it has no receivers; name some: mlpipex alerts set {channel} APPRISE-URL"
            return AlertDelivery(failures=(nobody,))
        try:
            import apprise
        except ImportError:
            missing = f"channel {channel}: Apprise is not installed; pip install 'airflow-provider-mlpipex[alerts]'"
            return AlertDelivery(failures=(missing,))
        # Apprise logs urls at info level on some failures; they hold tokens.
        logging.getLogger("apprise").setLevel(logging.ERROR)
        text = "\n".join([body, *(f"{key}: {value}" for key, value in facts.items())])
        notified, failures = [], []
        for position, url in enumerate(urls, start=1):
            receiver = f"channel {channel}, receiver {position} of {len(urls)} ({urlsplit(url).scheme})"
            service = apprise.Apprise()
            # As what it is: taken for HTML, which mails are by default, its lines would run together.
            delivered = service.add(url) and service.notify(
                title=title,
                body=text,
                body_format=apprise.NotifyFormat.TEXT,
                notify_type=apprise.NotifyType(_SEVERITY.get(severity, "info")),
            )
            if delivered:
                notified.append(receiver)
            else:
                failures.append(f"{receiver}: not delivered")
        return AlertDelivery(notified=tuple(notified), failures=tuple(failures))
