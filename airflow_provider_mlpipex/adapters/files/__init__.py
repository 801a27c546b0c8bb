"""Plain files: snapshots and tables in Parquet and CSV, answers of batches."""
