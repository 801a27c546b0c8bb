"""The example of docs/testing.md, word for word, on a team's Dag."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_mlpipex import release_tasks, testing, training_tasks
from tests.support.acme import manifest_text

#: Nobody is there to answer a review.
EVERYTHING = "[data, model, runtime, features, gate-loosened, gate-tightened, policy]"
REVIEW = ("auto_approve: [data]", f"required_for: []\n      auto_approve: {EVERYTHING}")
PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def example() -> dict[str, Callable[..., None]]:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code[code.index("def ") :].strip().splitlines()) <= 10
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return {name: value for name, value in names.items() if name.startswith("test_")}


@pytest.fixture
def fraud_scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DAG:
    monkeypatch.setenv("MLPIPEX_CODE_VERSION", "0123abc")
    manifest = tmp_path / "fraud.yaml"
    manifest.write_text(manifest_text(REVIEW), encoding="utf-8")
    with DAG("fraud_scorer", schedule=None, params={"as_of": "2026-03-01"}) as dag:
        release_tasks(str(manifest), registered=training_tasks(str(manifest)))
    return dag


@pytest.mark.usefixtures("airflow_db")
def test_the_example_passes_as_it_is_written(fraud_scorer: DAG) -> None:
    (test,) = example().values()
    test(fraud_scorer)


@pytest.mark.usefixtures("airflow_db")
def test_the_example_can_fail(fraud_scorer: DAG, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that no broken product fails would be no example."""
    (test,) = example().values()
    monkeypatch.setattr(fraud_scorer.get_task("model.snapshot"), "as_of", "not a day")
    with pytest.raises(AssertionError):
        test(fraud_scorer)


@pytest.mark.parametrize("name", testing.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(testing, name).__doc__
