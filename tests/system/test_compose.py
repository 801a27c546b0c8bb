"""``docker-compose.yaml``: valid, without secrets, on loopback only, with commands that the installed programs take."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_mlpipex.composition import Settings
from airflow_provider_mlpipex.demo.stack import Ports, Stack
from airflow_provider_mlpipex.serving.plane.tokens import IngressScope, Scope, TokenFiles

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = REPOSITORY / "docker-compose.yaml"
TEXT = COMPOSE.read_text(encoding="utf-8")
PROGRAMS = {
    "airflow": [sys.executable, "-m", "airflow"],
    "mlflow": [sys.executable, "-m", "mlflow"],
    "mlpipex": [sys.executable, "-m", "airflow_provider_mlpipex"],
}
#: Every variable that the file cannot do without, each with a value that is easily found again.
REQUIRED = {name: f"sentinel{number}" for number, name in enumerate(sorted(set(re.findall(r"\$\{(\w+):\?", TEXT))))}
ONE_SHOT = {"databases", "airflow-init"}
PORTS = ("AIRFLOW", "MLFLOW", "INGRESS", "CONTROL")


def docker_compose(*arguments: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    program = shutil.which("docker-compose")
    if program is None:
        reason = "docker-compose is not installed: apt-get install docker-compose"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLPIPEX_")}
    command = [program, "--file", str(COMPOSE), *arguments]
    # Elsewhere than the repository, so that nobody's .env takes part.
    return subprocess.run(
        command, env={**inherited, **variables}, cwd="/", capture_output=True, text=True, timeout=120, check=False
    )


@cache
def resolved() -> dict[str, Any]:
    """The file as docker-compose understands it, with :data:`REQUIRED` set."""
    told = docker_compose("config", variables=REQUIRED)
    assert told.returncode == 0, told.stderr
    return dict(yaml.safe_load(told.stdout))


def services() -> dict[str, Any]:
    return dict(resolved()["services"])


def test_compose_asks_for_what_is_not_written_in_it() -> None:
    assert set(REQUIRED) == {
        "MLPIPEX_API_SECRET",
        "MLPIPEX_CODE_VERSION",
        "MLPIPEX_FERNET_KEY",
        "MLPIPEX_JWT_SECRET",
        "MLPIPEX_MLFLOW_PASSWORD",
        "MLPIPEX_MLFLOW_SECRET",
        "MLPIPEX_POSTGRES_PASSWORD",
    }


def test_docker_compose_takes_it() -> None:
    assert set(services()) == {
        "postgres",
        "databases",
        "mlflow",
        "plane",
        "airflow-init",
        "api-server",
        "scheduler",
        "dag-processor",
        "triggerer",
    }


@pytest.mark.parametrize("name", REQUIRED)
def test_compose_is_refused_without_each_required_variable_saying_where_to_read_on(name: str) -> None:
    told = docker_compose("config", variables={key: value for key, value in REQUIRED.items() if key != name})
    assert told.returncode != 0
    assert "head of docker-compose.yaml" in told.stderr


def test_the_commands_at_its_head_make_all_of_them(tmp_path: Path) -> None:
    head = "\n".join(line.removeprefix("#").strip() for line in TEXT.splitlines() if line.startswith("#"))
    (secrets_line,) = re.findall(r"^python3 -c .* > \.env$", head, flags=re.MULTILINE)
    (commit_line,) = re.findall(r"^echo .* >> \.env$", head, flags=re.MULTILINE)
    script = f"git() {{ echo 0123456789abcdef; }}\n{secrets_line}\n{commit_line}\n"
    subprocess.run(["sh", "-euc", script], cwd=tmp_path, check=True)
    made = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text(encoding="utf-8").splitlines())
    assert set(made) == set(REQUIRED)
    assert len(set(made.values())) == len(made)
    told = docker_compose("--env-file", str(tmp_path / ".env"), "config", variables={})
    assert told.returncode == 0, told.stderr
    environment = yaml.safe_load(told.stdout)["services"]["scheduler"]["environment"]
    from cryptography.fernet import Fernet

    Fernet(environment["AIRFLOW__CORE__FERNET_KEY"])
    assert ".env" in (REPOSITORY / ".gitignore").read_text(encoding="utf-8").splitlines()


# No secret stands in it.


def sensitive(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in environment.items():
        if re.search(r"PASSWORD|SECRET|TOKEN|_KEY|PGPASS", name) and not name.endswith("_FILE"):
            yield name, str(value)


def test_every_secret_comes_from_outside() -> None:
    found = [
        (service, name, value)
        for service, settings in services().items()
        for name, value in sensitive(settings.get("environment", {}))
    ]
    assert len(found) > 10
    assert [each for each in found if each[2] not in REQUIRED.values()] == []


def test_every_password_in_a_url_comes_from_outside() -> None:
    told = yaml.safe_dump(resolved(), width=10_000)
    passwords = re.findall(r"://\w+:([^@\s\"']+)@", told)
    assert passwords
    assert set(passwords) == {REQUIRED["MLPIPEX_POSTGRES_PASSWORD"]}


def test_nothing_in_its_text_looks_like_a_secret() -> None:
    words = re.findall(r"[A-Za-z0-9+/=_-]{20,}", TEXT)
    mixed = [word for word in words if re.search(r"\d", word) and re.search("[a-z]", word) and re.search("[A-Z]", word)]
    assert mixed == []


def test_no_secret_is_an_argument_of_a_command() -> None:
    secrets = {value for name, value in REQUIRED.items() if name != "MLPIPEX_CODE_VERSION"}
    for name, settings in services().items():
        line = " ".join(map(str, settings.get("command") or []))
        assert not [secret for secret in secrets if secret in line], name


# Where it listens.


def test_every_published_port_is_on_loopback() -> None:
    published = [port for settings in services().values() for port in settings.get("ports", [])]
    assert len(published) == 4
    assert [port for port in published if not str(port).startswith("127.0.0.1:")] == []
    assert not [name for name, settings in services().items() if settings.get("network_mode") == "host"]


def test_ports_can_be_chosen() -> None:
    chosen = {f"MLPIPEX_{name}_PORT": str(number) for number, name in enumerate(PORTS, start=7001)}
    told = docker_compose("config", variables=REQUIRED | chosen)
    found = yaml.safe_load(told.stdout)["services"]
    published = {str(port).split(":")[1] for settings in found.values() for port in settings.get("ports", [])}
    assert published == set(chosen.values())
    assert found["scheduler"]["environment"]["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:7001"
    assert "127.0.0.1:7002" in " ".join(found["mlflow"]["command"])


# What it runs.


def arguments_of(settings: Mapping[str, Any]) -> Iterator[list[str]]:
    """Every call of one of :data:`PROGRAMS` in a service's command and health check."""
    for command in (settings.get("command") or [], settings.get("healthcheck", {}).get("test", [])[1:]):
        lines = (
            [shlex.split(line) for line in command[-1].replace("\\\n", "").splitlines()]
            if command[:1] == ["sh"]
            else [command]
        )
        for words in lines:
            called = words[1:] if words[:1] == ["exec"] else words
            if called and called[0] in PROGRAMS:
                yield [str(word) for word in called]


@cache
def calls() -> list[tuple[str, ...]]:
    return sorted({tuple(call) for settings in services().values() for call in arguments_of(settings)})


def options(call: Sequence[str]) -> set[str]:
    return {word.partition("=")[0] for word in call if word.startswith("--")}


def subcommand(call: Sequence[str]) -> list[str]:
    """The words between the program and its first option."""
    words = list(call[1:])
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return words[:first]


def test_each_command_is_one_that_the_program_has_with_options_that_it_takes() -> None:
    called = calls()
    assert {call[0] for call in called} == set(PROGRAMS)
    for call in called:
        told = subprocess.run(
            [*PROGRAMS[call[0]], *subcommand(call), "--help"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "COLUMNS": "200"},
        )
        assert told.returncode == 0, (call, told.stderr[-500:])
        unknown = [o for o in options(call) if not re.search(rf"{re.escape(o)}(?![\w-])", told.stdout)]
        assert unknown == [], call


def test_each_script_is_shell() -> None:
    scripts = [settings["command"][-1] for settings in services().values() if settings.get("command", [])[:1] == ["sh"]]
    assert len(scripts) == 3
    for script in scripts:
        # docker-compose writes a dollar that is not its own twice.
        subprocess.run(["sh", "-n"], input=script.replace("$$", "$"), text=True, check=True)


class Recorder:
    """Takes the place of the demo's processes and remembers how they would have been started."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def start(self, name: str, command: Sequence[str], **_: Any) -> None:
        self.commands.append([name, *command[2:]])  # without the interpreter and -m

    run = start

    def wait_until(self, *_: Any, **__: Any) -> None:
        """Everything answers at once."""


def test_compose_runs_what_the_demo_runs(tmp_path: Path) -> None:
    stack = Stack(tmp_path, dags=REPOSITORY / "dags", ports=Ports(), alert_url="json://127.0.0.1")
    recorder = Recorder()
    stack._children = recorder  # type: ignore[assignment]
    stack.start()
    here = {(call[0], *subcommand(call)): options(call) for call in calls()}
    modules = {"airflow": "airflow", "mlflow": "mlflow", "airflow_provider_mlpipex": "mlpipex"}
    assert len(recorder.commands) == 7
    for _, module, *rest in recorder.commands:
        key = (modules[module], *subcommand([module, *rest]))
        # The url of MLflow's database holds a password: here it is a variable, not an option.
        assert options(rest) - {"--backend-store-uri"} <= here[key], key


def test_everything_but_the_database_is_one_image_of_this_repository() -> None:
    for name, settings in services().items():
        if name in ("postgres", "databases"):
            assert settings["image"].startswith("postgres:")
            continue
        assert (settings["image"], settings["build"]["context"]) == ("mlpipex", str(REPOSITORY))
        assert settings["cap_drop"] == ["ALL"]
        assert settings["security_opt"] == ["no-new-privileges:true"]


def test_the_image_is_pinned_by_the_constraints_and_takes_only_what_it_copies() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r'pip install .*--constraint constraints\.txt "\.\[all,', dockerfile)
    assert re.search(r"^USER (?!root)", dockerfile, flags=re.MULTILINE)
    context = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", dockerfile, flags=re.MULTILINE) for word in line.split()]
    assert copied
    for path in copied:
        assert (REPOSITORY / path).exists()
        assert f"!{path}" in context


def test_whoever_stays_up_is_asked_whether_it_is_well_and_nobody_starts_before_what_it_needs() -> None:
    for name, settings in services().items():
        if name in ONE_SHOT:
            assert settings["restart"] == "no"
        else:
            assert settings["healthcheck"]["test"], name
            assert settings["restart"] == "unless-stopped"
        for needed, how in settings.get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
            assert how["condition"] == expected, (name, needed)


# What it tells them.


def test_every_airflow_option_exists() -> None:
    import airflow

    known = yaml.safe_load(
        (Path(airflow.__file__).parent / "config_templates" / "config.yml").read_text(encoding="utf-8")
    )
    named = {
        name
        for settings in services().values()
        for name in settings.get("environment", {})
        if name.startswith("AIRFLOW__")
    }
    assert len(named) > 10
    unknown = [
        name
        for name in sorted(named)
        if (parts := name.lower().split("__"))[2] not in known.get(parts[1], {}).get("options", {})
    ]
    assert unknown == []


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(None, {}), ('{"on-call": ["json://127.0.0.1:1/a b"]}', {"on-call": ("json://127.0.0.1:1/a b",)})],
)
def test_airflow_and_the_plane_work_with_the_same_ledger_snapshots_and_channels(
    channels: str | None, expected: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    variables = REQUIRED | ({"MLPIPEX_ALERT_CHANNELS": channels} if channels else {})
    env_file = tmp_path / ".env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()), encoding="utf-8")
    told = docker_compose("--env-file", str(env_file), "config", variables={})
    assert told.returncode == 0, told.stderr
    found = yaml.safe_load(told.stdout)["services"]
    connection = json.loads(found["triggerer"]["environment"]["AIRFLOW_CONN_MLPIPEX_DEFAULT"])
    extra = {name: value for name, value in connection["extra"].items() if value is not None}
    airflow_side = Settings.from_mapping(extra, where="connection")
    plane_side = Settings.from_environment(found["plane"]["environment"])
    assert airflow_side.alert_channels == plane_side.alert_channels == expected
    for field in ("ledger_url", "tracking_uri", "snapshot_root", "quality_root"):
        assert getattr(airflow_side, field) == getattr(plane_side, field)
    assert airflow_side.ledger_url.endswith("@postgres/ledger")
    assert found["triggerer"]["environment"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].endswith("@postgres/airflow")
    assert connection["host"] == "plane"
    # What stands behind the published ports of the plane is what Airflow calls, too.
    assert f":{connection['port']}" in found["plane"]["ports"][1]
    mounted = {volume.split(":")[1] for volume in found["scheduler"]["volumes"]}
    needed = [airflow_side.snapshot_root, airflow_side.quality_root, airflow_side.runtime_root]
    needed += [Path(str(file)).parent for file in (airflow_side.plane_token_file, airflow_side.client_token_file)]
    # The root filesystem is read-only: what is not on a volume cannot be written.
    assert {str(folder) for folder in needed} <= mounted
    # And who scores batches finds the ingress, and what its clients show there.
    assert f"{airflow_side.ingress_url}".rpartition(":")[2] in found["plane"]["ports"][0]


# What a container can do to the others.


def holders(volume: str) -> dict[str, str]:
    """Service -> where it finds ``volume``."""
    mounts = [
        (name, mount.split(":")) for name, settings in services().items() for mount in settings.get("volumes", [])
    ]
    return {name: place for name, (source, place, *_) in mounts if source == volume}


def test_each_token_is_only_where_it_is_used() -> None:
    assert set(holders("plane")) == {"plane"}, "the folder with all of them"
    assert set(holders("deploy-token")) == {"plane", "scheduler", "triggerer"}
    assert set(holders("batch-token")) == {"plane", "scheduler"}
    assert set(holders("rollback-token")) == {"plane", "api-server"}
    logins = {name for name, each in services().items() if "MLFLOW_TRACKING_PASSWORD" in each["environment"]}
    assert logins == {"plane", "scheduler"}


def test_the_plane_lays_each_token_where_others_find_it_and_again_when_it_is_rotated(tmp_path: Path) -> None:
    """The loop of the plane's own script, on folders of this test and with real token files."""
    script = services()["plane"]["command"][-1].replace("$$", "$")
    (lay,) = [line for line in script.splitlines() if line.startswith("lay()")]
    (loop,) = [line for line in script.splitlines() if line.startswith("while")]
    for folder in ("plane", "deploy", "rollback", "batch"):
        (tmp_path / folder).mkdir()
    tokens = TokenFiles(tmp_path / "plane")
    once = f"{lay}\n{loop}".replace("while :; do", "").replace("sleep 2; done &", "")
    once = once.replace("/var/lib/mlpipex", str(tmp_path))
    found: dict[Scope | IngressScope, Path] = {
        "deploy": tmp_path / "deploy/token",
        "rollback": tmp_path / "rollback/token",
        "batch": tmp_path / "batch/batch-token",
    }
    for _ in range(2):
        subprocess.run(["sh", "-euc", once], check=True)
        for scope, file in found.items():
            assert file.read_text() == tokens.path(scope).read_text()
            assert file.stat().st_mode & 0o077 == 0
            tokens.rotate(scope, grace_s=0)
    connection = json.loads(services()["scheduler"]["environment"]["AIRFLOW_CONN_MLPIPEX_DEFAULT"])["extra"]
    assert {name: f"{place}/token" for name, place in holders("deploy-token").items() if name != "plane"} == {
        name: connection["plane_token_file"] for name in ("scheduler", "triggerer")
    }
    assert f"{holders('rollback-token')['api-server']}/token" == connection["plane_token_file"]
    assert f"{holders('batch-token')['scheduler']}/batch-token" == connection["client_token_file"]


def test_mlflow_asks_for_a_login_and_who_needs_it_knows_it() -> None:
    mlflow = services()["mlflow"]
    assert "--app-name=basic-auth" in mlflow["command"][-1]
    assert "default_permission = NO_PERMISSIONS" in mlflow["command"][-1]
    users = {mlflow["environment"]["MLFLOW_AUTH_ADMIN_USERNAME"]}
    for name in ("plane", "scheduler"):
        environment = services()[name]["environment"]
        users.add(environment["MLFLOW_TRACKING_USERNAME"])
        assert environment["MLFLOW_TRACKING_PASSWORD"] == mlflow["environment"]["MLFLOW_AUTH_ADMIN_PASSWORD"]
    assert users == {"mlpipex"}
    assert "mlflow_users" in services()["databases"]["command"][-1]
    assert mlflow["environment"]["MLPIPEX_MLFLOW_USERS"].endswith("@postgres/mlflow_users")


def test_nobody_writes_into_an_image_or_takes_all_of_the_machine() -> None:
    for name, settings in services().items():
        assert settings["read_only"] is True, name
        assert settings["mem_limit"] and settings["pids_limit"], name
        assert "no-new-privileges:true" in settings["security_opt"], name


def test_what_a_program_writes_beside_its_volumes_is_in_memory() -> None:
    """Airflow writes its configuration at its first start, and everybody has scratch files."""
    for settings in services().values():
        if settings["image"] == "mlpipex":
            assert {place.partition(":")[0] for place in settings["tmpfs"]} == {"/tmp", "/home/mlpipex", "/opt/airflow"}
    assert "/var/run/postgresql" in services()["postgres"]["tmpfs"], "its socket"


def test_the_databases_are_on_a_network_that_leads_nowhere_else() -> None:
    assert resolved()["networks"]["database"]["internal"] is True
    assert list(services()["postgres"]["networks"]) == list(services()["databases"]["networks"]) == ["database"]
    for name, settings in services().items():
        if settings["image"] == "mlpipex":
            assert set(settings["networks"]) == {"default", "database"}, name


def test_the_database_can_be_pinned_by_its_bytes() -> None:
    pinned = f"postgres@sha256:{'0' * 64}"
    told = docker_compose("config", variables=REQUIRED | {"MLPIPEX_POSTGRES_IMAGE": pinned})
    found = yaml.safe_load(told.stdout)["services"]
    assert {found[name]["image"] for name in ("postgres", "databases")} == {pinned}
