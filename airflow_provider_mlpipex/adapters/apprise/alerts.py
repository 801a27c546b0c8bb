"""On-call by Apprise: one url a receiver (mail, Slack, PagerDuty, a webhook …), grouped into channels."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.fields.free_text import one_line, without_controls
from airflow_provider_mlpipex.domain.rollout.events import AlertDelivery

#: Slack's ``<!channel>``, ``<@U123>``, ``<#C123>`` and ``<https://…|text>``; ``@everyone`` and ``@here`` of others.
_MENTION = re.compile(r"<[!@#]|<(?=[a-z]+:)|@(?=(?:everyone|here|channel|all)\b)", re.IGNORECASE)
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
        lines = [body, *(f"{key}: {one_line(str(value))}" for key, value in facts.items())]
        text = _calls_nobody(without_controls("\n".join(lines), but="\n"))
        notified, failures = [], []
        for position, url in enumerate(urls, start=1):
            receiver = f"channel {channel}, receiver {position} of {len(urls)} ({urlsplit(url).scheme})"
            service = apprise.Apprise()
            # As what it is: taken for HTML, which mails are by default, its lines would run together.
            delivered = service.add(url) and service.notify(
                title=_calls_nobody(one_line(title)),
                body=text,
                body_format=apprise.NotifyFormat.TEXT,
                notify_type=apprise.NotifyType(_SEVERITY.get(severity, "info")),
            )
            if delivered:
                notified.append(receiver)
            else:
                failures.append(f"{receiver}: not delivered")
        return AlertDelivery(notified=tuple(notified), failures=tuple(failures))


def _calls_nobody(text: str) -> str:
    """``text`` in which no chat finds a mention, or a link of its own. A cause or a batch's name may have been written
    by anybody, and must neither wake a whole channel nor hide where a link leads."""
    return _MENTION.sub(lambda match: f"{match[0][0]}\N{ZERO WIDTH NON-JOINER}{match[0][1:]}", text)
