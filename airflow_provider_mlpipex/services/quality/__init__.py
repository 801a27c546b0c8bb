"""Quality of tables: the manifest's expectations checked, and proposed from data."""
