"""A team's own code that a model needs wherever it is loaded. Not in the package ``tests``: all of that would be
shipped with every model.
"""

from __future__ import annotations

from typing import Any

import mlflow


def double(values: Any) -> Any:
    """A team's own function inside a pipeline: what the skops format would refuse to load."""
    return values * 2


class Halving(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: Any) -> Any:
        return model_input["distance"].to_numpy() / 2
