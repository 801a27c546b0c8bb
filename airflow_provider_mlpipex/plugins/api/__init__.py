"""The HTTP API of the health page, inside Airflow's api-server: ``/mlpipex/api/v1``."""
