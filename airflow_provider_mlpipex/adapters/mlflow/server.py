"""An MLflow server: asked through a client of its own, and what it answers wrongly, as errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_mlpipex.adapters.mlflow.model import settle_environment
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, NotAuthorised, RegistryUnavailable
from airflow_provider_mlpipex.domain.urls import hide_credentials, without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

_TRANSIENT = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}
_FORBIDDEN = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
_PROBE_TIMEOUT_S = 3.0


class MlflowServer:
    """Thread-safe: only an ``MlflowClient`` is used, never MLflow's process-wide active run or tracking URI.

    :param tracking_uri: ``http://127.0.0.1:5000``, or anything else that ``MlflowClient`` takes.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri.rstrip("/")

    @cached_property
    def _client(self) -> MlflowClient:
        settle_environment()
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)

    @contextmanager
    def _answering(self, doing: str) -> Iterator[None]:
        """Probe the server, then turn what goes wrong in the block into an error that says what to do."""
        self._probe(doing)
        settle_environment()
        import requests
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            raise self._translated(doing, error) from error
        except requests.RequestException as error:
            raise self._away(doing, error) from error

    def _probe(self, doing: str) -> None:
        if urlsplit(self.tracking_uri).scheme not in ("http", "https"):
            return
        import httpx

        try:
            status = httpx.get(f"{self.tracking_uri}/health", timeout=_PROBE_TIMEOUT_S).status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._away(doing, error) from error
        if status >= 500:
            raise self._away(doing, f"HTTP {status}")

    def _translated(self, doing: str, error: MlflowException) -> Exception:
        if error.error_code in _FORBIDDEN:
            return NotAuthorised(
                f"MLflow at {self._address}: {doing}",
                value=error.error_code,
                remedy="put a user that may write into the connection",
            )
        if error.error_code in _TRANSIENT:
            return self._away(doing, error)
        return ConfigurationInvalid(
            f"MLflow at {self._address}: {doing}",
            value=str(error.message).replace(self.tracking_uri, self._address),
            limit=error.error_code,
            remedy="see the MLflow server's log; was the experiment or model deleted or changed by hand?",
        )

    def _away(self, doing: str, cause: object) -> RegistryUnavailable:
        return RegistryUnavailable(
            f"MLflow at {self._address}: {doing}",
            value=hide_credentials(str(cause).replace(self.tracking_uri, self._address))[:300],
            limit=f"an answer to /health within {_PROBE_TIMEOUT_S:g} s",
            remedy="start the server or correct the address, then run the task again",
        )

    @property
    def _address(self) -> str:
        """The tracking URI without a password."""
        return without_credentials(self.tracking_uri)
