"""Alembic environment: runs on the connection that ``sql_database.upgrade`` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from airflow_provider_mlpipex.adapters.sql.database import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
