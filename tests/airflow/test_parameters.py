"""No parameter without effect: of the connection, of what Dag files construct, of the terminal's commands."""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from airflow.sdk import BaseOperator
from airflow.sdk.bases.decorator import DecoratedOperator
from airflow.sdk.definitions.connection import Connection
from airflow.triggers.base import BaseTrigger

import airflow_provider_mlpipex
from airflow_provider_mlpipex import cli, composition
from airflow_provider_mlpipex.cli.main import app
from airflow_provider_mlpipex.decorators.gate import GateDecoratedOperator
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.rollout.events import Origin
from airflow_provider_mlpipex.get_provider_info import get_provider_info
from airflow_provider_mlpipex.hooks.mlpipex import EXTRA_FIELDS, PLANE_FIELDS, settings_of

ROOT = Path(airflow_provider_mlpipex.__file__).parent


# The connection: another value gives a platform that asks another place, or says something else there.


def platform_of(**given: Any) -> dict[str, str]:
    """What the adapters of the connection hold, by the port that they implement."""
    fields = {"host": "plane", "port": 8089, "schema": "http", "password": "token"}
    fields |= {name: given.pop(name) for name in list(given) if name in fields}
    extra = {name: value for name, value in {"client_token": "client", **given}.items() if value is not None}
    if fields["password"] is None:
        del fields["password"]
    connection = Connection(conn_id="c", conn_type="mlpipex", extra=json.dumps(extra), **fields)
    platform = composition.build_platform(settings_of(connection), Origin(kind="test"))
    return {port: held(adapter) for port, adapter in vars(platform).items() if port != "clock"}


def held(value: Any, depth: int = 4) -> str:
    """Everything that ``value`` holds as text; what gives a token is asked for it."""
    if inspect.ismethod(value) and value.__name__.endswith("token"):
        return repr(value())
    if depth and hasattr(value, "__dict__") and type(value).__module__.startswith("airflow_provider_mlpipex"):
        return repr({name: held(part, depth - 1) for name, part in vars(value).items()})
    if inspect.ismethod(value):
        return held(value.__self__, depth - 1)
    return repr(value) if isinstance(value, (str, int, dict, tuple, Path, type(None))) else type(value).__name__


FIELDS: dict[str, tuple[Any, Any]] = {
    "host": ("plane", "other"),
    "port": (8089, 8090),
    "schema": ("http", "https"),
    "password": ("token", "other"),
    "ledger_url": ("sqlite:///a.db", "sqlite:///b.db"),
    "tracking_uri": ("http://a:5000", "http://b:5000"),
    "snapshot_root": ("/a", "/b"),
    "runtime_root": ("/a", "/b"),
    "quality_root": ("/a", "/b"),
    "drift_root": ("/a", "/b"),
    "feature_repository": ("/a", "/b"),
    "plane_token_file": ("one", "other"),
    "client_token": ("one", "other"),
    "client_token_file": ("one", "other"),
    "ingress_url": ("http://a:8088", "http://b:8088"),
    "alert_channels": ({"on-call": ["json://a"]}, {"on-call": ["json://b"]}),
}


def test_every_field_of_the_connection_is_tried() -> None:
    (kind,) = get_provider_info()["connection-types"]
    shown = {"host", "port", "schema", "password"} | set(kind["conn-fields"])
    assert set(FIELDS) == shown == {"host", "port", "schema", "password", *EXTRA_FIELDS}


@pytest.mark.parametrize("name", FIELDS)
def test_another_value_gives_another_platform(name: str, tmp_path: Path) -> None:
    values = list(FIELDS[name])
    beside: dict[str, Any] = {}
    if name.endswith("_file"):
        for place, text in enumerate(values):
            (tmp_path / text).write_text(text)
            values[place] = str(tmp_path / text)
        beside = {"password": None} if name.startswith("plane") else {"client_token": None}
    one, other = (platform_of(**{**beside, name: value}) for value in values)
    assert one != other
    assert one == platform_of(**{**beside, name: values[0]}), "or anything would be another platform"


def test_what_concerns_the_plane_alone_is_refused_in_a_connection() -> None:
    of_host_and_password = {"plane_url", "plane_token"}
    assert set(composition.Settings.model_fields) - set(EXTRA_FIELDS) - of_host_and_password == set(PLANE_FIELDS)
    for name in PLANE_FIELDS:
        with pytest.raises(ConfigurationInvalid, match=f"{name}: would have no effect"):
            settings_of(Connection(conn_id="c", conn_type="mlpipex", extra=json.dumps({name: False})))


# Options of the terminal are read by the code behind them; what each changes is in ``test_options``. What Dag files
# construct is played with two values of each parameter in ``test_task_parameters``.


def public_classes() -> Iterator[type]:
    for name in airflow_provider_mlpipex.__all__:
        thing = getattr(airflow_provider_mlpipex, name)
        if inspect.isclass(thing):
            yield thing
    yield GateDecoratedOperator


def own_classes(of: type) -> list[type]:
    return [part for part in of.__mro__ if part.__module__.startswith("airflow_provider_mlpipex")]


def parameters(function: Callable[..., Any]) -> list[str]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    found = inspect.signature(function).parameters.values()
    return [each.name for each in found if each.kind not in kinds and each.name != "self"]


def body_of(function: Callable[..., Any]) -> ast.FunctionDef:
    (defined,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(defined, ast.FunctionDef)
    return defined


def reads(function: Callable[..., Any], name: str) -> bool:
    """Whether the code of ``function`` reads its parameter."""
    return any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        for statement in body_of(function).body
        for node in ast.walk(statement)
    )


def constructors() -> Iterator[tuple[str, Callable[..., Any], str]]:
    for public in public_classes():
        for part in own_classes(public):
            if "__init__" in vars(part):
                for name in parameters(part.__init__):
                    yield f"{public.__name__}: {part.__name__}.{name}", part.__init__, name


CONSTRUCTED = {label: (function, name) for label, function, name in constructors()}
FUNCTIONS = {
    f"{name}.{parameter}": (function, parameter)
    for name in airflow_provider_mlpipex.__all__
    if inspect.isfunction(function := getattr(airflow_provider_mlpipex, name))
    for parameter in parameters(function)
}


def commands() -> Iterator[tuple[str, FunctionType]]:
    groups = [(app, ""), *((group.typer_instance, f"{group.name or ''} ") for group in app.registered_groups)]
    for group, prefix in groups:
        for command in group.registered_commands:
            assert command.callback is not None
            yield f"mlpipex {prefix}{command.name or command.callback.__name__}", command.callback  # type: ignore[misc]


OPTIONS = {
    f"{name} --{parameter}": (function, parameter)
    for name, function in commands()
    for parameter in parameters(function)
}


def test_all_of_it_is_walked() -> None:
    tasks = [each for each in public_classes() if issubclass(each, (BaseOperator, BaseTrigger, DecoratedOperator))]
    assert len(tasks) >= 19 and len(CONSTRUCTED) > 60 and len(FUNCTIONS) >= 9
    modules = {module.name for module in pkgutil.iter_modules(cli.__path__)}
    with_commands = {function.__module__.rpartition(".")[2] for _, function in commands()}
    helpers = {"main", "terminal", "refusals", "starter", "first_manifest"}
    assert modules - helpers == with_commands
    assert len(OPTIONS) > 60


@pytest.mark.parametrize("label", [*FUNCTIONS, *OPTIONS])
def test_a_parameter_of_a_function_or_an_option_is_read(label: str) -> None:
    function, name = {**FUNCTIONS, **OPTIONS}[label]
    assert reads(function, name), "it is dropped"
