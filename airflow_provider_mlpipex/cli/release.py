"""``mlpipex release`` and ``promote``: a release without Airflow, of what is new or of what was there before."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import (
    AsJson,
    Endpoint,
    ManifestFile,
    configured_platform,
    emit,
    known_endpoint,
)
from airflow_provider_mlpipex.domain.errors import ManifestInvalid, NotFound
from airflow_provider_mlpipex.domain.fields.quantities import parse_moment
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import StageName
from airflow_provider_mlpipex.log_fields import NoLog
from airflow_provider_mlpipex.manifest_files import load_manifest_file
from airflow_provider_mlpipex.observability import Envelope, NoMetrics, stage
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.services.rollout.carry import (
    Carried,
    Carrier,
    Invariants,
    ReviewAnswer,
    adopt_registered,
    train_and_register,
)
from airflow_provider_mlpipex.services.rollout.history import released
from airflow_provider_mlpipex.services.rollout.opening import make_release
from airflow_provider_mlpipex.services.rollout.review import ReviewRequest
from airflow_provider_mlpipex.services.rollout.review_facts import ReviewFacts

app = typer.Typer()

Environments = Annotated[
    list[str] | None, typer.Option("--environment", help="Only this one; may be repeated. All, in order, if not given.")
]
Approve = Annotated[str, typer.Option(help="Approve reviews with this note, as you; else you are asked.")]
RunId = Annotated[str, typer.Option("--run", help="Id of the rollout; the same again goes on where it stopped.")]


class Terminal:
    """Shows a release as it goes, on standard error: standard output is the answer's."""

    def __init__(self, platform: Platform, *, approve: str) -> None:
        self._platform = platform
        self._approve = approve
        self._last = ""

    def say(self, where: str, stage: str, text: str) -> None:
        line = f"{where:12} {stage:14} {text}"
        if line != self._last:  # a watch says the same for minutes
            typer.echo(f"{self._platform.clock.now():%H:%M:%S} {line}", err=True)
        self._last = line

    def stage(
        self, name: StageName, endpoint: EndpointRef, *, after: Invariants = MappingProxyType({})
    ) -> AbstractContextManager[Envelope]:
        return stage(name, endpoint=endpoint, platform=self._platform, log=NoLog(), metrics=NoMetrics(), after=after)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def review(self, endpoint: EndpointRef, request: ReviewRequest) -> ReviewAnswer:
        user = self._platform.origin.user
        for line in (
            *_introduced(request.facts),
            *(f"{each.kind} {each.what}: {each.before} -> {each.after}" for each in request.changes),
        ):
            self.say(endpoint.environment, "review", line)
        if self._approve:
            return ReviewAnswer(True, user, self._approve)
        if not sys.stdin.isatty():
            note = "nobody could be asked: this terminal is none; run again with --approve NOTE"
            return ReviewAnswer(False, user, note)
        approved = typer.confirm(f"Release to {endpoint}? ({request.why})", err=True)
        return ReviewAnswer(approved, user, typer.prompt("Note", default="", err=True))


def _introduced(facts: ReviewFacts | None) -> Iterator[str]:
    """What a reviewer wants to know beside the changes and the gates, which were shown when they were judged."""
    if facts is None:
        return
    yield f"{facts.candidate} would replace {facts.current or 'nothing: it is the first here'}"
    yield f"on its way: {facts.path}"
    yield f"commit {facts.commit}{f', training run {facts.run_page}' if facts.run_page else ''}"
    yield f"owner {facts.owner}, {facts.contact}"
    yield from (f"ATTENTION {tried.sentence}" for tried in facts.earlier)
    for metric in facts.metrics:
        yield f"{metric.name}: {metric.shown(metric.current)} -> {metric.shown(metric.candidate)}"


@app.command()
def release(
    file: ManifestFile,
    environment: Environments = None,
    as_of: Annotated[str, typer.Option(help="End of the evaluation window, ISO 8601; now if not given.")] = "",
    approve: Approve = "",
    code_version: Annotated[
        str, typer.Option(help="Git commit of the code; that of the manifest's folder if not given.")
    ] = "",
    run: RunId = "",
    as_json: AsJson = False,
) -> None:
    """Carry a release without Airflow: train, register, then gates, review, shadow, canary, promote and watch.

    For CI and for trying out; the ledger knows it like any other. It needs what a Dag needs: a serving plane, MLflow
    and a ledger, as MLPIPEX_* name them. Interrupted, it takes back what is on trial.
    """
    from airflow_provider_mlpipex.adapters.git.code_version import code_version as commit_of
    from airflow_provider_mlpipex.hooks import adoption

    manifest, folder = load_manifest_file(file), file.resolve().parent
    names = _environments(manifest, environment, file)
    sys.path.insert(0, str(folder))  # the team's own module stands beside its manifest, as mlpipex init writes it
    platform = configured_platform(create=True)
    host = Terminal(platform, approve=approve)
    moment = parse_moment(as_of, what="--as-of") if as_of else platform.clock.now()
    version = code_version or commit_of(folder)
    if manifest.model.adopt:
        model = adopt_registered(
            platform,
            manifest,
            lambda tell: adoption.adopt(platform, manifest, folder=folder, tell=tell),
            host=host,
            manifest_dir=folder,
        )
    else:
        model = train_and_register(
            platform, manifest, as_of=moment, code_version=version, host=host, manifest_dir=folder
        )
    bound = make_release(platform, manifest, model, manifest_dir=folder)
    carrier = Carrier(platform, manifest, bound, rollout_id=run or _run_id(manifest), host=host)
    _answer([carrier.carry(name) for name in names], as_json)


@app.command()
def promote(
    endpoint: Endpoint,
    release_id: Annotated[str, typer.Option("--release", help="One that was rolled out before, from mlpipex history.")],
    approve: Approve = "",
    run: RunId = "",
    as_json: AsJson = False,
) -> None:
    """Release an older release again, under the manifest that it had: gates, review, shadow, canary and watch.

    For the way back to the release before, without any of these, there is mlpipex rollback.
    """
    platform = configured_platform()
    ref = known_endpoint(platform, endpoint)
    bound, manifest = released(platform, release_id)
    if manifest.name != ref.name or ref.environment not in manifest.environments:
        raise NotFound(
            f"release {release_id}",
            value=str(ref),
            limit=f"an environment of its manifest: {', '.join(f'{e}/{manifest.name}' for e in manifest.environments)}",
            remedy=f"copy a release from: mlpipex history {ref}",
        )
    host = Terminal(platform, approve=approve)
    carrier = Carrier(platform, manifest, bound, rollout_id=run or _run_id(manifest), host=host)
    _answer([carrier.carry(ref.environment)], as_json)


def _environments(manifest: Manifest, wanted: list[str] | None, file: Path) -> list[str]:
    unknown = [name for name in wanted or () if name not in manifest.environments]
    if unknown:
        raise ManifestInvalid(
            f"manifest {file}, environments",
            value=", ".join(unknown),
            limit=f"one of {', '.join(manifest.environments)}",
            remedy="name a declared environment",
        )
    return [name for name in manifest.environments if not wanted or name in wanted]


def _run_id(manifest: Manifest) -> str:
    # To the microsecond: two releases in one second are two rollouts.
    return f"cli__{manifest.name}__{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"


def _answer(carried: list[Carried], as_json: bool) -> None:
    emit(
        [each._asdict() for each in carried],
        as_json,
        lambda: "\n".join(f"{each.endpoint}: {each.release} {each.ending}" for each in carried),
    )
