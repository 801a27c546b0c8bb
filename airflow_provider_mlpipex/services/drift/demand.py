"""What a look at drift is asked of: which release, and by which numbers."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.errors import DriftUndecided, ManifestInvalid
from airflow_provider_mlpipex.domain.manifest.drift_block import DriftSpec
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.rollout.state import EndpointState


def demanded(state: EndpointState, manifest: Manifest | None) -> DriftSpec:
    """The drift block of ``manifest``; of the one that the current release was promoted under if not given.

    :raises ManifestInvalid: ``manifest`` has none for this environment.
    """
    environment = state.endpoint.environment
    if manifest is None:
        if state.current_manifest is None:
            return DriftSpec()
        manifest = Manifest.model_validate(state.current_manifest)
        return manifest.environments[environment].drift or DriftSpec()
    declared = manifest.environments.get(environment)
    if declared is None or declared.drift is None:
        raise ManifestInvalid(
            f"manifest {manifest.name}, field environments.{environment}.drift",
            value="missing",
            limit="the numbers by which drift is judged",
            remedy="add a drift block, or judge by the manifest that the release was promoted under",
        )
    return declared.drift


def current_release(state: EndpointState) -> str:
    """:raises DriftUndecided: nothing is current."""
    if state.current is None:
        raise DriftUndecided(
            f"drift of {state.endpoint}",
            value="nothing is current",
            limit="a current release",
            remedy="release something first, or name a release",
        )
    return state.current.id
