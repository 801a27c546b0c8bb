"""What is said of a model that answers its golden rows otherwise than on the day it was registered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_mlpipex.domain.errors import SignatureMismatch
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.serving.model_server.app import GOLDEN_PATH, load
from airflow_provider_mlpipex.serving.model_server.spec import ModelServerSpec
from tests.support.plane import STEP, invocation, release_of, save_numbered_model

DISTANCES = [float(distance) for distance in range(200)]


def test_the_row_that_differs_is_named_however_many_stand_before_it(tmp_path: Path) -> None:
    folder = save_numbered_model(1, tmp_path / "model")
    recorded = [distance + STEP for distance in DISTANCES]
    recorded[-1] += 0.5
    golden = {"request": invocation(*DISTANCES), "predictions": recorded}
    (folder / GOLDEN_PATH).write_text(json.dumps(golden), encoding="utf-8")
    spec = ModelServerSpec(
        endpoint=EndpointRef.parse("production/shop"),
        release=release_of(folder, "1.0.0"),
        model_dir=str(folder),
        socket=str(tmp_path / "socket"),
        log_dir=str(tmp_path / "log"),
    )
    with pytest.raises(SignatureMismatch, match=r"golden row 200: 119[89].* instead of 1199\.5"):
        load(spec)
