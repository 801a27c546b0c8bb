"""Telling people about a rollout from any Airflow callback, through channels of the connection or other notifiers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseNotifier

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import Origin
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_mlpipex.services.platform import Platform


_ORIGIN = Origin(kind="task")


class RolloutNotifier(BaseNotifier):
    """A notifier that knows what an endpoint serves now, how its last rollout ended, and why.

    Rollbacks are told to on-call by the provider itself, whatever callbacks a Dag has. This is for everything else: a
    channel at every promotion, a ticket at a rejected review.

    Example: ``on_failure_callback=RolloutNotifier(endpoint="production/fraud-scorer", channel="team", behind=[
    SlackNotifier(text="{{ rollout.title }}: {{ rollout.body }}")])``.

    :param endpoint: ``environment/name``.
    :param channel: a channel of the connection's ``alert_channels`` (Apprise urls); empty for none.
    :param behind: other Airflow notifiers; they find ``rollout`` (``title``, ``body``, ``endpoint``, ``current``,
        ``previous``, ``ending``) in their template context.
    :param severity: ``info``, ``warning`` or ``critical``.
    :param mlpipex_conn_id: connection of type ``mlpipex``.
    """

    template_fields = ("endpoint", "channel", "severity")

    def __init__(
        self,
        *,
        endpoint: str,
        channel: str = "",
        behind: Sequence[BaseNotifier] = (),
        severity: str = "info",
        mlpipex_conn_id: str = MlpipexHook.default_conn_name,
        context: Context | None = None,
    ) -> None:
        super().__init__(context=context)
        self.endpoint = endpoint
        self.channel = channel
        self.behind = behind
        self.severity = severity
        self.mlpipex_conn_id = mlpipex_conn_id

    def notify(self, context: Context) -> None:
        """Tell everybody; a receiver that fails does not keep the others from being told.

        :raises ExceptionGroup: with what each failed receiver said.
        """
        rollout, failures = self._tell_channel(MlpipexHook(self.mlpipex_conn_id).platform(_ORIGIN))
        for notifier in self.behind:
            try:
                notifier(_with(context, rollout))
            except Exception as error:  # noqa: BLE001 - somebody else's notifier may raise anything; all are told, then it is raised
                failures.append(error)
        self._raise(failures)

    async def async_notify(self, context: Context) -> None:
        """:meth:`notify` on the triggerer, where deadline callbacks run; nothing here blocks its event loop.

        :raises ExceptionGroup: with what each failed receiver said.
        """
        platform = await MlpipexHook(self.mlpipex_conn_id).platform_async(_ORIGIN)
        rollout, failures = await asyncio.to_thread(self._tell_channel, platform)
        for notifier in self.behind:
            try:
                if type(notifier).async_notify is BaseNotifier.async_notify:
                    await asyncio.to_thread(notifier, _with(context, rollout))
                else:
                    notifier.context = _with(context, rollout)
                    await notifier
            except Exception as error:  # noqa: BLE001 - as above
                failures.append(error)
        self._raise(failures)

    def _tell_channel(self, platform: Platform) -> tuple[dict[str, str], list[Exception]]:
        """The rollout in words, and what went wrong in telling the channel about it."""
        from airflow_provider_mlpipex.services.rollout.status import endpoint_status

        rollout = summary(endpoint_status(platform, EndpointRef.parse(self.endpoint)))
        if not self.channel:
            return rollout, []
        delivery = platform.alerter.alert(
            channel=self.channel,
            title=rollout["title"],
            body=rollout["body"],
            severity=self.severity,
            facts={key: rollout[key] for key in ("endpoint", "current", "previous", "ending")},
        )
        return rollout, [RuntimeError(each) for each in delivery.failures]

    def _raise(self, failures: list[Exception]) -> None:
        if failures:
            raise ExceptionGroup(f"{len(failures)} receivers were not told about {self.endpoint}", failures)


def _with(context: Context, rollout: dict[str, str]) -> Context:
    return cast("Context", {**context, "rollout": rollout})


def summary(status: dict[str, Any]) -> dict[str, str]:
    """What an endpoint serves and how its last rollout ended, as words for a message."""
    last = status["last_result"] or {}
    rollout = status["rollout"]
    phase = f"rollout in {rollout['phase']}" if rollout else str(last.get("ending", "no rollout yet"))
    return {
        "title": f"{status['endpoint']}: {phase}",
        "body": str(last.get("cause") or f"serving {status['current'] or 'nothing'}"),
        "endpoint": status["endpoint"],
        "current": status["current"] or "nothing",
        "previous": status["previous"] or "nothing",
        "ending": str(last.get("ending", "")),
    }
