"""What of the provider's own environment serves a model, and what of it has changed since a release began to run.

The digest of that environment covers all that is installed, so that no change of it escapes a review. To start a
release *again* is another matter: a package more, or a newer test tool, changes no answer, and to refuse for it would
take a model from its users. So the packages are written down when a release first starts, and a restart compares those
that serve: the model's own requirements, the model server's, and all that these need.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from airflow_provider_mlpipex.atomic import atomic_write
from airflow_provider_mlpipex.domain.release.lock import canonical_name

#: What the model server itself imports, whatever the model. Feast only where a release has features, which is then
#: found missing or changed when its features are compared.
MODEL_SERVER = ("mlflow", "orjson", "packaging", "pydantic", "pyyaml", "starlette", "structlog", "uvicorn")


def installed(distributions: Iterable[Distribution], *, without: str = "") -> dict[str, str]:
    """Canonical name -> version, of everything but ``without``."""
    named = ((d.metadata["Name"], d.version) for d in distributions)
    versions = {canonical_name(name): version for name, version in named if name}
    return {name: version for name, version in versions.items() if name != without}


def keep(path: Path, packages: Mapping[str, str]) -> None:
    """Write down the packages that a release starts with; what was written first stays."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic_write(path, json.dumps(dict(sorted(packages.items())), indent=1))


def kept(path: Path) -> dict[str, str]:
    """What was written down; empty where nothing can be read."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(version) for name, version in read.items()} if isinstance(read, dict) else {}


def requirements_of(model_dir: Path) -> set[str] | None:
    """Packages that the model names; ``None`` where it does not say, so that anything may matter to it."""
    try:
        lines = (model_dir / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    names = set()
    for line in lines:
        text = line.partition(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        try:
            names.add(canonical_name(Requirement(text).name))
        except InvalidRequirement:
            return None
    return names


def changed(
    before: Mapping[str, str],
    now: Mapping[str, str],
    distributions: Iterable[Distribution],
    *,
    model: Collection[str] | None,
) -> list[str]:
    """Packages that serve and are not as they were: ``numpy 2.1.0 -> 2.2.0``, ``pandas 2.3.3 -> gone``.

    :param model: what the model requires; ``None``: every package that was there may matter.
    """
    names = serving(before, distributions, model=model)
    return [f"{name} {before[name]} -> {now.get(name, 'gone')}" for name in names if now.get(name) != before[name]]


def serving(
    before: Mapping[str, str], distributions: Iterable[Distribution], *, model: Collection[str] | None
) -> list[str]:
    """Packages among ``before`` that serve, sorted; all of them where the model does not say what it requires."""
    needed = before.keys() if model is None else closure({*model, *MODEL_SERVER}, distributions) & before.keys()
    return sorted(needed)


def closure(roots: Iterable[str], distributions: Iterable[Distribution]) -> set[str]:
    """``roots`` and all that they need here, whether it is installed or not."""
    needs = {canonical_name(d.metadata["Name"]): d.requires or [] for d in distributions if d.metadata["Name"]}
    reached: set[str] = set()
    waiting = [canonical_name(root) for root in roots]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        for text in needs.get(name, ()):
            requirement = Requirement(text)
            # Extras are left out: whoever wants what they bring names it.
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(canonical_name(requirement.name))
    return reached
