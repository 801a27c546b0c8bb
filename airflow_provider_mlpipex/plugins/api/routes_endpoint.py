"""One endpoint: what serves, and what a rollback would do."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.plugins.api import answers, responses
from airflow_provider_mlpipex.plugins.api.access import Acting
from airflow_provider_mlpipex.services.fleet.endpoint import view

router = APIRouter(prefix="/endpoints/{environment}/{name}", tags=["endpoint"])


def endpoint_of(environment: str, name: str) -> EndpointRef:
    """:raises InvalidName: no endpoint can have that name."""
    return EndpointRef.parse(f"{environment}/{name}")


Endpoint = Annotated[EndpointRef, Depends(endpoint_of)]


@router.get("", response_model=responses.EndpointFacts)
def get_endpoint(request: Request, platform: Acting, endpoint: Endpoint) -> Response:
    """What serves, what a rollback would change, and whether it would work."""
    return answers.answer(request, answers.endpoint(view(platform, endpoint)))
