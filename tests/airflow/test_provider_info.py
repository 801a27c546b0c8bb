"""What Airflow is told about the provider, against Airflow's own schema, discovery and files."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator, task
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime
from airflow.triggers.base import BaseTrigger

import airflow_provider_mlpipex
from airflow_provider_mlpipex.get_provider_info import get_provider_info
from airflow_provider_mlpipex.hooks.mlpipex import EXTRA_FIELDS, MlpipexHook

DISTRIBUTION = "airflow-provider-mlpipex"
PACKAGE = "airflow_provider_mlpipex"


@pytest.fixture(scope="module")
def manager() -> ProvidersManager:
    return ProvidersManager()


def test_airflow_accepts_it() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(get_provider_info(), schema)


def test_airflow_discovers_it_under_the_name_of_its_distribution(manager: ProvidersManager) -> None:
    assert get_provider_info()["package-name"] == DISTRIBUTION
    found = manager.providers[DISTRIBUTION]
    assert found.version == airflow_provider_mlpipex.__version__
    assert found.data.items() >= get_provider_info().items()
    assert found.data["documentation-url"].startswith("https://")


def modules_named(info: Any) -> Iterator[str]:
    for kind in ("operators", "sensors", "triggers", "hooks"):
        for integration in info[kind]:
            yield from integration["python-modules"]


def classes_named(info: Any) -> Iterator[str]:
    yield from info["notifications"]
    yield from info["extra-links"]
    yield from (decorator["class-name"] for decorator in info["task-decorators"])
    yield from (connection["hook-class-name"] for connection in info["connection-types"])


@pytest.mark.parametrize("module", list(modules_named(get_provider_info())))
def test_every_module_it_names_can_be_imported(module: str) -> None:
    assert isinstance(import_module(module), ModuleType)


@pytest.mark.parametrize("path", list(classes_named(get_provider_info())))
def test_every_class_it_names_is_there(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert callable(getattr(import_module(module), name))


def classes_in(module: ModuleType) -> list[type]:
    return [value for value in vars(module).values() if isinstance(value, type)]


@pytest.mark.parametrize("kind", ["operators", "sensors", "triggers", "hooks"])
def test_provider_info_names_every_module_that_there_is(kind: str) -> None:
    package = import_module(f"{PACKAGE}.{kind}")
    base = {"operators": BaseOperator, "sensors": BaseSensorOperator, "triggers": BaseTrigger, "hooks": BaseHook}[kind]
    modules = [import_module(f"{PACKAGE}.{kind}.{module.name}") for module in pkgutil.iter_modules(package.__path__)]
    there = {
        module.__name__
        for module in modules
        if any(issubclass(cls, base) and cls.__module__ == module.__name__ for cls in classes_in(module))
    }
    named = {module for integration in get_provider_info()[kind] for module in integration["python-modules"]}
    assert named == there - {f"{PACKAGE}.{kind}.base"}


def test_its_integration_is_the_one_that_everything_belongs_to() -> None:
    info = get_provider_info()
    declared = {integration["integration-name"] for integration in info["integrations"]}
    used = {i["integration-name"] for kind in ("operators", "sensors", "triggers", "hooks") for i in info[kind]}
    assert used == declared == {"MLPipeX"}


def test_the_connection_form_has_a_field_for_everything_the_hook_reads(manager: ProvidersManager) -> None:
    (connection,) = get_provider_info()["connection-types"]
    assert tuple(connection["conn-fields"]) == EXTRA_FIELDS
    hook = ProvidersManagerTaskRuntime().hooks["mlpipex"]
    assert hook is not None
    assert (hook.hook_class_name, hook.hook_name) == (f"{PACKAGE}.hooks.mlpipex.MlpipexHook", "MLPipeX")
    assert hook.connection_testable
    assert {f"extra__mlpipex__{field}" for field in EXTRA_FIELDS} <= set(manager.connection_form_widgets)
    behaviour = manager.field_behaviours["mlpipex"]
    assert behaviour["relabeling"]["password"] == "Plane token"
    assert set(behaviour["hidden_fields"]) == {"login", "extra"}


def test_the_hook_says_the_same_of_itself() -> None:
    (connection,) = get_provider_info()["connection-types"]
    assert connection["connection-type"] == MlpipexHook.conn_type
    assert connection["hook-name"] == MlpipexHook.hook_name
    assert MlpipexHook.default_conn_name == "mlpipex_default"


def test_airflow_loads_decorator_links_and_notifier(manager: ProvidersManager) -> None:
    from airflow_provider_mlpipex.decorators.gate import gate_task

    assert task.gate is gate_task
    links = get_provider_info()["extra-links"]
    assert set(links) <= set(manager.extra_links_class_names)
    # A set of class names, whatever its annotation says.
    assert set(get_provider_info()["notifications"]) <= {str(name) for name in manager.notification}


def test_entry_points_lead_to_the_provider_and_to_its_plugin() -> None:
    providers = [e for e in entry_points(group="apache_airflow_provider") if e.value.startswith(PACKAGE)]
    assert [entry.load()() for entry in providers] == [get_provider_info()]
    plugins = [e for e in entry_points(group="airflow.plugins") if e.value.startswith(PACKAGE)]
    assert [entry.name for entry in plugins] == ["mlpipex"]
    assert plugins[0].load().name == "mlpipex"


def test_asking_for_it_imports_neither_airflow_nor_anything_heavy() -> None:
    code = (
        f"import sys; from {PACKAGE}.get_provider_info import get_provider_info; get_provider_info(); "
        "heavy = {'airflow', 'pydantic', 'sqlalchemy', 'mlflow', 'typer'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
