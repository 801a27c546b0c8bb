"""The names that Dag files import. Taking one away or renaming it breaks people's Dags."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import airflow_provider_mlpipex as public

NAMES = [
    "CanaryDeployOperator",
    "CanarySensor",
    "DeploymentReviewOperator",
    "DriftCheckOperator",
    "DriftSensor",
    "DriftTrigger",
    "EndpointHealthSensor",
    "GateCheckOperator",
    "IngestOutcomesOperator",
    "MlpipexHook",
    "PromoteModelOperator",
    "QualityCheckOperator",
    "RegisterModelOperator",
    "RollbackConfirmationOperator",
    "RollbackDrillOperator",
    "RollbackOperator",
    "RolloutNotifier",
    "RolloutTrigger",
    "ScoreBatchOperator",
    "ShadowDeployOperator",
    "ShadowSensor",
    "SnapshotDatasetOperator",
    "StandingWatchOperator",
    "StandingWatchTrigger",
    "TrainModelOperator",
    "drift_asset",
    "load_manifest_file",
    "read_manifests",
    "release_tasks",
    "training_tasks",
]


def test_the_public_names_are_these() -> None:
    assert public.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(public, name)
    assert found.__name__ == name
    assert inspect.getdoc(found)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NoSuchOperator"):
        public.NoSuchOperator  # noqa: B018


def test_importing_the_package_imports_none_of_it() -> None:
    code = (
        "import sys, airflow_provider_mlpipex as public; "
        "loaded = [m for m in sys.modules if m.startswith('airflow_provider_mlpipex.') or m == 'airflow']; "
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(("Operator", "Sensor"))])
def test_constructors_take_keywords_only(name: str) -> None:
    parameters = list(inspect.signature(getattr(public, name).__init__).parameters.values())[1:]
    kinds = {parameter.kind for parameter in parameters}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(("Operator", "Sensor"))])
def test_every_parameter_of_its_own_is_documented(name: str) -> None:
    operator = getattr(public, name)
    documented = "\n".join(
        inspect.getdoc(one) or "" for one in operator.__mro__ if one.__module__.startswith("airflow_provider_mlpipex")
    )
    own = {
        parameter
        for one in operator.__mro__
        if one.__module__.startswith("airflow_provider_mlpipex") and "__init__" in vars(one)
        for parameter in inspect.signature(vars(one)["__init__"]).parameters
    } - {"self", "kwargs"}
    assert [parameter for parameter in sorted(own) if f":param {parameter}:" not in documented] == []
