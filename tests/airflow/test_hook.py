"""The connection: every field, what is said about bad ones, what is masked, and the test button."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseHook
from airflow.sdk.definitions.connection import Connection

from airflow_provider_mlpipex import MlpipexHook
from airflow_provider_mlpipex.composition import Settings
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.rollout.events import Origin
from airflow_provider_mlpipex.hooks import mlpipex as module
from airflow_provider_mlpipex.testing.platform import MemoryPlatform
from tests.airflow.release_run import PRODUCTION, ReleaseRun

ORIGIN = Origin(kind="task", task_id="test")


def connection(extra: dict[str, Any] | None = None, **fields: Any) -> Connection:
    return Connection(conn_id="mlpipex_test", conn_type="mlpipex", extra=json.dumps(extra or {}), **fields)


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything that was handed to Airflow's secrets masker."""
    found: list[str] = []
    monkeypatch.setattr(module, "mask_secret", found.append)
    return found


def test_every_field_of_the_form_is_read() -> None:
    found = module.settings_of(
        connection(
            {
                "ledger_url": "postgresql+psycopg://mlpipex:pa%40ss@db/ledger",
                "tracking_uri": "http://mlflow:5000",
                "snapshot_root": "/data/snapshots",
                "plane_token_file": "/data/token",
                "alert_channels": '{"on-call": ["json://127.0.0.1"]}',
            },
            host="plane",
            port=18089,
            schema="https",
            password="token",
        )
    )
    assert found == Settings.from_mapping(
        {
            "ledger_url": "postgresql+psycopg://mlpipex:pa%40ss@db/ledger",
            "tracking_uri": "http://mlflow:5000",
            "snapshot_root": "/data/snapshots",
            "plane_token_file": "/data/token",
            "plane_token": "token",
            "plane_url": "https://plane:18089",
            "alert_channels": {"on-call": ["json://127.0.0.1"]},
        },
        where="test",
    )
    assert found.token() == "token"


def test_an_empty_form_is_the_stack_on_this_machine() -> None:
    found = module.settings_of(connection({"ledger_url": "", "alert_channels": None}))
    assert found == Settings()
    assert found.plane_url == "http://127.0.0.1:8089"


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"alert_channels": "on-call"}, "alert_channels"),
        ({"alert_channels": {"on-call": 7}}, "alert_channels.on-call"),
        ({"snapshot_root": 7}, "snapshot_root"),
        ({"ledgerurl": "sqlite://"}, "ledgerurl"),
    ],
)
def test_a_field_that_cannot_work_is_named_with_its_connection(extra: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationInvalid) as refused:
        module.settings_of(connection(extra))
    assert refused.value.thing == "connection mlpipex_test"
    assert f"{field}: " in str(refused.value.value)
    assert "ledger_url" in refused.value.limit


def test_a_refusal_does_not_show_what_was_written() -> None:
    with pytest.raises(ConfigurationInvalid) as refused:
        module.settings_of(connection({"alert_channels": {"on-call": {"url": "slack://hush"}}}, password="hush"))
    assert "hush" not in str(refused.value)


def test_every_secret_is_masked_as_it_is_written_and_as_it_is_sent(masked: list[str]) -> None:
    module.settings_of(
        connection(
            {
                "ledger_url": "postgresql+psycopg://mlpipex:pa%40ss@db/ledger",
                "alert_channels": {"on-call": ["slack://tokenA"], "team": ["mailto://user:secret@host"]},
            },
            password="plane-token",
        )
    )
    assert set(masked) == {"plane-token", "pa%40ss", "pa@ss", "slack://tokenA", "mailto://user:secret@host"}


def test_the_login_of_mlflow_in_the_environment_is_masked(masked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "of-mlflow")
    module.settings_of(connection({}))
    assert masked == ["of-mlflow"]


def test_a_token_in_the_extra_is_masked_too(masked: list[str]) -> None:
    module.settings_of(connection({"plane_token": "in-the-extra"}))
    assert masked == ["in-the-extra"]


def test_the_token_of_clients_is_masked_and_not_that_of_the_plane(masked: list[str], tmp_path: Path) -> None:
    settings = module.settings_of(connection({"client_token": "of-clients"}, password="of-the-plane"))
    assert set(masked) == {"of-clients", "of-the-plane"}
    assert (settings.ingress_token(), settings.token()) == ("of-clients", "of-the-plane")
    assert "of-clients" not in repr(settings)
    file = tmp_path / "client-token"
    settings = module.settings_of(connection({"client_token_file": str(file)}))
    with pytest.raises(ConfigurationInvalid, match="batch token of the serving plane"):
        settings.ingress_token()
    file.write_text("from-file\n", encoding="utf-8")
    assert settings.ingress_token() == "from-file"


def test_settings_do_not_print_their_secrets() -> None:
    extra = {
        "alert_channels": {"on-call": ["slack://hush"]},
        "ledger_url": "postgresql+psycopg://mlpipex:hush@db/ledger",
        "tracking_uri": "https://team:hush@mlflow.example",
    }
    found = module.settings_of(connection(extra, password="hush"))
    assert "hush" not in repr(found)
    assert "mlflow.example" in repr(found)


def test_what_comes_from_files_and_stands_in_addresses_is_masked(masked: list[str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-the-plane\n", encoding="utf-8")
    (tmp_path / "client-token").write_text("of-clients\n", encoding="utf-8")
    extra = {
        "plane_token_file": str(tmp_path / "token"),
        "client_token_file": str(tmp_path / "client-token"),
        "tracking_uri": "https://team:of-mlflow@mlflow.example",
    }
    module.settings_of(connection(extra))
    assert set(masked) == {"of-the-plane", "of-clients", "of-mlflow"}


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    settings = module.settings_of(connection({"plane_token_file": str(tmp_path / "token")}))
    with pytest.raises(ConfigurationInvalid) as refused:
        settings.token()
    assert refused.value.value == str(tmp_path / "token")
    assert "mlpipex serve run" in refused.value.remedy
    (tmp_path / "token").write_text("from-file\n", encoding="utf-8")
    assert settings.token() == "from-file"


def test_the_platform_is_built_from_the_connection_and_asks_nobody() -> None:
    """In the test environment the connection comes from ``AIRFLOW_CONN_MLPIPEX_DEFAULT``; nobody answers behind it."""
    platform = MlpipexHook().platform(ORIGIN)
    assert platform.origin == ORIGIN


async def test_the_triggerer_gets_the_same_platform() -> None:
    now, later = MlpipexHook().platform(ORIGIN), await MlpipexHook().platform_async(ORIGIN)
    assert {type(port) for port in vars(now).values()} == {type(port) for port in vars(later).values()}
    assert later.origin == ORIGIN


def test_a_connection_that_is_not_there_is_named() -> None:
    with pytest.raises(Exception, match="mlpipex_elsewhere"):
        MlpipexHook("mlpipex_elsewhere").get_conn()


# The test button.


def test_the_connection_test_says_that_both_answer(fakes: MemoryPlatform, first: ReleaseRun) -> None:
    assert MlpipexHook().test_connection() == (True, "ledger and serving plane answer; 0 endpoints")
    first.first_release()
    # Training writes beside the chain of the first environment, staging; only what is decided makes an endpoint.
    assert MlpipexHook().test_connection() == (True, "ledger and serving plane answer; 1 endpoints")
    assert PRODUCTION in fakes.ledger.endpoints()


def test_the_connection_test_says_what_does_not_answer(fakes: MemoryPlatform) -> None:
    fakes.plane.away = True
    works, told = MlpipexHook().test_connection()
    assert not works
    assert "runbook: plane-unavailable" in told


def test_over_the_real_adapters_it_names_the_plane_that_nobody_serves() -> None:
    works, told = MlpipexHook().test_connection()
    assert not works
    assert told.startswith("serving plane at http://127.0.0.1:9 ")


def test_the_connection_test_names_bad_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = connection({"alert_channels": "on-call"})
    monkeypatch.setattr(BaseHook, "get_connection", lambda self, conn_id: bad)
    works, told = MlpipexHook().test_connection()
    assert not works
    assert "alert_channels" in told
