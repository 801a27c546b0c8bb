"""Alembic migrations of the ledger; run by ``sql_ledger.upgrade``, never by hand."""
