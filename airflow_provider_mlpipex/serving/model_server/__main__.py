"""``python -m airflow_provider_mlpipex.serving.model_server SPEC.json``..

The name is frozen: planes start it in runtimes that hold another version of the provider.
"""

import sys

from airflow_provider_mlpipex.serving.model_server.app import main

raise SystemExit(main(sys.argv[1:]))
