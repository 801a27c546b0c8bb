"""A class of the team's own travels with the model: it loads where nothing of the team is installed."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from airflow_provider_mlpipex.adapters.mlflow.code_paths import copy_modules, own_modules
from airflow_provider_mlpipex.adapters.mlflow.model import prove_in_clean_process, save_model
from airflow_provider_mlpipex.domain.errors import TrainingFailed
from airflow_provider_mlpipex.domain.release.training import TrainedModel
from airflow_provider_mlpipex.services.training.user_code import source_digest

ROWS = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
SOURCES = {
    "acme_team/__init__.py": "",
    "acme_team/models.py": (
        "from acme_helper import FACTOR\n"
        "class Scaled:\n"
        "    def predict(self, rows):\n"
        "        return rows['x'].to_numpy() * FACTOR\n"
    ),
    "acme_helper.py": "FACTOR = 3.0\n",
    "acme_unused.py": "raise SystemExit('nobody imports this')\n",
    "acme_team/__pycache__/old.pyc": "",
}


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A team's folder on the worker's path, as the Dags' folder is."""
    root = tmp_path / "dags"
    for name, text in SOURCES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.syspath_prepend(str(root))
    importlib.import_module("acme_team.models")
    yield root
    for name in [name for name in sys.modules if name.startswith("acme_")]:
        del sys.modules[name]


def trained(code: tuple[str, ...] = ()) -> TrainedModel:
    model = sys.modules["acme_team.models"].Scaled()
    return TrainedModel(
        model=model, predict_method="predict", examples=ROWS, metrics={}, evaluation_rows=3, evaluated=ROWS, code=code
    )


def test_a_model_of_the_teams_own_answers_in_a_clean_process(team: Path, tmp_path: Path) -> None:
    before = list(sys.path)
    folder = tmp_path / "model"
    save_model(trained(), folder)
    assert sys.path == before
    assert sorted(path.name for path in (folder / "code").iterdir()) == ["acme_helper.py", "acme_team"]
    assert not (folder / "code" / "acme_team" / "__pycache__").exists()
    prove_in_clean_process(folder)
    golden = json.loads((folder / "mlpipex" / "golden.json").read_text())
    assert golden["predictions"] == [3.0, 6.0, 9.0]


def test_a_model_that_lacks_its_code_is_refused_at_training_and_not_at_promotion(team: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_model(trained(), folder)
    (folder / "code" / "acme_helper.py").unlink()
    with pytest.raises(TrainingFailed, match="acme_helper"):
        prove_in_clean_process(folder)


def test_what_is_installed_is_left_to_the_runtime(team: Path, tmp_path: Path) -> None:
    assert own_modules(None, ["pandas", "json", "airflow_provider_mlpipex", "no_such_module"]) == {}
    assert own_modules(None, ["acme_team.models"]).keys() == {"acme_team", "acme_helper"}


def test_only_files_that_name_another_module_of_the_teams_own_are_parsed(
    team: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda source: (parsed.append(source), parse(source))[1])
    (team / "acme_team" / "large.py").write_text("import json\n" * 1000)
    assert own_modules(None, ["acme_team.models"]).keys() == {"acme_team", "acme_helper"}
    assert all(b"acme_helper" in source for source in parsed)


def test_data_beside_code_is_not_shipped_with_every_model(team: Path, tmp_path: Path) -> None:
    (team / "acme_team" / "rows.bin").write_bytes(b"0" * 21_000_000)
    with pytest.raises(TrainingFailed, match="acme_team"):
        copy_modules(own_modules(None, ["acme_team"]), tmp_path / "code")


def test_an_edit_without_a_commit_is_another_training(team: Path) -> None:
    first = source_digest("acme_team.models:train")
    assert source_digest("acme_team.models:train") == first
    (team / "acme_team" / "models.py").write_text("class Other: ...\n")
    assert source_digest("acme_team.models:train") != first
