# One image for every container of docker-compose.yaml: Airflow, MLflow and the serving plane run from the same pinned
# environment, so a model is served by the libraries that trained it.
FROM python:3.11-slim

# libgomp: scikit-learn. socat: the plane listens on loopback alone; docker-compose.yaml says what goes on from there.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 socat \
    && rm -rf /var/lib/apt/lists/*

# Folders that volumes are mounted on; a new volume takes their owner.
RUN useradd --uid 50000 --create-home mlpipex \
    && install --directory --owner mlpipex --mode 0700 \
        /var/lib/mlpipex /var/lib/mlpipex/plane /var/lib/mlpipex/snapshots /var/lib/mlpipex/artifacts \
        /var/lib/mlpipex/deploy /var/lib/mlpipex/rollback /var/lib/mlpipex/batch /var/lib/mlpipex/token \
        /var/lib/mlpipex/quality /var/lib/mlpipex/runtimes \
        /opt/airflow /opt/airflow/logs /opt/airflow/auth

WORKDIR /opt/mlpipex
COPY pyproject.toml README.md constraints.txt ./
COPY airflow_provider_mlpipex airflow_provider_mlpipex
RUN pip install --no-cache-dir --constraint constraints.txt ".[all,demo,mlflow-login]"

COPY dags /opt/airflow/dags

ENV AIRFLOW_HOME=/opt/airflow \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=true \
    MLFLOW_DISABLE_TELEMETRY=true

USER mlpipex
WORKDIR /var/lib/mlpipex
CMD ["mlpipex", "--help"]
