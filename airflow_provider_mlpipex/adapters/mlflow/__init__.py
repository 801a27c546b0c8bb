"""MLflow: models, their registry, what may be registered."""
