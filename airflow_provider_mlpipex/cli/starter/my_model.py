"""Data and training of my-model. The manifest names both functions; tasks import this file from beside it."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from airflow_provider_mlpipex.domain.release.training import TrainingContext


def load(start: datetime, end: datetime) -> pd.DataFrame:
    """One row an example, with ``at >= start`` and ``at < end`` (UTC): a time column, the features, the target.

    Replace this by your own source; ``data.parameters`` of the manifest arrive as keyword arguments. The same window
    must give the same rows, or no training can be reproduced.
    """
    at = pd.date_range(start, end, freq="15min", inclusive="left")
    random = np.random.default_rng(7)
    amount = random.exponential(100.0, size=len(at))
    age = random.integers(18, 90, size=len(at)).astype(float)
    noise = random.normal(0.0, 20.0, size=len(at))
    return pd.DataFrame({"at": at, "amount": amount, "age": age, "label": (amount - age + noise > 20.0).astype(int)})


def train(context: TrainingContext) -> Pipeline:
    """A fitted scikit-learn estimator (or an ``mlflow.pyfunc.PythonModel``).

    ``context`` holds ``features`` (only the manifest's feature columns), ``target``, ``parameters`` and ``seed``.
    """
    model = LogisticRegression(max_iter=context.parameters["max_iter"], random_state=context.seed)
    return make_pipeline(StandardScaler(), model).fit(context.features, context.target)
