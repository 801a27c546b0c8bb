"""What every sensor refuses."""

from __future__ import annotations

from airflow.sdk import BaseSensorOperator

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid


def refuse_soft_fail(sensor: BaseSensorOperator, *, limit: str, remedy: str) -> None:
    """:raises ConfigurationInvalid: ``soft_fail`` or ``never_fail``, which would skip a task that has to fail."""
    if sensor.soft_fail or sensor.never_fail:
        raise ConfigurationInvalid(
            f"{type(sensor).__name__} {sensor.task_id}",
            value="soft_fail" if sensor.soft_fail else "never_fail",
            limit=limit,
            remedy=remedy,
        )
