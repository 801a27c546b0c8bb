"""What every resolver of runtime environments holds to."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.errors import RuntimeMismatch
from airflow_provider_mlpipex.domain.manifest.runtime_block import RuntimeSpec
from airflow_provider_mlpipex.domain.release.release import RuntimeEnvironment


def pin(spec: RuntimeSpec, digest: str, *, lock_uri: str | None) -> RuntimeEnvironment:
    """``spec`` bound to the digest that was found.

    :raises RuntimeMismatch: the manifest states another digest.
    """
    if spec.digest is not None and spec.digest != digest:
        raise RuntimeMismatch(
            f"runtime {spec.version}",
            value=digest,
            limit=f"the manifest pins {spec.digest}",
            remedy="bump runtime.version and its digest together; that opens a review",
        )
    return RuntimeEnvironment(version=spec.version, kind=spec.kind, digest=digest, lock_uri=lock_uri, image=spec.image)
