"""Alembic migrations of the ledger; run by ``sql_database.upgrade``, never by hand."""
