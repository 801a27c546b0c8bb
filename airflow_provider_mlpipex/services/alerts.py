"""Notifying on-call. An alert that cannot be delivered never stops a rollback: it is recorded, and owed from then on.

Whoever comes next delivers what is owed: another process may know receivers that this one does not. Two that come at
the same moment may both deliver it, which on-call forgives sooner than silence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from airflow_provider_mlpipex.domain.errors import MlpipexError
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.endpoint_hold import held_sentence
from airflow_provider_mlpipex.domain.rollout.events import AlertDelivery, AlertRaised, AlertRetried, Event
from airflow_provider_mlpipex.domain.rollout.state import EndpointState, OwedAlert, RolloutResult, UnannouncedEnding
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform

#: Where alerts go that no manifest sends elsewhere.
DEFAULT_CHANNEL = "on-call"
_SEVERITY = {"rolled-back": "critical", "rejected": "warning", "promoted": "info"}
#: Characters of an alert's body that the ledger keeps.
_MAX_BODY = 2_000
#: Who ends a rollout says so at once. After this long without an alert it has died, and somebody else says it.
_ANNOUNCED_WITHIN = timedelta(seconds=60)
#: Older alerts are not sent any more: the ledger has them, and they are no news.
_NEWS_FOR = timedelta(days=7)
#: Between two tries at most; the pause doubles from a minute on, the first further try comes at once.
_MAX_PAUSE = timedelta(hours=1)


class Deciding:
    """``decision`` itself; ``before`` is the state that it has last decided on.

    What is new in the state after its own append is what it has brought about. Who compares with a state that he read
    earlier also tells what others have decided meanwhile: twelve who rolled back at once sent twelve alerts.
    """

    def __init__(self, decision: Callable[[EndpointState], Sequence[Event]]) -> None:
        self._decision = decision
        self._before: EndpointState | None = None

    def __call__(self, state: EndpointState) -> Sequence[Event]:
        self._before = state
        return self._decision(state)

    def tell(self, platform: Platform, after: EndpointState) -> None:
        """Alert about what the decision has ended. Nothing where it was never asked."""
        if self._before is not None:
            tell_endings(platform, self._before, after)


def decide_and_tell(
    platform: Platform,
    endpoint: EndpointRef,
    decision: Callable[[EndpointState], Sequence[Event]],
    *,
    rollout_id: str | None = None,
) -> EndpointState:
    """``journal.decide``, and an alert about every rollout that it has ended itself."""
    deciding = Deciding(decision)
    after = journal.decide(platform, endpoint, deciding, rollout_id=rollout_id)
    deciding.tell(platform, after)
    return after


def tell_endings(platform: Platform, before: EndpointState, after: EndpointState) -> None:
    """Alert about every rollout that ended between two states, where its manifest asks for it."""
    for rollout_id, outcome in after.results.items():
        if outcome != before.results.get(rollout_id):
            own = before.rollout is not None and before.rollout.id == rollout_id
            manifest = before.rollout.manifest if before.rollout and own else before.current_manifest
            _tell(platform, after, outcome, _alert_policy(manifest, after.endpoint), owner=owner_of(manifest))


def channel_of(manifest: dict[str, Any] | None, endpoint: EndpointRef) -> str:
    """Where alerts about ``endpoint`` go under ``manifest``."""
    return str(_alert_policy(manifest, endpoint).get("channel", DEFAULT_CHANNEL))


def owner_of(manifest: dict[str, Any] | None) -> str:
    """Who answers for an endpoint under ``manifest``, and where they are; empty where there is none."""
    owner = (manifest or {}).get("owner") or {}
    return ", ".join(str(owner[part]) for part in ("team", "contact") if owner.get(part))


def _alert_policy(manifest: dict[str, Any] | None, endpoint: EndpointRef) -> dict[str, Any]:
    environment = (manifest or {}).get("environments", {}).get(endpoint.environment, {})
    return environment.get("alerts") or {}


def _tell(
    platform: Platform, state: EndpointState, result: RolloutResult, policy: dict[str, Any], *, owner: str = ""
) -> None:
    if not _is_news(result, policy):
        return
    raise_alert(
        platform,
        state.endpoint,
        channel=policy.get("channel", DEFAULT_CHANNEL),
        title=result.title(state.endpoint),
        body=result.cause,
        severity=_SEVERITY[result.ending],
        facts={
            "endpoint": str(state.endpoint),
            "rollout": result.rollout_id,
            "serving now": state.serving_now,
            "owner": owner,
            **_held(state, result),
        },
    )


def _held(state: EndpointState, result: RolloutResult) -> dict[str, str]:
    """Of a rollback: what no automation releases again, and until when. Who reads only the alert would wait for it."""
    if result.ending != "rolled-back" or state.held_back is None:
        return {}
    return {"held": f"{held_sentence(state.held_back)}; until somebody resumes: mlpipex resume {state.endpoint}"}


def _is_news(result: RolloutResult, policy: dict[str, Any]) -> bool:
    # A rollback always alerts: a manifest may ask for more, never for silence at 3 a.m.
    return result.ending == "rolled-back" or result.ending in policy.get("on", ())


def raise_alert(
    platform: Platform,
    endpoint: EndpointRef,
    *,
    channel: str,
    title: str,
    body: str,
    severity: str,
    facts: dict[str, str],
) -> AlertDelivery:
    """Send one alert and record it, whoever was notified. It says who answers for the endpoint."""
    if not facts.get("owner"):
        state = journal.load(platform, endpoint)
        facts = {**facts, "owner": owner_of(state.rollout.manifest if state.rollout else state.current_manifest)}
    facts = {**facts, **_head(platform, endpoint)}
    delivery = platform.alerter.alert(channel=channel, title=title, body=body, severity=severity, facts=facts)
    journal.note(
        platform,
        endpoint,
        AlertRaised(
            title=title,
            failures=delivery.failures,
            notified=delivery.notified,
            channel=channel,
            body=body[:_MAX_BODY],
            severity=severity,
            facts=facts,
        ),
    )
    return delivery


def is_owing(platform: Platform, state: EndpointState) -> bool:
    """Whether :func:`deliver_owed` would try to send anything now."""
    now = platform.clock.now()
    return _unannounced(state, now) is not None or any(_is_due(owed, now) for owed in state.owed_alerts)


def _unannounced(state: EndpointState, now: datetime) -> RolloutResult | None:
    """The ending that somebody died before announcing, where its manifest asks for an alert."""
    if state.unannounced is None or not _died(state.unannounced, now):
        return None
    ending = state.results.get(state.unannounced.rollout_id)
    return ending if ending and _is_news(ending, state.unannounced.alerts) else None


def _head(platform: Platform, endpoint: EndpointRef) -> dict[str, str]:
    """The last entry of the ledger, as ``mlpipex audit verify --expect`` takes it.

    Whoever can write to the database has no hand on an alert that was sent.
    """
    try:
        (last,) = platform.ledger.read(endpoint, newest_first=True, limit=1)
    except (MlpipexError, ValueError):
        return {}
    return {"ledger": f"{endpoint}={last.seq}:{last.hash}"}


def deliver_owed(platform: Platform, state: EndpointState) -> None:
    """Send what reached nobody, or what somebody died before saying; costs nothing where nothing is owed.

    What cannot be delivered now either is tried again after a pause that grows to an hour, for a week.
    """
    now = platform.clock.now()
    ending = _unannounced(state, now)
    if state.unannounced and ending:
        _tell(platform, state, ending, state.unannounced.alerts)
    for owed in state.owed_alerts:
        if _is_due(owed, now):
            delivery = platform.alerter.alert(
                channel=owed.channel,
                title=owed.title,
                body=f"{owed.body}\n(raised {owed.raised_at:%Y-%m-%d %H:%M} UTC, when nobody could be notified)",
                severity=owed.severity,
                facts=owed.facts,
            )
            journal.note(
                platform,
                state.endpoint,
                AlertRetried(alert=owed.seq, notified=delivery.notified, failures=delivery.failures),
            )


def _died(ending: UnannouncedEnding, now: datetime) -> bool:
    return _ANNOUNCED_WITHIN <= now - ending.since < _NEWS_FOR


def _is_due(owed: OwedAlert, now: datetime) -> bool:
    pause = min(timedelta(minutes=2 ** (owed.tries - 2)), _MAX_PAUSE) if 1 < owed.tries < 20 else _MAX_PAUSE
    waited = owed.tries == 1 or now - owed.tried_at >= pause
    return waited and now - owed.raised_at < _NEWS_FOR


class Notified(NamedTuple):
    """Who was notified by alerts of a span of a ledger, and who was not and why."""

    notified: tuple[str, ...]
    failures: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The same, for people."""
        if not self.notified and not self.failures:
            return "nobody was notified: this raised no alert"
        says = [f"notified: {'; '.join(self.notified)}" if self.notified else "NOBODY WAS NOTIFIED"]
        says += [f"not notified: {'; '.join(self.failures)}"] if self.failures else []
        return "; ".join(says)


def notified_since(platform: Platform, endpoint: EndpointRef, seq: int) -> Notified:
    """What alerts after ledger entry ``seq`` have reached."""
    events = [entry.event for entry in platform.ledger.read(endpoint, after_seq=seq)]
    alerts = [event for event in events if isinstance(event, (AlertRaised, AlertRetried))]
    return Notified(
        notified=tuple(dict.fromkeys(who for alert in alerts for who in alert.notified or ())),
        failures=tuple(dict.fromkeys(why for alert in alerts for why in alert.failures)),
    )
