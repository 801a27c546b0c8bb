"""Entries, gates and rollouts as the API answers them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.rollout.events import Entry, Event, Origin, subject_of
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TOTAL_WEIGHT
from airflow_provider_mlpipex.plugins.api import responses
from airflow_provider_mlpipex.plugins.api import responses_record as record
from airflow_provider_mlpipex.plugins.api import responses_rollouts as rollouts
from airflow_provider_mlpipex.plugins.api.settings import base_path
from airflow_provider_mlpipex.services.fleet.rollouts import GateLook, JudgedGate, RolloutLine, Stage


def following(items: Sequence[Any], limit: int) -> int | None:
    """``seq`` before which the next page lies; ``None`` where this one is the last.

    :param items: of a page that was asked for with ``limit``, each with a ``seq``, the newest first.
    """
    return items[-1].seq if len(items) == limit else None


def origin(source: Origin) -> responses.OriginFacts:
    """Who wrote an entry, with the way to the task."""
    href = None
    if source.dag_id and source.run_id:
        # Run ids hold "+", ":" and "/", and are one segment all the same.
        dag, run, task = (quote(part, safe="") for part in (source.dag_id, source.run_id, source.task_id))
        href = f"{base_path()}/dags/{dag}/runs/{run}" + (f"/tasks/{task}" if task else "")
    return responses.OriginFacts(
        kind=source.kind,
        user=source.user,
        dag_id=source.dag_id,
        run_id=source.run_id,
        task_id=source.task_id,
        try_number=source.try_number,
        href=href,
    )


def entry(source: Entry) -> record.EntryFacts:
    """One entry whole."""
    return record.EntryFacts(
        seq=source.seq,
        at=source.recorded_at,
        type=source.event.type,
        subject=subject_of(source.event),
        summary=summary_of(source.event),
        origin=origin(source.origin),
        hash=source.hash,
        event=source.event.to_json(),
    )


#: Fields of an event that say most of it, in this order.
_TELLING = ("cause", "reason", "title", "verdict", "weight", "fraction", "ending", "to_release", "reviewer", "gate")


def summary_of(event: Event) -> str:
    """One line: what happened, and what it was about."""
    words = event.type.replace("-", " ")
    said = []
    for name in _TELLING:
        value = getattr(event, name, None)
        if name == "weight" and value is not None:
            said.append(f"{value / TOTAL_WEIGHT:.4g} of the requests")
        elif name == "fraction" and value is not None:
            said.append(f"{value:.4g} of the requests mirrored")
        elif value not in (None, ""):
            said.append(str(value))
    release = getattr(event, "release", None)
    if release is not None and not isinstance(release, str):
        said.append(release.id)
    return ": ".join([words, ", ".join(said[:3])]) if said else words


def number(value: float | None) -> float | None:
    """``None`` for what JSON has no number for."""
    return value if value is not None and math.isfinite(value) else None


def gate(source: JudgedGate | GateResult) -> rollouts.GateFacts:
    """What a gate says, and by what."""
    judged = source if isinstance(source, JudgedGate) else JudgedGate(result=source)
    result, evidence = judged.result, judged.result.evidence
    return rollouts.GateFacts(
        **_judged(result),
        gate=result.gate,
        advisory=result.advisory,
        rule=result.rule,
        reason=result.reason,
        source=evidence.source,
        metric=evidence.metric,
        about=evidence.about,
        baseline_samples=evidence.baseline_samples,
        since=evidence.since,
        until=evidence.until,
        alpha=number(result.alpha),
        alpha_left=number(judged.alpha_left),
        decidable_in_s=number(judged.decidable_in_s),
        rows_that_decide=result.rows_that_decide,
        why_not_yet=result.reason if result.verdict == "inconclusive" else None,
        broken=evidence.broken or evidence.baseline_broken,
        excused=result.excused,
    )


def _judged(result: GateResult) -> dict[str, Any]:
    """The fields of :class:`JudgedFacts`."""
    evidence, interval = result.evidence, result.interval
    return {
        "verdict": result.verdict,
        "value": number(evidence.value),
        "baseline": number(evidence.baseline),
        "threshold": number(result.threshold),
        "margin": number(result.margin),
        "interval": None if interval is None else (number(interval[0]), number(interval[1])),
        "samples": evidence.samples,
    }


def stage(source: Stage) -> rollouts.StageFacts:
    """One stage of a rollout."""
    return rollouts.StageFacts(
        stage=source.stage,
        step=source.step,
        share=source.share,
        state=source.state,
        since=source.since,
        until=source.until,
        verdict=source.verdict,
        task=origin(source.task) if source.task else None,
        gates=[gate(each) for each in source.gates],
    )


def rollout_line(source: RolloutLine) -> responses.RolloutLine:
    """One rollout in a list."""
    opened, now, result = source.event, source.rollout, source.result
    return responses.RolloutLine(
        id=opened.rollout_id,
        candidate=opened.release.id,
        model=f"{opened.release.model.name} {opened.release.model.version}",
        opened_at=source.opened.recorded_at,
        seq=source.opened.seq,
        phase=now.phase if now else "ended",
        step=now.step if now and now.step >= 0 else None,
        steps=[weight / TOTAL_WEIGHT for weight in opened.policy.canary_weights],
        ending=result.ending if result else None,
        ended_at=result.at if result else None,
        cause=(result.cause or None) if result else None,
        on_hold=responses.OnHold(cause=now.hold.cause, by=now.hold.by, since=now.hold.since)
        if now and now.hold
        else None,
        origin=origin(source.opened.origin),
    )


def look(source: GateLook) -> rollouts.LookFacts:
    """One look at a gate."""
    return rollouts.LookFacts(seq=source.seq, at=source.at, **_judged(source.result))
