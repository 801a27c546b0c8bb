"""What a client of the ingress cannot make the plane believe, and how its tokens change while it serves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.predictions import Prediction
from airflow_provider_mlpipex.domain.rollout.traffic_plan import Mirror, TrafficPlan
from airflow_provider_mlpipex.serving.plane.tokens import TokenFiles
from tests.support.plane import RealPlane, fresh_window, invocation, now, number_of, path_of
from tests.support.polling import until

pytestmark = pytest.mark.system

SHOP = EndpointRef.parse("production/shop")
VARIANT, BATCH = "x-mlpipex-variant", "x-mlpipex-batch"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPlane]:
    plane = RealPlane(tmp_path_factory.mktemp("plane"))
    plane.start()
    try:
        plane.ensure(SHOP, 1, 2)
        yield plane
    finally:
        plane.stop()


def trial(plane: RealPlane, **mirror: float) -> None:
    current, candidate = plane.release(1).id, plane.release(2).id
    shadow = Mirror(release=candidate, fraction=mirror["fraction"]) if mirror else None
    on_trial = {"mirror": shadow} if shadow else {"candidate": candidate, "candidate_weight": 0}
    plane.port.apply(TrafficPlan.model_validate({"endpoint": SHOP, "current": current, "lease_s": 120, **on_trial}))


def logged(plane: RealPlane, number: int) -> list[Prediction]:
    since, until_ = now() - timedelta(minutes=30), now() + timedelta(seconds=5)
    release = plane.release(number).id
    return list(plane.port.predictions(SHOP, release, since=since, until=until_, limit=1000).rows)


def test_one_id_used_for_two_requests_makes_no_pair_and_takes_no_answer_away(plane: RealPlane) -> None:
    trial(plane, fraction=1.0)
    since = fresh_window()
    with plane.client(**{"x-request-id": "order-4711"}) as client:
        answers = [client.post(path_of(SHOP), json=invocation(float(at))) for at in (10, 77, 9999)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len({*ids, "order-4711"}) == 4, "the plane names each request"
    assert {answer.headers["x-mlpipex-client-request-id"] for answer in answers} == {"order-4711"}

    until(lambda: len(plane.port.served(SHOP, ids).rows) == 3, within_s=20, what="the answers are logged")
    served = plane.port.served(SHOP, [*ids, "order-4711"])
    assert [row.score for row in served.rows] == pytest.approx([1010.0, 1077.0, 10999.0])
    with plane.client() as nameless:
        headers = nameless.post(path_of(SHOP), json=invocation()).headers
    assert headers["x-request-id"] and "x-mlpipex-client-request-id" not in headers
    assert served.ambiguous == (), "an id that was used again is no label's"

    ends = now() + timedelta(seconds=5)

    def paired() -> int:
        one, other = plane.release(1).id, plane.release(2).id
        return plane.port.compare(SHOP, primary=one, shadow=other, since=since, until=ends).pairs

    until(lambda: paired() >= 4, within_s=20, what="each is paired with its copy")
    assert paired() == 4


def test_who_chooses_a_release_shows_the_testers_token(plane: RealPlane) -> None:
    trial(plane)
    with plane.client(scope="client", **{VARIANT: "candidate"}) as client:
        refused = client.post(path_of(SHOP), json=invocation())
    assert (refused.status_code, VARIANT in refused.json()["message"]) == (403, True), refused.text
    with plane.client(scope="tester", **{VARIANT: "candidate"}) as tester:
        assert number_of(tester.post(path_of(SHOP), json=invocation())) == 2
    with plane.client(scope="batch", **{VARIANT: "candidate"}) as scorer:
        assert scorer.post(path_of(SHOP), json=invocation()).status_code == 403


def test_who_names_a_batch_shows_the_batch_token(plane: RealPlane) -> None:
    trial(plane)
    for scope in ("client", "tester"):
        with plane.client(scope=scope, **{BATCH: "nightly"}) as client:
            refused = client.post(path_of(SHOP), json=invocation(5.0))
        assert (refused.status_code, BATCH in refused.json()["message"]) == (403, True), refused.text
    with plane.client(scope="batch", **{BATCH: "nightly"}) as scorer:
        assert scorer.post(path_of(SHOP), json=invocation(6.0)).status_code == 200
    until(lambda: any(row.batch == "nightly" for row in logged(plane, 1)), within_s=20, what="the row is logged")
    assert [row.inputs["distance"] for row in logged(plane, 1) if row.batch == "nightly"] == [6.0]


@pytest.mark.parametrize("scope", ["client", "tester", "batch"])
def test_every_token_of_the_ingress_asks_for_predictions(plane: RealPlane, scope: str) -> None:
    trial(plane)
    with plane.client(scope=scope) as client:
        assert client.post(path_of(SHOP), json=invocation()).status_code == 200
        assert client.post("/endpoints/production/nobody/invocations", json={}).json()["error_code"] == (
            "ENDPOINT_NOT_FOUND"
        )
        control = httpx.get(f"{plane.control_url}/v1/health", headers=dict(client.headers))
        assert control.status_code == 401, "and none is taken by the control API"


def test_a_clients_token_is_rotated_while_connections_are_open(plane: RealPlane, tmp_path: Path) -> None:
    """Also on a connection that was opened with the token before: a listener's own rules would hold there."""
    trial(plane)
    files = TokenFiles(plane.state_dir)
    with plane.client() as before:

        def status(client: httpx.Client) -> int:
            return client.post(path_of(SHOP), json=invocation()).status_code

        assert status(before) == 200
        files.rotate("clients", grace_s=3600)
        with plane.client() as after:
            until(lambda: status(after) == 200, within_s=20, what="the new token is taken")
            assert status(before) == 200, "for its grace, the one before is taken as well"
            files.rotate("clients", grace_s=0)
            until(lambda: status(after) == 403, within_s=20, what="the one before is void")
            assert status(before) == 403
    with plane.client() as newest:
        assert status(newest) == 200


def test_a_token_file_that_is_removed_shuts_nobody_out(plane: RealPlane) -> None:
    trial(plane)
    path = plane.state_dir / "client-token"
    token = path.read_text()
    with plane.client() as client:
        path.unlink()
        try:
            assert [client.post(path_of(SHOP), json=invocation()).status_code for _ in range(20)] == [200] * 20
        finally:
            path.write_text(token)
            path.chmod(0o600)
