"""SQL: the ledger and the late labels, in SQLite or PostgreSQL, with their schema's migrations."""
