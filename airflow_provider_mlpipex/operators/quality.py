"""Quality check: any table of a team judged by expectations, in a Dag of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.fields.quantities import parse_moment
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.quality.expectations import Expectation, TableKind
from airflow_provider_mlpipex.domain.quality.report import QualityReport, ResultPlace, SqlTable
from airflow_provider_mlpipex.manifest_files import load_manifest_file, read_manifest_shape
from airflow_provider_mlpipex.operators.base import ROLLOUT_ID, StageRun, TableOperator
from airflow_provider_mlpipex.operators.declared_gates import (
    DeclaredGate,
    mapped_gate,
    put_gates_first,
    releases_its_endpoint,
)
from airflow_provider_mlpipex.operators.snapshot import AS_OF

if TYPE_CHECKING:
    import pandas as pd

_EXPECTATIONS = TypeAdapter(tuple[Expectation, ...])


class QualityCheckOperator(DeclaredGate, TableOperator):
    """Judge one table, and fail the task where something critical does not hold.

    In a Dag that releases its endpoint it is a gate of that release, as ``@task.gate`` is: it runs before, chained or
    not, and the rollout of the same Dag run can neither open, step nor be promoted unless it has passed.

    The table is exactly one of ``load``, ``path`` and ``table``; the expectations are those given or those of a
    manifest. With a manifest alone, the table is that of its own data source, as a snapshot would take it. The whole
    report is in XCom ``quality`` either way. Returns ``subject``, ``rows``, ``judged``, ``warnings`` and ``results``,
    the page that Great Expectations wrote.

    ``load``, ``load_kwargs`` and ``path`` are those of :class:`TableOperator`.

    :param table: a table or view in the database of ``sql_conn_id``; it is judged there.
    :param schema: of ``table``, where it is not the connection's own.
    :param sql_conn_id: an SQL connection of Airflow (``hooks.mlpipex.url_of`` says with which driver).
    :param sql_url: an url of SQLAlchemy instead, for databases that need no password.
    :param expectations: as in a manifest: ``[{"expect": "column_values_to_not_be_null", "column": "id"}]``.
    :param manifest: path of a deployment manifest whose expectations are used instead.
    :param block: which of them: ``snapshot``, ``features`` or ``predictions``.
    :param as_of: end of the window of the manifest's own data source, ISO 8601, UTC where it names no zone.
    :param key: column, or columns, that name a row in messages; those of the manifest if not given.
    :param endpoint: ``environment/name`` whose ledger keeps the verdict; the manifest's first environment if not given.
    :param gate: ``False`` where no release waits for it: it then stops what is chained behind it, and nothing else.
    :param rollout_id: the rollout that it is a gate of; one a Dag run by default.
    :raises ConfigurationInvalid: when the Dag file is parsed: no table, no expectations, or two of them.
    """

    stage_name = "quality"
    template_fields = ("load_kwargs", "path", "table", "schema", "manifest", "as_of", "endpoint", "rollout_id")

    def __init__(
        self,
        *,
        load: Callable[..., pd.DataFrame] | str | None = None,
        load_kwargs: Mapping[str, Any] | None = None,
        path: str | None = None,
        table: str | None = None,
        schema: str | None = None,
        sql_conn_id: str | None = None,
        sql_url: str | None = None,
        expectations: Sequence[Mapping[str, Any]] | None = None,
        manifest: str | None = None,
        block: TableKind = "snapshot",
        as_of: str = AS_OF,
        key: str | Sequence[str] | None = None,
        endpoint: str | None = None,
        gate: bool = True,
        rollout_id: str = ROLLOUT_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(load=load, load_kwargs=load_kwargs, path=path, **kwargs)
        self.table = table
        self.schema = schema
        self.sql_conn_id = sql_conn_id
        self.sql_url = sql_url
        self.expectations = None if expectations is None else _read(expectations, task=self.task_id)
        self.manifest = manifest
        self.block = block
        self.as_of = as_of
        self.key = [key] if isinstance(key, str) else key
        self.endpoint = endpoint
        self.gate = gate
        self.rollout_id = rollout_id
        if endpoint is not None:
            self.check_endpoint()
        if manifest is None or any(given is not None for given in (load, path, table)):
            self.one_of("the table", load=load, path=path, table=table)
        self.one_of("the expectations", expectations=expectations, manifest=manifest)
        if table is not None:
            self.one_of("the database", sql_conn_id=sql_conn_id, sql_url=sql_url)
        if manifest is None and endpoint is None:
            raise self.invalid("the ledger", "neither endpoint nor manifest", "endpoint, or a manifest that says it")
        put_gates_first(self)

    def judged_endpoint(self, render: Callable[[str], str] = str) -> str:
        if self.endpoint is not None:
            return render(self.endpoint)
        manifest = read_manifest_shape(render(str(self.manifest)))
        return str(EndpointRef(environment=next(iter(manifest.environments)), name=manifest.name))

    def stage_endpoint(self) -> EndpointRef:
        return EndpointRef.parse(self.judged_endpoint())

    def verb(self, run: StageRun) -> dict[str, Any]:
        from airflow_provider_mlpipex.services.quality.check import require, unheard

        expectations, key, folder = self._asked(run.endpoint)
        place = ResultPlace(folder=folder, table=_file_name(self.task_id))
        report = self._judge(run, expectations, key=key, place=place)
        run.judged(report)
        if self.gate and releases_its_endpoint(self, run.endpoint):
            self._record_gate(run, report)
        require(
            report,
            tell=unheard,
            thing=f"{report.subject}, {report.rows} rows",
            remedy="repair the data at its source and run the task again",
        )
        return {
            "subject": report.subject,
            "rows": report.rows,
            "judged": report.judged,
            "warnings": len(report.warnings),
            "results": report.results,
        }

    def _record_gate(self, run: StageRun, report: QualityReport) -> None:
        from airflow_provider_mlpipex.services.quality.gate import judge_report
        from airflow_provider_mlpipex.services.rollout.task_gates import record_task_gate

        map_index = run.context["ti"].map_index
        if map_index is not None and map_index >= 0:
            raise mapped_gate(self.task_id)
        now = run.platform.clock.now()
        result = judge_report(report, gate=self.task_id, since=now, until=now, now=now)
        run.envelope.gates([result])
        verdict = record_task_gate(
            run.platform, run.endpoint, rollout_id=self.rollout_id, gate=self.task_id, results=[result]
        )
        run.envelope.add(verdict=verdict)

    def _asked(self, endpoint: EndpointRef) -> tuple[tuple[Expectation, ...], Sequence[str], str]:
        """Expectations, key, and the folder for results."""
        if self.expectations is not None:
            return self.expectations, self.key or (), endpoint.name
        manifest = load_manifest_file(str(self.manifest))
        expectations = manifest.quality.of(self.block)
        if not expectations:
            raise ManifestInvalid(
                f"manifest {self.manifest}, field quality.{self.block}",
                value="no expectations",
                limit="at least one, or there is nothing to judge by",
                remedy="add some, or name another block",
            )
        own = () if self.block == "predictions" else manifest.quality.key
        return expectations, own if self.key is None else self.key, manifest.quality.results or manifest.name

    def _judge(
        self, run: StageRun, expectations: Sequence[Expectation], *, key: Sequence[str], place: ResultPlace
    ) -> QualityReport:
        from airflow_provider_mlpipex.services.quality.check import require_columns

        validator = run.platform.validator
        if self.table is not None:
            at = self._sql_table()
            return validator.validate_table(at, expectations, subject=f"table {at}", key=key, place=place)
        subject, frame = self._frame(run)
        require_columns(frame, key, subject=subject)
        return validator.validate(frame, expectations, subject=subject, key=key, place=place)

    def _sql_table(self) -> SqlTable:
        try:
            if self.sql_conn_id is not None:
                return self.hook.sql_table(self.sql_conn_id, str(self.table), schema=self.schema)
            return SqlTable.model_validate({"url": self.sql_url, "table": self.table, "schema_name": self.schema})
        except ValidationError as error:
            raise self.invalid("table or schema", _defects(error), "a name without quotes") from None

    def _frame(self, run: StageRun) -> tuple[str, pd.DataFrame]:
        from airflow_provider_mlpipex.services.training.snapshots import load_window

        if self.path is None and self.load is None:
            manifest, as_of = load_manifest_file(str(self.manifest)), parse_moment(self.as_of, what="as_of")
            window = load_window(manifest, as_of, features=run.platform.features)
            return f"dataset {manifest.name} as of {as_of:%Y-%m-%d %H:%M}", window.rows
        return self.read_table()


def _read(written: Sequence[Mapping[str, Any]], *, task: str) -> tuple[Expectation, ...]:
    """:raises ManifestInvalid: an expectation that cannot be read, or none at all."""
    try:
        expectations = _EXPECTATIONS.validate_python(tuple(written))
    except ValidationError as error:
        raise ManifestInvalid(
            f"QualityCheckOperator {task}, expectations",
            value=_defects(error),
            limit="expectations as in a manifest",
            remedy="correct the expectation named; mlpipex quality expectations lists what there is",
        ) from None
    if not expectations:
        raise ManifestInvalid(
            f"QualityCheckOperator {task}, expectations",
            value="none",
            limit="at least one, or there is nothing to judge by",
            remedy="add one",
        )
    return expectations


def _defects(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))


def _file_name(task_id: str) -> str:
    """A task id as the name of a folder: ``orders.check_all`` is ``orders-check-all``."""
    name = re.sub(r"[^a-z0-9]+", "-", task_id.lower()).strip("-")[:50].strip("-")
    return name if name[:1].isalpha() else f"check-{name}".strip("-")
