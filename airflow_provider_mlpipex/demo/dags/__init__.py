"""Dags of the demo alone; Airflow reads this folder beside the reference Dags."""
