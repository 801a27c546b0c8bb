"""The code of the team whose manifest is :data:`tests.support.manifests.MANIFEST`: data source and training."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeClassifier

from airflow_provider_mlpipex.domain.release.training import TrainingContext
from tests.support.manifests import edited

#: Edits that make the manifest one that can be released here.
HERE = (("acme.fraud:train", "tests.support.acme:train"), ("acme.fraud:load", "tests.support.acme:load"))


def manifest_text(*edits: tuple[str, str]) -> str:
    return edited(*HERE, *edits)


def load(start: datetime, end: datetime, *, broken: bool = False) -> pd.DataFrame:
    """One payment an hour; the same hours give the same rows. ``broken``: the source raises."""
    if broken:
        raise ConnectionError("the payments table is away")
    hours = pd.date_range(start, end, freq="h", inclusive="left")
    random = np.random.default_rng(7)
    amount = random.exponential(100.0, size=len(hours))
    country = random.integers(0, 5, size=len(hours)).astype(float)
    # A tenth of the labels is wrong, so no model is perfect.
    fraud = (((amount > 150.0) & (country > 1)) ^ (random.random(len(hours)) < 0.1)).astype(int)
    return pd.DataFrame({"at": hours, "amount": amount, "country": country, "fraud": fraud})


def train(context: TrainingContext) -> Any:
    # Leaves too large to learn the wrong labels: another depth is another model, and no worse.
    tree = DecisionTreeClassifier(
        max_depth=context.parameters["depth"], min_samples_leaf=100, random_state=context.seed
    )
    return tree.fit(context.features, context.target)
