"""Drift check: one look at what an endpoint was asked and answered, beside what its release was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_mlpipex.domain.errors import DriftUndecided
from airflow_provider_mlpipex.domain.fields.quantities import parse_moment
from airflow_provider_mlpipex.domain.gates.verdict import VerdictName
from airflow_provider_mlpipex.domain.names import EndpointRef, check_name
from airflow_provider_mlpipex.manifest_files import load_manifest_file
from airflow_provider_mlpipex.operators.base import MlpipexOperator, StageRun, StageTask

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_mlpipex.observability import Invariant
    from airflow_provider_mlpipex.services.drift.check import DriftCheck
    from airflow_provider_mlpipex.services.platform import Platform

#: The outlet through which tasks update drift Assets: an Asset that is an outlet itself would be updated by every task
#: that succeeds, one that found nothing included.
DRIFT_ALIAS = AssetAlias(name="mlpipex-drift")

OnDrift = Literal["fail", "announce"]
Undecided = Literal["fail", "skip"]


def drift_asset(name: str) -> Asset:
    """The Asset that is updated when drift of the endpoints called ``name`` is found, for ``schedule=[…]`` of a Dag."""
    return Asset(name=f"drift__{check_name(name)}", uri=f"mlpipex://drift/{name}")


class DriftTask(StageTask):
    """Mixin of whatever looks at drift: one look, what is told of it, and the Asset that it updates."""

    stage_name = "drift"
    endpoint: str
    manifest: str | None
    release: str
    undecided: Undecided
    looked_at = ""

    def stage_endpoint(self) -> EndpointRef:
        return EndpointRef.parse(self.endpoint)

    def healthy_before(self, platform: Platform, endpoint: EndpointRef) -> Mapping[str, Invariant]:
        from airflow_provider_mlpipex.services.rollout import invariants

        return {
            "the ledger is the one that was noted": lambda: invariants.the_ledger_is_the_one_that_was_noted(
                platform, endpoint
            ),
            "the plane serves what the ledger confirmed": lambda: invariants.plane_serves_what_the_ledger_confirmed(
                platform, endpoint
            ),
        }

    def healthy_after(self, platform: Platform, endpoint: EndpointRef) -> Mapping[str, Invariant]:
        from airflow_provider_mlpipex.services.rollout import invariants

        return {
            "the release that was looked at is still current": lambda: (
                invariants.release_is_still_current(platform, endpoint, self.looked_at)
                if self.looked_at and not self.release
                else None
            )
        }

    def look_once(self, run: StageRun, **window: Any) -> DriftCheck:
        """One look; log, metrics, ledger and XCom ``drift`` know of it, whatever it found."""
        from airflow_provider_mlpipex.services.drift.check import look

        manifest = load_manifest_file(self.manifest) if self.manifest else None
        check = look(run.platform, run.endpoint, manifest=manifest, release=self.release, **window)
        self.looked_at = check.release
        run.envelope.drift(check)
        run.push("drift", summary_of(check))
        return check

    def announce(self, run: StageRun, check: DriftCheck) -> None:
        """Update the drift Asset, if this task has not announced the same drift in an earlier Dag run."""
        run.envelope.add(announced=check.news)
        if check.news:
            outlet = run.context["outlet_events"][DRIFT_ALIAS]
            outlet.add(drift_asset(run.endpoint.name), extra=summary_of(check))

    def may_skip(self, run: StageRun, verdict: VerdictName) -> bool:
        """Whether the task is skipped. What is broken never is."""
        skips = verdict == "inconclusive" and self.undecided == "skip"
        if skips:
            run.envelope.outcome = "skipped"
        return skips

    def require_one_of(self, parameter: str, value: str, allowed: Any) -> None:
        """:raises ConfigurationInvalid: a Dag file says something else than one of the ``allowed`` words."""
        if value not in get_args(allowed):
            raise self.invalid(parameter, value, f"one of {', '.join(get_args(allowed))}")


class DriftCheckOperator(DriftTask, MlpipexOperator):
    """Look once at the drift of an endpoint: judge it, name the batch that carries it, tell on-call, and say so.

    Every outcome is in the ledger and in XCom ``drift``: ``verdict``, ``reason``, ``release``, ``columns`` that raise
    the alarm, ``batches`` that carry it or are faulty by themselves, with the Dag run that sent each, and ``entry``,
    the ledger entry. A drift or a faulty batch that was found fails the task; with ``on_drift="announce"`` it succeeds
    and updates the Asset ``mlpipex://drift/<name>``, once for the same drift. A faulty batch alone updates no Asset:
    nothing is to be trained on it. (Airflow takes no Asset event from a task that failed.)

    :param endpoint: ``environment/name``.
    :param manifest: path of a manifest by whose numbers to judge, instead of the one that the current release was
        promoted under. That one was reviewed.
    :param release: identifier of another release than the current one.
    :param since: beginning of the window, ISO 8601, UTC where it names no zone; as long before its end as the manifest
        says if empty.
    :param until: end of the window; now if empty.
    :param on_drift: ``fail``, or ``announce``.
    :param undecided: ``fail``, or ``skip`` where there is nothing current or too few rows. A column that is broken
        fails the task all the same.
    """

    template_fields = ("endpoint", "manifest", "release", "since", "until")

    def __init__(
        self,
        *,
        endpoint: str,
        manifest: str | None = None,
        release: str = "",
        since: str = "",
        until: str = "",
        on_drift: OnDrift = "fail",
        undecided: Undecided = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.manifest = manifest
        self.release = release
        self.since = since
        self.until = until
        self.on_drift = on_drift
        self.undecided = undecided
        self.check_endpoint()
        self.require_one_of("on_drift", on_drift, OnDrift)
        self.require_one_of("undecided", undecided, Undecided)
        if on_drift == "announce":
            self.add_outlets([DRIFT_ALIAS])

    def execute(self, context: Context) -> dict[str, Any]:
        with self.in_stage(context) as run:
            window = {
                name: parse_moment(text, what=name)
                for name, text in (("since", self.since), ("until", self.until))
                if text
            }
            try:
                check = self.look_once(run, **window)
            except DriftUndecided as nothing_current:
                if not self.may_skip(run, "inconclusive"):
                    raise
                skipped = str(nothing_current)
            else:
                skipped = self._decide(run, check)
        if skipped:
            raise AirflowSkipException(skipped)
        return summary_of(check)

    def _decide(self, run: StageRun, check: DriftCheck) -> str:
        """Why the task is skipped; empty where it is not."""
        if self.may_skip(run, check.verdict):
            return check.reason
        if check.verdict == "fail" and self.on_drift == "announce":
            self.announce(run, check)
        else:
            from airflow_provider_mlpipex.services.drift.check import require

            require(check)
        return ""


def summary_of(check: DriftCheck) -> dict[str, Any]:
    """What other tasks, and whoever an Asset event triggers, get to know: small, and JSON."""
    batches = check.traced.batches if check.traced else ()
    return {
        "endpoint": str(check.endpoint),
        "release": check.release,
        "since": check.since.isoformat(),
        "until": check.until.isoformat(),
        "verdict": check.verdict,
        "reason": check.reason,
        "rows": check.rows,
        "columns": list(check.raising),
        "batches": [
            {
                "batch": batch.batch,
                "shares": batch.shares,
                "faults": [fault.reason for fault in batch.faults],
                "rows": batch.rows,
                "digest": batch.sent.digest if batch.sent else "",
                "dag_id": batch.sent.dag_id if batch.sent else "",
                "run_id": batch.sent.run_id if batch.sent else "",
                "task_id": batch.sent.task_id if batch.sent else "",
                "requests": [row.request_id for row in batch.sample],
            }
            for batch in batches
        ],
        "report": check.page.address,
        "news": check.news,
        "entry": check.seq,
    }
