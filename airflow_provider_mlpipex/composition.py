"""Where adapters meet ports: the one place, besides the hook's connection, that knows vendors.

Settings come from a connection (Airflow), from the environment (``MLPIPEX_*``: terminal, plane daemon) or from a test.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ByteSize, Field, SecretStr, ValidationError, field_validator

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.rollout.events import Origin
from airflow_provider_mlpipex.domain.urls import without_credentials
from airflow_provider_mlpipex.domain.values import Value
from airflow_provider_mlpipex.ports import ServingPlane
from airflow_provider_mlpipex.services.platform import Platform


class Settings(Value):
    """Everything a composition root needs to know.

    :param ledger_url: SQLAlchemy url of the ledger.
    :param plane_url: control API of the serving plane, on loopback or behind TLS.
    :param plane_token: its bearer token; or ``plane_token_file``, a file that holds it.
    :param client_token: what is shown at the plane's ingress; or ``client_token_file``, a file that holds it. Only
        tasks that score batches need it, and they name batches: it is the plane's ``batch-token``.
    :param ingress_url: of the ingress, where it is reached by another address than the plane itself gives.
    :param tracking_uri: MLflow.
    :param snapshot_root: directory of dataset snapshots.
    :param runtime_root: directory of the environments that a worker builds from locks, to prove models in them.
    :param quality_root: directory for results and Data Docs of Great Expectations; not set, none are written.
    :param drift_root: directory for Evidently's pages on drift that was found; not set, none are drawn.
    :param standbys: of the plane: whether each current release has a second process with its model loaded, which takes
        over when the first one dies. It costs the memory of one more model server an endpoint.
    :param model_memory: of the plane: what one model server may hold, as ``2GB``; one that has more is ended. If not
        set, half of the machine's or container's memory; ``0``: no limit.
    :param head_key_file: of the plane: Ed25519 private key (PEM) with which it signs the ledger heads that it notes.
    :param head_url: of the plane: where it sends each of them, by POST as JSON.
    :param feature_repository: folder of the Feast repository; not set, no manifest may name a feature service.
    :param alert_channels: channel -> Apprise urls, for this process alone; those that everybody shares are in the
        ledger (``mlpipex alerts set``), and are used for channels that are not named here.
    """

    ledger_url: str = "sqlite:///.mlpipex/ledger.db"
    plane_url: str = "http://127.0.0.1:8089"
    plane_token: SecretStr | None = None
    plane_token_file: Path | None = None
    client_token: SecretStr | None = None
    client_token_file: Path | None = None
    ingress_url: str | None = None
    tracking_uri: str = "http://127.0.0.1:5000"
    snapshot_root: Path = Path(".mlpipex/snapshots")
    runtime_root: Path = Path(".mlpipex/runtimes")
    quality_root: Path | None = None
    drift_root: Path | None = None
    feature_repository: Path | None = None
    standbys: bool = True
    model_memory: ByteSize | None = None
    head_key_file: Path | None = None
    head_url: str | None = None
    alert_channels: dict[str, tuple[str, ...]] = Field(default_factory=dict, repr=False)

    def __repr_args__(self) -> Any:
        """Addresses without their passwords: settings end up in tracebacks and debug logs."""
        for name, value in super().__repr_args__():
            yield name, without_credentials(value) if isinstance(value, str) else value

    @field_validator("alert_channels", mode="before")
    @classmethod
    def _read_json(cls, raw: Any) -> Any:
        if not isinstance(raw, str):
            return raw
        try:
            return json.loads(raw)
        except ValueError:
            raise ValueError('not JSON; write {"on-call": ["<Apprise url>"]}') from None

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any], *, where: str) -> Settings:
        """:raises ConfigurationInvalid: naming ``where`` and every field that cannot work."""
        try:
            return cls.model_validate(dict(raw))
        except ValidationError as error:
            fields = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
            raise ConfigurationInvalid(
                where, value=fields, limit=f"fields: {', '.join(cls.model_fields)}", remedy="correct the fields named"
            ) from None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """``MLPIPEX_LEDGER_URL``, ``MLPIPEX_PLANE_URL``, … (one per field); ``MLPIPEX_ALERT_CHANNELS`` is JSON."""
        raw: dict[str, Any] = {}
        for field in cls.model_fields:
            text = environ.get(f"MLPIPEX_{field.upper()}")
            if text:
                raw[field] = text
        return cls.from_mapping(raw, where="environment variables MLPIPEX_*")

    def token(self) -> str:
        """Of the plane's control API.

        :raises ConfigurationInvalid: neither token nor readable token file.
        """
        return _token(
            self.plane_token,
            self.plane_token_file,
            thing="token of the serving plane",
            limit="plane_token or plane_token_file",
            remedy="set MLPIPEX_PLANE_TOKEN_FILE, or the password of the Airflow connection",
        )

    def ingress_token(self) -> str:
        """Of the plane's ingress, for who names batches.

        :raises ConfigurationInvalid: neither token nor readable token file.
        """
        return _token(
            self.client_token,
            self.client_token_file,
            thing="batch token of the serving plane",
            limit="client_token or client_token_file",
            remedy="set MLPIPEX_CLIENT_TOKEN_FILE, or one of these fields in the extra of the Airflow connection",
        )


def _token(token: SecretStr | None, file: Path | None, *, thing: str, limit: str, remedy: str) -> str:
    if token is not None:
        return token.get_secret_value()
    if file is None:
        raise ConfigurationInvalid(thing, limit=limit, remedy=remedy)
    try:
        return file.read_text().strip()
    except OSError as error:
        raise ConfigurationInvalid(
            thing,
            value=str(file),
            limit=error.strerror or "unreadable",
            remedy="start the plane (mlpipex serve run); it writes the file, readable by its owner alone",
        ) from None


def build_platform(settings: Settings, origin: Origin, *, plane: ServingPlane | None = None) -> Platform:
    """The ports over their real adapters. No I/O happens here.

    :param plane: the serving plane, where it is in this very process; else the one at ``settings.plane_url``.
    """
    from airflow_provider_mlpipex.adapters.apprise.alerts import AppriseAlerter
    from airflow_provider_mlpipex.adapters.embedded.plane import EmbeddedPlane
    from airflow_provider_mlpipex.adapters.embedded.predictor import HttpPredictor
    from airflow_provider_mlpipex.adapters.embedded.runtimes import LockedRuntimes
    from airflow_provider_mlpipex.adapters.evidently.report import EvidentlyReporter
    from airflow_provider_mlpipex.adapters.feast.features import FeastFeatures
    from airflow_provider_mlpipex.adapters.files.parquet_snapshots import ParquetSnapshots
    from airflow_provider_mlpipex.adapters.great_expectations.validator import GxValidator
    from airflow_provider_mlpipex.adapters.mlflow.registry import MlflowRegistry
    from airflow_provider_mlpipex.adapters.sql.alert_channels import SqlAlertChannels
    from airflow_provider_mlpipex.adapters.sql.ledger import SqlLedger
    from airflow_provider_mlpipex.adapters.sql.outcomes import SqlOutcomes
    from airflow_provider_mlpipex.adapters.system_clock import SystemClock

    return Platform(
        ledger=SqlLedger(settings.ledger_url),
        outcomes=SqlOutcomes(settings.ledger_url),
        plane=plane or EmbeddedPlane(settings.plane_url, settings.token),
        predictor=HttpPredictor(settings.ingress_token, ingress_url=settings.ingress_url),
        registry=MlflowRegistry(settings.tracking_uri),
        snapshots=ParquetSnapshots(settings.snapshot_root),
        validator=GxValidator(settings.quality_root),
        runtimes=LockedRuntimes(settings.runtime_root.absolute(), tracking_uri=settings.tracking_uri),
        alerter=AppriseAlerter(settings.alert_channels, shared=SqlAlertChannels(settings.ledger_url).read),
        clock=SystemClock(),
        origin=origin,
        features=FeastFeatures(settings.feature_repository) if settings.feature_repository else None,
        drift_reporter=EvidentlyReporter(settings.drift_root) if settings.drift_root else None,
    )


def terminal_origin(kind: str = "cli") -> Origin:
    """Who is at the terminal."""
    return Origin.model_validate({"kind": kind, "user": getpass.getuser()})
