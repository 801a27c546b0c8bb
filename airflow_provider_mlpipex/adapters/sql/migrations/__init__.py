"""Alembic migrations of the ledger; run by ``database.upgrade``, never by hand."""
