"""Deployment review: a person approves what changed, or a named policy does, and the ledger says which."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param

from airflow_provider_mlpipex.domain.errors import ReviewRejected
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.operators.base import ROLLOUT_ID, StageTask

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_mlpipex.services.rollout.review import ReviewRequest
    from airflow_provider_mlpipex.services.rollout.review_facts import ReviewFacts


class DeploymentReviewOperator(StageTask, ApprovalOperator):
    """Ask for approval of a rollout, showing its typed changes and gate results.

    Where the manifest's policy approves every kind of change at hand, nobody is asked. A rejection, and a review that
    nobody answers in time, end the rollout and fail the task; what serves is not touched. Returns ``approved``,
    whether somebody was ``asked``, ``reviewer`` if so, and ``why``.

    :param endpoint: ``environment/name``.
    :param rollout_id: the rollout; one a Dag run by default.
    :param response_timeout: after this without an answer: rejected.
    :param mlpipex_conn_id: connection of type ``mlpipex``.
    """

    stage_name = "review"
    template_fields = ("endpoint", "rollout_id", "subject", "body")

    def __init__(
        self,
        *,
        endpoint: str,
        rollout_id: str = ROLLOUT_ID,
        response_timeout: timedelta = timedelta(hours=24),
        mlpipex_conn_id: str = MlpipexHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("subject", f"Deployment review: {endpoint}")
        kwargs.setdefault("params", {"note": Param(None, type=["null", "string"], maxLength=500, title="Note")})
        super().__init__(response_timeout=response_timeout, **kwargs)
        self.endpoint = endpoint
        self.rollout_id = rollout_id
        self.mlpipex_conn_id = mlpipex_conn_id
        self.check_endpoint()

    def stage_endpoint(self) -> EndpointRef:
        return EndpointRef.parse(self.endpoint)

    def execute(self, context: Context) -> dict[str, Any] | None:
        from airflow_provider_mlpipex.services.rollout.review import open_review

        with self.in_stage(context) as run:
            request = open_review(run.platform, endpoint=run.endpoint, rollout_id=self.rollout_id)
            run.envelope.add(needs_person=request.needs_person, why=request.why)
            run.push("changes", [change.to_json() for change in request.changes])
            if not request.needs_person:
                return {"approved": True, "asked": False, "why": request.why}
            run.envelope.outcome = "deferred"
        self.body = describe(request)
        # Parks the task until somebody answers in the Airflow UI or API: no worker and no trigger waits for a person.
        answered: dict[str, Any] | None = super().execute(context)
        return answered

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.rollout.review import decide_review

        with self.in_stage(context) as run:
            approved, reviewer, note = read_answer(event, self.APPROVE, self.response_timeout)
            run.envelope.add(approved=approved, reviewer=reviewer, note=note)
            decide_review(
                run.platform,
                endpoint=run.endpoint,
                rollout_id=self.rollout_id,
                approved=approved,
                reviewer=reviewer,
                note=note,
            )
            if not approved:
                raise ReviewRejected(
                    f"rollout {self.rollout_id} of {run.endpoint}",
                    value=f"rejected by {reviewer}",
                    limit=note or "no note was left",
                    remedy="nothing that serves has changed; mend what was objected to and start a new run",
                )
            return {"approved": True, "asked": True, "reviewer": reviewer, "why": note}


def read_answer(event: dict[str, Any], approve: str, waited: timedelta | None) -> tuple[bool, str, str]:
    """Whether it was approved, by whom, and the note; silence and anything unreadable reject.

    Silence rejects even where the operator was given another default answer.
    """
    if event.get("timedout") or event.get("error_type") == "timeout":
        return False, "deadline", f"nobody answered within {waited}"
    if "error" in event:
        return False, "airflow", str(event["error"])
    person = event.get("responded_by_user") or {}
    reviewer = str(person.get("name") or person.get("id") or "unknown")
    note = str((event.get("params_input") or {}).get("note") or "")
    return event.get("chosen_options") == [approve], reviewer, note


def describe(request: ReviewRequest) -> str:
    """What a reviewer reads, as Markdown: what would be released and what became of it before, the changes, the gates
    with their numbers, and the metrics beside those of the current release."""
    lines = [f"**{request.why}**", ""]
    facts = request.facts
    if facts is not None:
        lines += [*_introduced(facts), ""]
    lines += ["| kind | what | before | after |", "|---|---|---|---|"]
    lines += [f"| {c.kind} | {_cell(c.what)} | {_cell(c.before)} | {_cell(c.after)} |" for c in request.changes]
    lines += ["", "| gate | verdict | what was seen |", "|---|---|---|"]
    lines += [f"| {_cell(r.rule)} | {r.verdict} | {_cell(r.reason)} |" for r in request.results]
    if facts is not None and facts.metrics:
        lines += ["", "| metric | current release | this release |", "|---|---|---|"]
        lines += [f"| {_cell(m.name)} | {m.shown(m.current)} | {m.shown(m.candidate)} |" for m in facts.metrics]
    return "\n".join(lines)


def _introduced(facts: ReviewFacts) -> list[str]:
    run = f", [training run]({facts.run_page})" if facts.run_page else ""
    lines = [
        f"- release **{facts.candidate}** would replace {facts.current or 'nothing: it is the first here'}",
        f"- on its way: {facts.path}",
        f"- commit `{facts.commit}`{run}",
        f"- owner: {facts.owner}, {facts.contact}",
    ]
    return lines + [f"- **{_cell(tried.sentence)}**" for tried in facts.earlier]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
