"""Whether a rollback would work, and the drills that have shown it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_mlpipex.plugins.api import answers, ledger_answers, responses
from airflow_provider_mlpipex.plugins.api.access import Acting
from airflow_provider_mlpipex.plugins.api.routes_actions import Key, ReasonBody, fresh, writes
from airflow_provider_mlpipex.plugins.api.routes_endpoint import Endpoint
from airflow_provider_mlpipex.plugins.api.routes_rollouts import Before, Limit
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.fleet.endpoint import view
from airflow_provider_mlpipex.services.rollout import drill as drills

_HERE = "/endpoints/{environment}/{name}"
router = APIRouter(prefix=_HERE, tags=["readiness"])
#: Drills that one worker carries out at once: each takes seconds, and none may keep a rollback waiting.
_drills = ThreadPoolExecutor(2, thread_name_prefix="mlpipex-drill")


@router.get("/readiness", response_model=responses.ReadinessFacts)
def get_readiness(request: Request, platform: Acting, endpoint: Endpoint) -> Response:
    """The lamp, what it was judged by, and the last drill."""
    return answers.answer(request, answers.endpoint(view(platform, endpoint)).readiness)


@router.get("/drills", response_model=responses.DrillPage)
def get_drills(
    request: Request, platform: Acting, endpoint: Endpoint, limit: Limit = 20, before: Before = None
) -> Response:
    """Drills, the newest first."""
    journal.load_known(platform, endpoint)
    types = ("rollback-drill-ended",)
    entries = platform.ledger.read(endpoint, types=types, before_seq=before, newest_first=True, limit=limit)
    items = [answers.drill(entry) for entry in entries]
    return answers.answer(request, responses.DrillPage(items=items, next=ledger_answers.following(items, limit)))


@writes.post("/drill", response_model=responses.DrillFacts)
async def post_drill(platform: Acting, endpoint: Endpoint, body: ReasonBody, key: Key) -> Response:
    """Send every request to the previous release for a moment, and back. The same key again drills no second time."""
    acting = platform.acting_as(platform.origin.model_copy(update={"request": key}))

    def carried_out() -> responses.DrillFacts:
        done = drills.ended_before(acting, endpoint)
        if done is None:
            drills.drill(acting, endpoint, reason=body.reason)
            done = drills.ended_before(acting, endpoint)
        assert done is not None  # it has just been written
        return answers.drill(done)

    return fresh(await asyncio.get_running_loop().run_in_executor(_drills, carried_out))
