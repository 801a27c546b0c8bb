"""The database roles of ``docs/security.md``, on a real PostgreSQL: the very statements that stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_provider_mlpipex.adapters.sql.alert_channels import SqlAlertChannels
from airflow_provider_mlpipex.adapters.sql.database import make_engine, upgrade
from airflow_provider_mlpipex.adapters.sql.ledger import SqlLedger
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.rollout.events import AlertRaised, Origin
from airflow_provider_mlpipex.testing.platform import memory_platform
from tests.support.manifests import MANIFEST
from tests.support.postgres import postgres_server
from tests.support.rollouts import ENDPOINT, World

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
LIVE_STAGES = (MANIFEST[MANIFEST.index("    shadow:") : MANIFEST.index("    alerts:")], "")
OTHER = EndpointRef.parse("production/other")


@pytest.fixture(scope="module")
def app_url() -> Iterator[str]:
    """A migrated ledger, asked for by the role that tasks and plane have."""
    (statements,) = re.findall(r"```sql\n(.*?)```", SECURITY.read_text(encoding="utf-8"), re.DOTALL)
    with postgres_server() as server:
        owner = make_engine(server.url)
        upgrade(owner)
        with owner.begin() as connection:
            for statement in filter(str.strip, statements.split(";")):
                connection.execute(sa.text(statement))
        owner.dispose()
        yield server.url.replace("//postgres@", "//mlpipex_app@")


def test_the_role_of_tasks_carries_a_release_and_takes_it_back(app_url: str) -> None:
    memory = memory_platform()
    world = World(LIVE_STAGES, memory=memory, ledger=SqlLedger(app_url, clock=memory.clock))
    first = world.first_release()
    world.bring("run-2", "1.1.0", to="promoted")
    world.roll_back("too slow")
    current = world.state.current
    assert current is not None and current.id == first.id
    ledger = SqlLedger(app_url, clock=memory.clock)
    ledger.record(ENDPOINT, AlertRaised(title="a fact"), origin=Origin(kind="test"))
    assert ledger.prune(before=memory.clock.now().replace(year=2100)) >= 1
    channels = SqlAlertChannels(app_url)
    assert channels.read() == {}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE mlpipex_ledger SET event = '{}'",
        "DELETE FROM mlpipex_ledger",
        "TRUNCATE mlpipex_ledger",
        "DROP TABLE mlpipex_ledger",
        "ALTER TABLE mlpipex_ledger DISABLE TRIGGER ALL",
        "CREATE TABLE elsewhere (id int)",
        "UPDATE mlpipex_schema_version SET version_num = 'none'",
    ],
)
def test_the_role_of_tasks_cannot_change_what_is_written(app_url: str, statement: str) -> None:
    ledger = SqlLedger(app_url)
    written = len(ledger.read(OTHER))
    ledger.append(OTHER, expected_seq=written, events=[AlertRaised(title="x")], origin=Origin(kind="test"))
    engine = make_engine(app_url)
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied|must be owner"), engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()
