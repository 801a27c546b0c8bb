"""What requests to the control API say: each value read within its limits, or refused by name.

Whatever is not as it must be raises :class:`ConfigurationInvalid` with field, value and limit; a name that is none
raises :class:`InvalidName`.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, InvalidName
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import ReleaseId
from airflow_provider_mlpipex.domain.rollout.ledger_head import HeadClaim
from airflow_provider_mlpipex.domain.rollout.plane_observation import Surveyed
from airflow_provider_mlpipex.domain.rollout.traffic_plan import CLAIM_HEADER
from airflow_provider_mlpipex.domain.shadow.slices import MAX_COLUMNS
from airflow_provider_mlpipex.serving.plane.access import MAX_CONTROL_BYTES
from airflow_provider_mlpipex.serving.plane.control_openapi import MAX_ROWS, MAX_TIMEOUT_S

#: Windows that a survey may ask of one endpoint.
MAX_WINDOWS = 100
#: Of the moments that telemetry may be asked for.
_FIRST_YEAR, _LAST_YEAR = 1971, 2999
_RELEASE_ID: TypeAdapter[str] = TypeAdapter(ReleaseId)


def endpoint_of(request: Request) -> EndpointRef:
    """Of the path."""
    return EndpointRef.parse(f"{request.path_params['environment']}/{request.path_params['name']}")


def claim_of(request: Request) -> HeadClaim | None:
    """What the plan's sender says of its ledger; ``None`` from who says nothing, as earlier versions do."""
    text = request.headers.get(CLAIM_HEADER)
    if text is None:
        return None
    try:
        return HeadClaim.model_validate_json(text)
    except ValidationError:
        raise invalid(CLAIM_HEADER, text[:80], HeadClaim.__name__) from None


def column_of(request: Request) -> str:
    """Of the query; any text but none."""
    column = request.query_params.get("column")
    if not column:
        raise invalid("column", "", "the name of a column")
    return column


def slices_of(request: Request) -> list[str]:
    """Model inputs by which pairs are grouped, as the query names them."""
    named = request.query_params.getlist("slice")
    if len(named) > MAX_COLUMNS:
        raise invalid("slice", f"{len(named)} columns", f"at most {MAX_COLUMNS}")
    return named


def release_id_of(request: Request) -> str:
    """Of the path."""
    return checked_release_id(request.path_params["release"])


def checked_release_id(text: str) -> str:
    """``text``, which is one."""
    try:
        return _RELEASE_ID.validate_python(text)
    except ValidationError:
        raise InvalidName(
            "release", value=text[:120], limit="1.1.0-rt1.0.0-3fa9c2d1", remedy="copy it from the endpoint's status"
        ) from None


def read_flag(raw: object, field: str) -> bool:
    """Of a body."""
    if not isinstance(raw, bool):
        raise invalid(field, str(raw)[:80], "true or false")
    return raw


def read_seconds(raw: object) -> float:
    """A time limit of a body."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not 0 < raw <= MAX_TIMEOUT_S:
        raise invalid("timeout_s", str(raw)[:80], f"seconds, above 0 and up to {MAX_TIMEOUT_S:g}")
    return float(raw)


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object that was sent."""
    raw = await request.body()
    try:
        sent = json.loads(raw) if len(raw) <= MAX_CONTROL_BYTES else None
    except (ValueError, RecursionError):
        sent = None
    if not isinstance(sent, dict):
        raise invalid("request body", raw[:80].decode(errors="replace"), f"a JSON object ≤ {MAX_CONTROL_BYTES} bytes")
    return sent


def read_value(kind: Any, raw: object, field: str) -> Any:
    """``raw`` as the value class ``kind``; what is wrong with it is named without what was sent."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise invalid(field, problems[:500], kind.__name__) from None


def count_of(request: Request, field: str) -> int:
    """A number of rows of the query."""
    text = request.query_params.get(field, "")
    count = whole_number(text, at_most=MAX_ROWS)
    if count is None:
        raise invalid(field, text[:80], f"a whole number from 1 to {MAX_ROWS}")
    return count


def whole_number(text: str, *, at_most: int) -> int | None:
    """``text`` as a number from 1 on; ``None`` where it is none, in digits that everybody writes."""
    number = int(text) if re.fullmatch(r"[0-9]{1,10}", text) else 0
    return number if 1 <= number <= at_most else None


def moment_of(request: Request, field: str) -> datetime:
    """A moment of the query."""
    return read_moment(request.query_params.get(field), field)


def read_moment(raw: object, field: str) -> datetime:
    """ISO 8601 with a time zone."""
    try:
        moment = datetime.fromisoformat(raw) if isinstance(raw, str) else None
    except ValueError:
        moment = None
    # Beyond these years a window, a zone or a margin would leave the calendar.
    if moment is None or moment.tzinfo is None or not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        limit = f"ISO 8601 with a time zone, from {_FIRST_YEAR} to {_LAST_YEAR}"
        raise invalid(field, str(raw or "")[:80], limit)
    return moment


def number_of(request: Request, field: str, *, below: float) -> float:
    """A number of the query, above 0 and below ``below``."""
    given = request.query_params.get(field, "")
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not 0 < number < below:
        raise invalid(field, given[:80], f"a number above 0 and below {below:g}")
    return number


def read_survey(raw: object) -> list[Surveyed]:
    """``{"production/x": {"release": "…", "since": ["…"]}}``: what is asked of each endpoint."""
    if not isinstance(raw, dict):
        raise invalid("endpoints", str(raw)[:80], "an object: endpoint -> release and since")
    asked = []
    for name, question in raw.items():
        release, since = (
            (question.get("release"), question.get("since")) if isinstance(question, dict) else (None, None)
        )
        if not isinstance(since, list) or len(since) > MAX_WINDOWS or not isinstance(release, str):
            raise invalid(f"endpoints, {name[:80]}", str(question)[:80], f"a release and at most {MAX_WINDOWS} times")
        begins = tuple(read_moment(begin, f"endpoints, {name[:80]}, since") for begin in since)
        asked.append(Surveyed(EndpointRef.parse(name), checked_release_id(release) if since else "", begins))
    return asked


def invalid(field: str, value: str, limit: str) -> ConfigurationInvalid:
    """The error that refuses a value."""
    return ConfigurationInvalid(f"control API, {field}", value=value, limit=limit, remedy="correct the request")
