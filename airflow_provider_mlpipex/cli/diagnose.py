"""``mlpipex diagnose``: what is wrong with an endpoint, and which page says what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, configured_platform, emit
from airflow_provider_mlpipex.domain.errors import RUNBOOKS
from airflow_provider_mlpipex.domain.names import EndpointRef

app = typer.Typer()


@app.command()
def diagnose(endpoint: Annotated[str, typer.Argument()], as_json: AsJson = False) -> None:
    """What is wrong with an endpoint, the most harmful first, with the runbook page of each; changes nothing."""
    from airflow_provider_mlpipex.services.fleet import diagnosis

    findings = diagnosis.diagnose(configured_platform(), EndpointRef.parse(endpoint))

    def text() -> str:
        lines = [
            f"{place}. {finding.what}\n   {finding.evidence}\n   {RUNBOOKS}/{finding.runbook}.md"
            for place, finding in enumerate(findings, 1)
        ]
        return "\n".join(lines) or f"{endpoint}: nothing is wrong"

    emit([finding.to_json() for finding in findings], as_json, text)
