"""What another team's pipeline does: LightGBM trained and saved by plain MLflow, and nothing of this provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FEATURES = ["amount", "country", "age"]


def payments(rows: int = 400, *, seed: int = 1) -> pd.DataFrame:
    """Payments with labels; ages have gaps. The same seed gives the same rows."""
    random = np.random.default_rng(seed)
    amount = random.exponential(100.0, size=rows)
    age = np.where(random.random(rows) < 0.2, np.nan, random.uniform(18, 80, rows))
    country = random.integers(0, 5, size=rows)
    fraud = ((amount > 150.0) & (country > 1)) ^ (random.random(rows) < 0.1)
    return pd.DataFrame({"amount": amount, "country": country, "age": age, "fraud": fraud.astype(int)})


def train_lightgbm(*, trees: int = 20) -> Any:
    from lightgbm import LGBMClassifier

    rows = payments(seed=0)
    return LGBMClassifier(n_estimators=trees, verbose=-1, random_state=0, n_jobs=1).fit(rows[FEATURES], rows["fraud"])


def save_lightgbm(folder: Path, *, trees: int = 20, signed: bool = True) -> Path:
    """A model directory as ``mlflow.lightgbm`` writes it."""
    import mlflow.lightgbm
    from mlflow.models import infer_signature

    model = train_lightgbm(trees=trees)
    rows = payments(seed=0)[FEATURES]
    signature = infer_signature(rows, model.predict(rows)) if signed else None
    mlflow.lightgbm.save_model(model, folder, signature=signature, pip_requirements=["lightgbm"])
    return folder
