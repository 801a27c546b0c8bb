"""What the ledger says of a registered model, and a registry that must say the same.

Tags of a registry can be rewritten by anybody who reaches it, so they are a mirror. What a model was when it was
registered stands in the chain of every environment of its manifest that has one; a version is taken from the registry
only if it is still that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_provider_mlpipex.domain.errors import RegistryRewritten
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import ModelVersion
from airflow_provider_mlpipex.domain.rollout.events import ModelRegistered
from airflow_provider_mlpipex.domain.values import digest_of
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.platform import Platform


def record(platform: Platform, manifest: Manifest, model: ModelVersion, *, endpoint: EndpointRef | None = None) -> None:
    """Write down what ``model`` is, in the chain of every environment of ``manifest`` that has one. What is written
    there already has to be the same.

    :param endpoint: whose chain may begin with this: a rollout is about to be opened there. A model alone makes none.
    :raises RegistryRewritten: one chain knows another model under this version.
    """
    for environment in manifest.environments:
        here = EndpointRef(environment=environment, name=manifest.name)
        begins = here == endpoint or bool(platform.ledger.read(here, limit=1))
        if begins and not _is_known(platform, here, model):
            journal.note(platform, here, registration_of(model))


def find(
    platform: Platform, manifest: Manifest, name: str, version: str, *, endpoint: EndpointRef | None = None
) -> ModelVersion:
    """The model version as the registry has it, which is as it was registered.

    Of a version that no chain knows (one that the manifest pins, the first one of all, or one that was registered by an
    earlier version of the provider), what the registry says now is written down, and holds from then on.

    :param endpoint: as in :func:`record`.
    :raises RegistryRewritten: the registry says something else of it now.
    :raises ModelNotFound: it has no such version.
    """
    model = platform.registry.get(name, version)
    record(platform, manifest, model, endpoint=endpoint)
    return model


def registration_of(model: ModelVersion) -> ModelRegistered:
    """The entry that says what ``model`` is."""
    return ModelRegistered(
        model=model.name,
        version=model.version,
        artifact_uri=model.artifact_uri,
        artifact_digest=model.artifact_digest,
        dataset=model.dataset.digest,
        metrics=dict(model.metrics),
        evaluation_rows=model.evaluation_rows,
        fingerprint=digest_of(model.to_json()),
    )


def _is_known(platform: Platform, endpoint: EndpointRef, model: ModelVersion) -> bool:
    """Whether the chain of ``endpoint`` knows this version.

    :raises RegistryRewritten: as another one.
    """
    for entry in journal.walk_back(platform, endpoint, types=("model-registered",)):
        known = entry.event
        if isinstance(known, ModelRegistered) and (known.model, known.version) == (model.name, model.version):
            _require_same(endpoint, known, registration_of(model))
            return True
    return False


def _require_same(endpoint: EndpointRef, known: ModelRegistered, claimed: ModelRegistered) -> None:
    if known.fingerprint == claimed.fingerprint:
        return
    was, now = _facts(known), _facts(claimed)
    differing = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    raise RegistryRewritten(
        f"model {claimed.model} {claimed.version} in the registry",
        value=_listed(now, differing) or f"another description, fingerprint {claimed.fingerprint[:12]}",
        limit=f"as the ledger of {endpoint} has it: "
        + (_listed(was, differing) or f"fingerprint {known.fingerprint[:12]}"),
        remedy="do not release it; find out who changed its tags, and train again",
    )


def _listed(facts: Mapping[str, str], names: Sequence[str]) -> str:
    return "; ".join(f"{name} {facts.get(name, 'none')}" for name in names)


def _facts(entry: ModelRegistered) -> dict[str, str]:
    """What of an entry people read, by its name."""
    facts = {
        "artifact digest": entry.artifact_digest,
        "artifact": entry.artifact_uri,
        "dataset": entry.dataset,
        "evaluation rows": str(entry.evaluation_rows),
    }
    return facts | {f"metric {name}": repr(value) for name, value in entry.metrics.items()}
