"""What a plane goes on with when it starts, its state file there or lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.rollout.traffic_plan import Mirror, TrafficPlan
from airflow_provider_mlpipex.serving.envoy import config as envoy_config
from airflow_provider_mlpipex.serving.envoy.config import cluster_name
from airflow_provider_mlpipex.serving.envoy.ingress_tokens import IngressTokens
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec
from airflow_provider_mlpipex.serving.plane.recovery import take_up
from airflow_provider_mlpipex.serving.plane.state import EndpointMemory, PlaneMemory, find_plane_id, write_memory
from airflow_provider_mlpipex.serving.state_dir import Places
from tests.support.factories import make_release

FRAUD, CHURN = EndpointRef.parse("production/fraud-scorer"), EndpointRef.parse("production/churn")
OLD, NEW, NEXT = make_release("1.0.0"), make_release("1.1.0"), make_release("1.2.0")


def current(endpoint: EndpointRef, release: Release, *, sticky: str = "x-user-id") -> TrafficPlan:
    return TrafficPlan(endpoint=endpoint, current=release.id, sticky_header=sticky)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "plane")


def left(places: Places, endpoint: EndpointRef, *releases: Release) -> None:
    """Records and specs of model servers, as a supervisor leaves them."""
    places.children.mkdir(exist_ok=True)
    (places.children / "envoy.json").write_text("{}")
    for release in releases:
        (places.children / f"{cluster_name(endpoint, release.id)}.json").write_text("{}")
        folder = places.server(endpoint, release.id)
        folder.mkdir(parents=True)
        spec = ModelServerSpec(endpoint=endpoint, release=release, model_dir="m", socket="s", log_dir="l")
        (folder / "spec.json").write_text(spec.model_dump_json())


def routed(places: Places, *plans: TrafficPlan, version: str = "41") -> Path:
    path = places.envoy.resource("rds")
    path.parent.mkdir(parents=True)
    path.write_text(
        json.dumps(
            envoy_config.resource_file(
                version,
                [envoy_config.routes([envoy_config.Routing(plan=plan) for plan in plans], tokens=IngressTokens())],
            )
        )
    )
    return path


def test_what_was_written_last_is_gone_on_with(places: Places) -> None:
    memory = PlaneMemory(version=3).with_endpoint(str(FRAUD), EndpointMemory(releases={OLD.id: OLD}))
    write_memory(places.memory, memory)
    left(places, FRAUD, NEW)
    assert take_up(places) == memory
    assert find_plane_id(places.root) == memory.plane_id


def test_a_folder_in_which_no_plane_has_run_holds_nothing(places: Places) -> None:
    memory = take_up(places)
    assert (memory.version, memory.endpoints) == (0, {})
    assert memory.plane_id == take_up(places).plane_id


def test_a_state_that_cannot_be_read_is_not_thrown_away_and_the_id_is_kept(places: Places) -> None:
    places.memory.write_text('{"plane_id": "' + "a" * 32 + '", "vers')
    with pytest.raises(ConfigurationInvalid):
        take_up(places)
    assert places.memory.exists()
    places.memory.unlink()
    assert take_up(places).plane_id == "a" * 32


@pytest.mark.parametrize(
    "trial",
    [
        {"candidate": NEW.id, "candidate_weight": 2500, "lease_s": 30},
        {"candidate": NEW.id, "candidate_weight": 10_000, "lease_s": 30},
        {"mirror": Mirror(release=NEW.id, fraction=0.5), "lease_s": 30},
        {"control": NEW.id, "control_weight": 500},
        {},
    ],
)
def test_what_ran_goes_on_and_current_answers_all(places: Places, trial: dict[str, object]) -> None:
    left(places, FRAUD, OLD, NEW)
    left(places, CHURN, NEXT)
    sticky = current(CHURN, NEXT, sticky="x-account")
    routed(places, TrafficPlan(endpoint=FRAUD, current=OLD.id, **trial), sticky)
    memory = take_up(places)
    assert memory.version == 41, "the number that Envoy says is in force is not given twice"
    assert memory.endpoints == {
        str(FRAUD): EndpointMemory(releases={OLD.id: OLD, NEW.id: NEW}, plan=current(FRAUD, OLD)),
        str(CHURN): EndpointMemory(releases={NEXT.id: NEXT}, plan=sticky),
    }


def test_a_release_that_was_current_and_has_no_record_gets_no_request(places: Places) -> None:
    left(places, FRAUD, NEW)
    routed(places, current(FRAUD, OLD))
    assert take_up(places).endpoints == {str(FRAUD): EndpointMemory(releases={NEW.id: NEW})}


@pytest.mark.parametrize("spoilt", ["", "[]", "{}", '{"resources": []}', '{"resources": [{"virtual_hosts": [{}]}]}'])
def test_spoilt_routes_say_nothing(places: Places, spoilt: str) -> None:
    left(places, FRAUD, OLD)
    routed(places).write_text(spoilt)
    memory = take_up(places)
    assert (memory.version, memory.endpoints) == (0, {str(FRAUD): EndpointMemory(releases={OLD.id: OLD})})


def test_a_server_of_which_nobody_can_say_what_it_serves_is_not_gone_on_with(places: Places) -> None:
    left(places, FRAUD, OLD, NEW)
    (places.server(FRAUD, OLD.id) / "spec.json").write_text('{"endpoint": "prod')
    (places.server(FRAUD, NEW.id) / "spec.json").unlink()
    assert take_up(places).endpoints == {}
