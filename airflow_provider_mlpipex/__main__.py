"""``python -m airflow_provider_mlpipex``: the ``mlpipex`` command, where no script directory is on the path."""

from airflow_provider_mlpipex.cli.main import main

main()
