"""What the supervisor tells a model server, and what a model server that could not start tells back."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_provider_mlpipex.atomic import atomic_write
from airflow_provider_mlpipex.domain.errors import MlpipexError, ReleaseNotReady, error_from_dict
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import Release
from airflow_provider_mlpipex.domain.values import Value

FAILURE_FILE = "failure.json"
#: The drill port: ``{"error_rate": 0..1, "latency_ms": n}`` beside the spec breaks this server on purpose.
FAULT_FILE = "fault.json"


class ModelServerSpec(Value):
    """:param model_dir: local MLflow model directory, fetched and verified.
    :param socket: unix socket to listen on.
    :param log_dir: prediction log of this endpoint and release.
    :param feature_repository: Feast repository, where the plane has one; read if the release has a feature service.
    :param queue_size: predictions waiting to be written before they are dropped and counted.
    :param segment_bytes: size at which a log segment is closed; ``segments_kept``: closed segments that stay.
    """

    endpoint: EndpointRef
    release: Release
    model_dir: str
    socket: str
    log_dir: str
    feature_repository: str | None = None
    queue_size: int = 10_000
    segment_bytes: int = 16_000_000
    segments_kept: int = 64


def write_failure(spec_path: Path, error: MlpipexError) -> None:
    """Leave ``error`` beside the spec, for the supervisor to raise as its own."""
    atomic_write(spec_path.parent / FAILURE_FILE, json.dumps(error.as_dict()))


def read_failure(spec_path: Path) -> MlpipexError | None:
    """The error that kept the server from starting, as the class that it was; ``None`` if it left none.

    A runtime may hold a newer version of the provider, with errors that are not known here.
    """
    try:
        left = json.loads((spec_path.parent / FAILURE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return error_from_dict(left, nearest=ReleaseNotReady)
