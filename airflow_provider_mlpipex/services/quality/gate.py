"""The judgement of a table as a gate: nothing critical may be broken."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_mlpipex.domain.gates.evidence import Evidence
from airflow_provider_mlpipex.domain.gates.gate import Gate
from airflow_provider_mlpipex.domain.gates.judging import judge
from airflow_provider_mlpipex.domain.gates.verdict import GateResult
from airflow_provider_mlpipex.domain.quality.report import QualityReport, evidence_of, explain


def judge_report(
    report: QualityReport | None, *, gate: str, since: datetime, until: datetime, now: datetime, why_not: str = ""
) -> GateResult:
    """The gate ``gate`` on ``report``; a table of which nothing was judged is ``inconclusive``.

    :param since: of the rows; and ``until``.
    :param why_not: why there is no report.
    """
    rule = Gate(name=gate, metric="quality.broken", max=0)
    evidence: Evidence | None = None
    if report is not None:
        evidence = evidence_of([report], since=since, until=until).get(rule.metric)
    result = judge(rule, evidence, now=now)
    remark = _remark(report) if report is not None else why_not
    return result.model_copy(update={"reason": f"{result.reason}; {remark}"}) if remark else result


def _remark(report: QualityReport) -> str:
    """What a gate's number cannot say: columns, expectations, values, rows, and where the whole result is."""
    page = f"the whole result: {report.results}" if report.results else ""
    trouble = f"the result could not be written: {report.trouble}" if report.trouble else ""
    return "; ".join(part for part in (explain(report), page, trouble) if part)
