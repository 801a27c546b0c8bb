"""What every operator and sensor shares: the connection, the stage envelope, and how errors become task states."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, XComArg
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.observability import stats

from airflow_provider_mlpipex.domain.errors import (
    ConfigurationInvalid,
    InvalidName,
    ManifestChanged,
    MlpipexError,
    RegistrationRefused,
)
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.hooks.mlpipex import MlpipexHook
from airflow_provider_mlpipex.manifest_files import load_manifest_file

if TYPE_CHECKING:
    import pandas as pd
    from airflow.sdk import Context

    from airflow_provider_mlpipex.domain.quality.report import QualityReport
    from airflow_provider_mlpipex.domain.rollout.events import Origin, StageName
    from airflow_provider_mlpipex.observability import Envelope, Invariant
    from airflow_provider_mlpipex.services.platform import Platform

#: One rollout a Dag run: a retry and a cleared task find their rollout again, another run is another rollout.
ROLLOUT_ID = "{{ dag.dag_id }}/{{ run_id }}"

#: What another task hands over: its ``output`` in a Dag file, the mapping that it returned once the task runs.
HandedOver = Mapping[str, Any] | XComArg


def is_template(value: Any) -> bool:
    """Whether ``value`` of a Dag file, or any part of it, is known only once the task runs."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(is_template(part) for part in value.values())
    if isinstance(value, Sequence):
        return any(is_template(part) for part in value)
    return isinstance(value, XComArg)


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """What a verb works with: the ports, the envelope that records its facts, and Airflow's context."""

    platform: Platform
    envelope: Envelope
    endpoint: EndpointRef
    context: Context

    def push(self, key: str, value: Any) -> None:
        """Keep ``value`` (JSON) in XCom even if the task fails after this."""
        self.context["ti"].xcom_push(key=key, value=value)

    def judged(self, report: QualityReport) -> None:
        """Tell the quality of a table to log, metrics, ledger and XCom ``quality``, whatever it says."""
        self.envelope.quality(report)
        self.push("quality", report.to_json())


class StageTask:
    """Mixin of every operator and sensor: runs its verb in the stage envelope, so that no author can forget it."""

    stage_name: ClassVar[StageName]
    mlpipex_conn_id: str
    task_id: str

    if TYPE_CHECKING:
        log: Any

    @cached_property
    def hook(self) -> MlpipexHook:
        return MlpipexHook(self.mlpipex_conn_id)

    def stage_endpoint(self) -> EndpointRef:
        """The endpoint whose ledger the stage writes to."""
        raise NotImplementedError

    def healthy_before(self, platform: Platform, endpoint: EndpointRef) -> Mapping[str, Invariant]:
        """Invariants without which the verb must not run."""
        return {}

    def healthy_after(self, platform: Platform, endpoint: EndpointRef) -> Mapping[str, Invariant]:
        """Invariants without which the stage has failed, whatever its verb thinks."""
        return {}

    def invalid(self, what: str, value: object, limit: str) -> ConfigurationInvalid:
        """The error for a Dag file that could never work."""
        return ConfigurationInvalid(
            f"{type(self).__name__} {self.task_id}, {what}", value=value, limit=limit, remedy="correct the Dag file"
        )

    def check_endpoint(self) -> None:
        """:raises ConfigurationInvalid: ``endpoint`` of a Dag file can never name one."""
        endpoint = getattr(self, "endpoint", None)
        if is_template(endpoint):
            return
        try:
            EndpointRef.parse(endpoint if isinstance(endpoint, str) else "")
        except InvalidName:
            limit = "environment/name in lower-case letters, digits and hyphens, like production/fraud-scorer"
            raise self.invalid("endpoint", endpoint, limit) from None

    def check_step(self, step: object) -> None:
        """:raises ConfigurationInvalid: ``step`` of a Dag file counts no canary step."""
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise self.invalid("step", step, "an index into the manifest's canary.steps, from 0")

    @contextmanager
    def in_stage(self, context: Context) -> Iterator[StageRun]:
        """The stage envelope around one run of the verb.

        An error that may pass by itself goes on to Airflow, which retries the task; any other fails the task at once.
        """
        from airflow_provider_mlpipex.observability import stage, unstaged

        try:
            with unstaged(self.stage_name, log=self.log, metrics=stats):
                endpoint = self.stage_endpoint()
                platform = self.hook.platform(task_origin(context))
                before, after = self.healthy_before(platform, endpoint), self.healthy_after(platform, endpoint)
            with stage(
                self.stage_name,
                endpoint=endpoint,
                platform=platform,
                log=self.log,
                metrics=stats,
                before=before,
                after=after,
            ) as envelope:
                # The task's own span is current only now, so only now the origin can carry its trace.
                platform = platform.acting_as(task_origin(context))
                yield StageRun(platform=platform, envelope=envelope, endpoint=endpoint, context=context)
        except MlpipexError as error:
            self._unchain(error)
            if error.transient:
                raise
            raise AirflowFailException(str(error)) from error

    def _unchain(self, error: MlpipexError) -> None:
        """Airflow prints what an error was raised from, and a library's text may quote rows, parameters of a query or a
        password. Our own message has said what may be said; of the library, the log gets class and places."""
        from airflow_provider_mlpipex.services.training.code_failure import places_of

        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is not None:
            places = " < ".join(str(place) for place in reversed(places_of(cause)[-5:]))
            self.log.error("raised from %s at %s", type(cause).__name__, places or "nowhere of the team's own")
        error.__cause__ = error.__context__ = None


class MlpipexOperator(StageTask, BaseOperator):
    """An operator that runs one verb of the provider.

    :param mlpipex_conn_id: connection of type ``mlpipex``.
    """

    def __init__(self, *, mlpipex_conn_id: str = MlpipexHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mlpipex_conn_id = mlpipex_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        with self.in_stage(context) as run:
            result = self.verb(run)
            run.envelope.add(**{key: value for key, value in result.items() if isinstance(value, (str, int, bool))})
            return result

    def verb(self, run: StageRun) -> dict[str, Any]:
        """What the operator does; returns a small JSON dict for XCom."""
        raise NotImplementedError


class TableOperator(MlpipexOperator):
    """An operator that works on a table of the team's own.

    :param load: callable that returns a DataFrame, or ``package.module:function``.
    :param load_kwargs: its keyword arguments.
    :param path: a Parquet or CSV file.
    """

    def __init__(
        self,
        *,
        load: Callable[..., pd.DataFrame] | str | None = None,
        load_kwargs: Mapping[str, Any] | None = None,
        path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.load = load
        self.load_kwargs = load_kwargs
        self.path = path

    def read_table(self) -> tuple[str, pd.DataFrame]:
        """What the table is, in the user's words, and its rows.

        :raises ManifestInvalid: the callable cannot be imported.
        :raises DataQualityFailed: it raised, or gave something else; or the file is torn.
        :raises TableUnavailable: no such file.
        """
        from airflow_provider_mlpipex.services.training.user_code import import_callable, load_table

        if self.path is not None:
            return f"table {self.path}", self.hook.read_table(self.path)
        if isinstance(self.load, str):
            name, load = self.load, import_callable(self.load, field=f"load of task {self.task_id}")
        else:
            assert self.load is not None  # subclasses take exactly one of the two
            name, load = getattr(self.load, "__qualname__", repr(self.load)), self.load
        remedy = "call it by itself to read its text; does it take load_kwargs?"
        subject = f"table of {name}"
        return subject, load_table(partial(load, **(self.load_kwargs or {})), source=subject, remedy=remedy)

    def one_of(self, what: str, **given: Any) -> None:
        """:raises ConfigurationInvalid: not exactly one of ``given`` was given."""
        stated = [name for name, value in given.items() if value is not None]
        if len(stated) != 1:
            raise self.invalid(what, ", ".join(stated) or "none of them", f"exactly one of {', '.join(given)}")


class ManifestOperator(MlpipexOperator):
    """An operator that follows a manifest file, at the manifest's first environment.

    :param manifest: path of the deployment manifest.
    """

    def __init__(self, *, manifest: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest

    def read_manifest(self, given: Mapping[str, Any] | None = None) -> Manifest:
        """The manifest, which must not have changed since the task that handed over ``given``.

        :raises ManifestChanged: somebody edited it while the Dag run was under way.
        """
        manifest = load_manifest_file(self.manifest)
        before = (given or {}).get("manifest_digest")
        if before is not None and before != manifest.digest:
            raise ManifestChanged(
                f"manifest {self.manifest}",
                value=manifest.digest[:12],
                limit=f"the one this run began with: {before[:12]}",
                remedy="start a new Dag run; it will follow the new manifest from its first stage",
            )
        return manifest

    def stage_endpoint(self) -> EndpointRef:
        manifest = load_manifest_file(self.manifest)
        return EndpointRef(environment=next(iter(manifest.environments)), name=manifest.name)


class EndpointOperator(MlpipexOperator):
    """An operator that moves a rollout of one endpoint.

    :param endpoint: ``environment/name``.
    :param rollout_id: the rollout; one a Dag run by default.
    """

    template_fields: Sequence[str] = ("endpoint", "rollout_id")

    def __init__(self, *, endpoint: str, rollout_id: str = ROLLOUT_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.rollout_id = rollout_id
        self.check_endpoint()

    def stage_endpoint(self) -> EndpointRef:
        return EndpointRef.parse(self.endpoint)


class TrafficOperator(EndpointOperator):
    """An operator that shifts traffic: afterwards the plane must do what the ledger says, with releases that answer."""

    def healthy_after(self, platform: Platform, endpoint: EndpointRef) -> Mapping[str, Invariant]:
        from airflow_provider_mlpipex.services.rollout import invariants

        return {
            "the plane serves what the ledger confirmed": lambda: invariants.plane_serves_what_the_ledger_confirmed(
                platform, endpoint
            ),
            "every release with traffic is ready": lambda: invariants.every_planned_release_is_ready(
                platform, endpoint
            ),
        }


class CandidateOperator(TrafficOperator):
    """An operator that gives traffic to a candidate, once that is ready.

    :param ready_timeout: seconds that the candidate may take to get ready; building its runtime does not count.
    """

    def __init__(self, *, ready_timeout: float = 300.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ready_timeout = ready_timeout


def handed_over(value: HandedOver | None, *, parameter: str, by: str) -> Mapping[str, Any]:
    """What the task before returned.

    :raises ConfigurationInvalid: it returned nothing, because somebody marked it as successful, or ``parameter`` was
        not given its ``output``.
    """
    if isinstance(value, Mapping):
        return value
    raise ConfigurationInvalid(
        f"parameter {parameter}",
        value=None if value is None else type(value).__name__,
        limit=f"what {by} returned",
        remedy=f"clear the task with {by} so that it runs again; in a Dag file pass its .output",
    )


def require_code_version(hook: MlpipexHook, manifest: str) -> str:
    """The commit of the code beside ``manifest``.

    :raises RegistrationRefused: nobody knows it. Registration would refuse the model, after it has been trained.
    """
    folder = Path(manifest).resolve().parent
    version = hook.code_version(folder)
    if not version:
        raise _unknown_code(folder)
    return version


def expect_code_version(manifest: str) -> None:
    """The same while a Dag file is parsed, where no program is started: a checkout or a variable is there.

    :raises RegistrationRefused: neither is.
    """
    folder = Path(manifest).resolve().parent
    checkout = any((parent / ".git").exists() for parent in (folder, *folder.parents))
    if not checkout and not os.environ.get("MLPIPEX_CODE_VERSION", "").strip():
        raise _unknown_code(folder)


def _unknown_code(folder: Path) -> RegistrationRefused:
    return RegistrationRefused(
        f"code version of {folder}",
        value="unknown",
        limit="a git checkout, or MLPIPEX_CODE_VERSION: a model without it is never registered",
        remedy="set MLPIPEX_CODE_VERSION to the commit in the environment of every Airflow component",
    )


def task_origin(context: Context) -> Origin:
    """Which task run writes an entry."""
    from airflow_provider_mlpipex.domain.rollout.events import Origin
    from airflow_provider_mlpipex.observability import trace_id

    ti = context["ti"]
    return Origin(
        kind="task",
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        try_number=ti.try_number,
        trace_id=trace_id(),
    )
