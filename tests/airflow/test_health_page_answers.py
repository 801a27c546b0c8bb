"""What the page expects and what the API answers are the same fields.

The page's own tests live on ``ui/test/fixtures.ts``, which its compiler checks against the page's types. Here each of
those answers is read by the API's own model of that route, which refuses a field too many and one too few.
"""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from airflow_provider_mlpipex.plugins.mlpipex_plugin import MlpipexPlugin
from tests.support.api_server import client_of
from tests.support.page import fixture_answers

PREFIX = "/api/v1/"
ENDPOINT = "endpoints/{environment}/{name}"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return fixture_answers(tmp_path_factory.mktemp("fixtures"))


@pytest.fixture(scope="module")
def models(airflow_db: None) -> dict[str, Any]:
    """Route, as the page names it -> what it answers with."""
    from airflow_provider_mlpipex.plugins.api.app import create_app

    app: FastAPI = create_app()
    return {
        route.path.removeprefix(PREFIX).replace(ENDPOINT, "{e}"): route.response_model
        for route in app.routes
        if isinstance(route, APIRoute) and route.response_model is not None
    }


def test_every_answer_that_the_page_reads_is_one_that_the_api_gives(
    answers: dict[str, Any], models: dict[str, Any]
) -> None:
    assert len(models) >= 6
    wrong = {}
    for route, answer in answers.items():
        if route not in models:
            wrong[route] = "no such route"
            continue
        try:
            TypeAdapter(models[route]).validate_python(answer)
        except ValueError as error:
            wrong[route] = str(error)
    assert not wrong, "\n\n".join(f"{route}: {why}" for route, why in wrong.items())


def test_a_browser_gets_the_page_as_javascript(airflow_db: None) -> None:
    """It imports nothing that comes under another name, and is told not to guess."""
    (nav, _) = MlpipexPlugin().react_apps
    answer = client_of(None).get(nav["bundle_url"])
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == "text/javascript"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "AirflowPlugin" in answer.text
