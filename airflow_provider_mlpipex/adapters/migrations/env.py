"""Alembic environment: runs on the connection that ``sql_database.upgrade`` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="mlpipex_schema_version",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
