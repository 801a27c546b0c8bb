"""Adopting what another pipeline logged: pinned, proven on rows, and honest about what nobody knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array
from sklearn import metrics

from airflow_provider_mlpipex.domain.errors import (
    ArtifactMismatch,
    DataQualityFailed,
    MlpipexError,
    ModelNotFound,
    RegistrationRefused,
    SignatureMismatch,
)
from airflow_provider_mlpipex.domain.manifest.evaluation_block import EvaluationSpec
from airflow_provider_mlpipex.domain.release.adoption import ModelReference, ModelSource
from airflow_provider_mlpipex.services.training.adopt import Adopted, AdoptionRequest, adopt_model
from airflow_provider_mlpipex.serving.artifacts import directory_digest
from airflow_provider_mlpipex.serving.model_server.loading import scorer_of
from airflow_provider_mlpipex.testing.platform import MemoryPlatform, memory_platform
from tests.support.plain_mlflow import FEATURES, payments, save_lightgbm

ROWS = payments(seed=2)


@pytest.fixture(scope="session")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lightgbm(tmp_path_factory.mktemp("seven") / "model")


@pytest.fixture(scope="session")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lightgbm(tmp_path_factory.mktemp("eight") / "model", trees=3)


@pytest.fixture
def platform(seven: Path, eight: Path) -> MemoryPlatform:
    platform = memory_platform()
    platform.registry.elsewhere |= {
        "models:/fraud/7": seven,
        "models:/fraud/8": eight,
        "models:/fraud@champion": "models:/fraud/7",
        "runs:/0123abcd/model": seven,
    }
    return platform


def request(reference: str = "models:/fraud@champion", *, version: str = "auto", **block: Any) -> AdoptionRequest:
    spec: dict[str, Any] = {"file": "holdout.parquet", "task": "binary", "target": "fraud"}
    return AdoptionRequest(
        reference=ModelReference.parse(reference),
        endpoint_name="fraud",
        model_name="fraud-adopted",
        evaluation=EvaluationSpec.model_validate(spec | block),
        version=version,
    )


def adopt(
    platform: MemoryPlatform,
    asked: AdoptionRequest | None = None,
    load: Callable[[], pd.DataFrame] = lambda: ROWS,
) -> Adopted:
    return adopt_model(
        asked or request(),
        load=load,
        registry=platform.registry,
        snapshots=platform.snapshots,
        clock=platform.clock,
    )


def test_an_alias_is_pinned_to_a_version_and_its_bytes(platform: MemoryPlatform, seven: Path) -> None:
    model = adopt(platform).model
    assert (model.name, model.version) == ("fraud-adopted", "7.0.0")
    assert model.adopted is not None
    assert (model.adopted.source, model.adopted.source_digest) == ("models:/fraud/7", directory_digest(seven))


def test_an_adopted_model_is_evaluated_as_its_own_predictions_say(platform: MemoryPlatform, seven: Path) -> None:
    own = mlflow.pyfunc.load_model(str(seven)).predict(ROWS[FEATURES])
    model = adopt(platform).model
    assert model.metrics["accuracy"] == pytest.approx(metrics.accuracy_score(ROWS["fraud"], own))
    assert model.metrics["recall"] == pytest.approx(metrics.recall_score(ROWS["fraud"], own))
    assert model.evaluation_rows == len(ROWS)


def test_golden_rows_are_answered_as_the_model_itself_answers(platform: MemoryPlatform, seven: Path) -> None:
    model = adopt(platform).model
    golden = json.loads((platform.registry.folders[model.run_id] / "mlpipex" / "golden.json").read_text())
    split = golden["request"]["dataframe_split"]
    asked = pd.DataFrame(split["data"], columns=split["columns"]).astype({"age": float})
    assert golden["predictions"] == mlflow.pyfunc.load_model(str(seven)).predict(asked).tolist()


def test_the_copy_is_the_model_itself(platform: MemoryPlatform, seven: Path) -> None:
    model = adopt(platform).model
    answers = platform.registry.answer(model, ROWS[FEATURES])
    assert answers.predictions == mlflow.pyfunc.load_model(str(seven)).predict(ROWS[FEATURES]).tolist()
    assert (platform.registry.folders[model.run_id] / "mlpipex" / "drift_reference.json").is_file()


def test_what_nobody_recorded_is_named(platform: MemoryPlatform) -> None:
    model = adopt(platform).model
    assert model.adopted is not None
    assert model.adopted.missing == ("training-data", "code-version", "configuration")
    assert model.code_version == "unknown"


def test_what_its_run_recorded_is_known(platform: MemoryPlatform) -> None:
    platform.registry.facts["models:/fraud/7"] = ModelSource(
        uri="models:/fraud/7",
        number=7,
        run_id="0123abcd",
        code_version="4f2a9c1d",
        training_data="payments 1f2e3d",
        parameters={"n_estimators": "20"},
    )
    model = adopt(platform).model
    assert model.adopted is not None
    assert (model.adopted.missing, model.adopted.run_id) == ((), "0123abcd")
    assert (model.code_version, model.adopted.training_data) == ("4f2a9c1d", "payments 1f2e3d")


def test_without_labels_nothing_is_evaluated_and_that_is_said(platform: MemoryPlatform) -> None:
    asked = request(task=None, target=None)
    model = adopt(platform, asked, load=lambda: ROWS[FEATURES]).model
    assert model.metrics == {}
    assert model.adopted is not None and "metrics" in model.adopted.missing


def test_rows_without_a_label_are_left_out(platform: MemoryPlatform, seven: Path) -> None:
    rows = ROWS.assign(fraud=ROWS["fraud"].where(ROWS.index % 2 == 0))
    half = ROWS[ROWS.index % 2 == 0]
    own = mlflow.pyfunc.load_model(str(seven)).predict(half[FEATURES])
    model = adopt(platform, load=lambda: rows).model
    assert model.metrics["accuracy"] == pytest.approx(metrics.accuracy_score(half["fraud"], own))
    assert model.evaluation_rows == len(half)


def test_a_model_without_a_signature_gets_one_from_the_rows(platform: MemoryPlatform, tmp_path: Path) -> None:
    platform.registry.elsewhere["models:/fraud/9"] = save_lightgbm(tmp_path / "model", signed=False)
    model = adopt(platform, request("models:/fraud/9")).model
    assert model.adopted is not None and "signature" in model.adopted.missing
    assert [column["name"] for column in json.loads(str(model.signature["inputs"]))] == FEATURES


def test_adopting_again_is_the_same_version_and_asks_nobody(platform: MemoryPlatform) -> None:
    first = adopt(platform)

    def load() -> pd.DataFrame:
        raise AssertionError("the rows are not asked for again")

    again = adopt(platform, load=load)
    assert again.model == first.model
    assert (first.known, again.known) == (False, True)
    # By its number it is the same model, too.
    assert adopt(platform, request("models:/fraud/7"), load=load).model == first.model


def test_an_alias_that_moved_is_another_version(platform: MemoryPlatform) -> None:
    first = adopt(platform).model
    platform.registry.elsewhere["models:/fraud@champion"] = "models:/fraud/8"
    second = adopt(platform).model
    assert (first.version, second.version) == ("7.0.0", "8.0.0")
    assert first.artifact_digest != second.artifact_digest
    assert [model.version for model in platform.registry.versions("fraud-adopted")] == ["7.0.0", "8.0.0"]


def test_other_labels_are_another_version_of_the_same_model(platform: MemoryPlatform) -> None:
    adopt(platform)
    second = adopt(platform, request(file="corrected.parquet"))
    assert second.model.version == "7.1.0"
    assert "other rows or labels" in second.reasons[1]


def test_a_run_has_no_number_and_gets_the_next_version(platform: MemoryPlatform) -> None:
    assert adopt(platform, request("runs:/0123abcd/model")).model.version == "1.0.0"
    assert adopt(platform, request("runs:/0123abcd/model", file="corrected.parquet")).model.version == "1.1.0"


def test_a_version_that_is_given_is_taken(platform: MemoryPlatform) -> None:
    assert adopt(platform, request(version="2.3.4")).model.version == "2.3.4"
    with pytest.raises(RegistrationRefused, match=r"2\.3\.4"):
        adopt(platform, request("models:/fraud/8", version="2.3.4"))


def test_bytes_that_changed_under_a_version_are_refused(platform: MemoryPlatform, eight: Path) -> None:
    adopt(platform)
    platform.registry.elsewhere["models:/fraud/7"] = eight
    with pytest.raises(ArtifactMismatch, match="artifact store"):
        adopt(platform)


def test_two_that_adopt_at_once_get_one_version(platform: MemoryPlatform) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    together = Barrier(2)

    def load() -> pd.DataFrame:
        together.wait(timeout=60)
        return ROWS

    with ThreadPoolExecutor(2) as pool:
        first, second = (future.result() for future in [pool.submit(adopt, platform, None, load) for _ in range(2)])
    assert first.model == second.model
    assert len(platform.registry.versions("fraud-adopted")) == 1


REFUSED: list[tuple[str, AdoptionRequest, pd.DataFrame, type[MlpipexError], str]] = [
    ("nothing there", request("models:/fraud@gone"), ROWS, ModelNotFound, "models:/fraud@gone"),
    ("an input is missing", request(), ROWS.drop(columns="age"), SignatureMismatch, "missing columns: age"),
    ("no rows", request(), ROWS.head(0), DataQualityFailed, "no rows"),
    ("no labels", request(), ROWS.assign(fraud=None), DataQualityFailed, "0 of 400 rows"),
    ("no such target", request(target="late"), ROWS, DataQualityFailed, "evaluation.target"),
    ("the target is an input", request(target="age"), ROWS, SignatureMismatch, "without the answer"),
    ("no such time", request(time_column="at"), ROWS, DataQualityFailed, "evaluation.time_column"),
    ("times without zone", request(time_column="fraud"), ROWS, DataQualityFailed, "time zone"),
]


@pytest.mark.parametrize(
    ("asked", "rows", "error", "said"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_what_cannot_be_proven_is_refused_by_name(
    platform: MemoryPlatform, asked: AdoptionRequest, rows: pd.DataFrame, error: type[MlpipexError], said: str
) -> None:
    with pytest.raises(error, match=said):
        adopt(platform, asked, load=lambda: rows)
    assert platform.registry.versions("fraud-adopted") == []


def test_no_row_of_a_customer_is_in_a_refusal(platform: MemoryPlatform) -> None:
    rows = ROWS.assign(country="secret-of-a-customer")
    with pytest.raises(SignatureMismatch) as refused:
        adopt(platform, load=lambda: rows)
    assert "secret-of-a-customer" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_what_is_no_model_is_refused(platform: MemoryPlatform, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(b"1")
    platform.registry.elsewhere["models:/fraud/9"] = tmp_path / "model"
    with pytest.raises(RegistrationRefused, match="MLflow model directory"):
        adopt(platform, request("models:/fraud/9"))


# Signatures that no table of columns fits, and those that one does.


class Echo(mlflow.pyfunc.PythonModel):
    """Answers one number a row, whatever it is asked; ``bias`` is its parameter."""

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> list[float]:
        return [1.0 + float((params or {}).get("bias", 0.0))] * len(model_input)


def save_echo(folder: Path, inputs: Schema, params: ParamSchema | None = None) -> Path:
    answers = Schema([ColSpec("double")])
    signature = ModelSignature(inputs=inputs, outputs=answers, params=params)
    mlflow.pyfunc.save_model(folder, python_model=Echo(), signature=signature, pip_requirements=[])
    return folder


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        (
            Schema([TensorSpec(np.dtype("float64"), (-1, 28))]),
            r"a name \(tensor of float64, shape \[-1, 28\]\)",
        ),
        (
            Schema([TensorSpec(np.dtype("float32"), (-1, 3), "pixels")]),
            r"'pixels \(tensor of float32, shape \[-1, 3\]\)",
        ),
        (Schema([ColSpec("string")]), r"input 1, without a name \(string\)"),
        (
            Schema([ColSpec("double", "amount"), ColSpec(Array(DataType.double), "embedding")]),
            r"value: 'embedding \(array of double\)'",
        ),
        (Schema([ColSpec("binary", "picture")]), r"picture \(binary\)"),
    ],
    ids=["tensor", "named tensor", "text without a name", "lists", "bytes"],
)
def test_inputs_that_are_no_cells_are_refused_by_name(
    platform: MemoryPlatform, tmp_path: Path, inputs: Schema, named: str
) -> None:
    platform.registry.elsewhere["models:/fraud/9"] = save_echo(tmp_path / "model", inputs)
    with pytest.raises(SignatureMismatch, match=named):
        adopt(platform, request("models:/fraud/9"))


def test_a_single_column_of_text_is_adopted_and_served(platform: MemoryPlatform, tmp_path: Path) -> None:
    platform.registry.elsewhere["models:/fraud/9"] = save_echo(
        tmp_path / "model", Schema([ColSpec("string", "review")])
    )
    rows = pd.DataFrame({"review": ["good", "bad", "ümlaut 'quoted'"]})
    spec = {"task": None, "target": None}
    model = adopt(platform, request("models:/fraud/9", **spec), load=lambda: rows).model
    assert platform.registry.answer(model, rows).predictions == [1.0, 1.0, 1.0]


def test_parameters_of_an_adopted_model_are_heard_or_refused(platform: MemoryPlatform, tmp_path: Path) -> None:
    takes = ParamSchema([ParamSpec("bias", DataType.double, 0.0)])
    inputs = Schema([ColSpec("double", "amount")])
    platform.registry.elsewhere["models:/fraud/9"] = save_echo(tmp_path / "model", inputs, takes)
    rows = ROWS[["amount"]].head(20)
    model = adopt(platform, request("models:/fraud/9", task=None, target=None), load=lambda: rows).model
    scorer, _ = scorer_of(platform.registry.folders[model.run_id])

    def ask(**params: Any) -> Any:
        body = {"dataframe_records": [{"amount": 1.5}], **({"params": params} if params else {})}
        answer = scorer.score(json.dumps(body).encode(), "application/json")
        return answer.status, json.loads(answer.body)

    assert ask() == (200, {"predictions": [1.0]})
    assert ask(bias=2.5) == (200, {"predictions": [3.5]})
    status, told = ask(biass=2.5)
    assert status == 400 and "only the params bias" in told["message"]


def test_other_code_of_the_rows_adopts_anew(platform: MemoryPlatform) -> None:
    rows: dict[str, Any] = {"file": None, "callable": "acme.fraud:holdout"}
    earlier = request(**rows)
    first = adopt(platform, earlier).model
    # An adoption of before the code counted is still found; of two that know it, each is its own.
    assert adopt(platform, replace(earlier, rows_digest="1" * 64)).known
    platform.registry.elsewhere["models:/fraud@champion"] = "models:/fraud/8"
    one, other = (adopt(platform, replace(earlier, rows_digest=digest * 64)) for digest in "12")
    assert (first.version, one.model.version, other.model.version) == ("7.0.0", "8.0.0", "8.1.0")
    assert adopt(platform, replace(earlier, rows_digest="1" * 64)).model == one.model
