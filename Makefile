# MLPipeX. `make demo` plays the whole life of a model on this machine; `make test` is what CI runs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# PORTS=auto takes whatever is free; or set MLPIPEX_AIRFLOW_PORT, MLPIPEX_MLFLOW_PORT, …
PORTS ?= default
# DEMO=once stops everything at the end, writes the report, and fails if a step did not behave.
DEMO ?= stay
PYTEST ?=
# Tests run in so many processes, a file of them in one: what is expensive to start is shared by a file. The files come
# in the order of tests/conftest.py. One more than the cores that this must be quick on: the tests of a live Airflow, a
# real plane and a browser mostly wait.
PROCESSES ?= 3

# Hundreds of processes start in tests and demo: each would compile the whole package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test check unit ui screenshots bench audit machine clean

help:  ## Show this list.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /:/' | column -t -s:

install: $(VENV)/.installed  ## Build .venv with everything that demo and tests need.

demo: install  ## Play the story on real flights: MLflow, Envoy, Airflow, all on loopback.
	$(BIN)/mlpipex demo --ports $(PORTS) $(if $(filter once,$(DEMO)),--once)

test: install machine check  ## Style, types, import contracts, and every test.
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST)

check: install  ## Style, types and import contracts.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy airflow_provider_mlpipex
	$(BIN)/lint-imports --no-cache

unit: install  ## The quick tests alone.
	$(BIN)/python -m pytest -q --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder tests/unit $(PYTEST)

ui: ui/node_modules/.installed  ## Check, test and build the page in Airflow's UI (needs npm).
	cd ui && npm run --silent check && npm run --silent test && npm run --silent build

screenshots: install  ## Take docs/screenshots anew: every view of the page, light and dark (needs npm and Chromium).
	MLPIPEX_SCREENSHOTS=docs/screenshots $(BIN)/python -m pytest -q tests/system/test_health_page_views.py

bench: install  ## Print the ratios of benchmarks/.
	$(BIN)/python -m benchmarks

audit: install  ## Ask the vulnerability service about the pinned packages (needs the network).
	$(BIN)/uv tool run --from pip-audit pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

machine:  ## Install what some tests need beside Python (PostgreSQL, docker-compose, Chromium, Prometheus), where that is possible.
	sh .ci/prepare_machine

clean:  ## Remove the environment and everything that demo and tests left.
	rm -rf $(VENV) .mlpipex .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	sh .ci/make_venv $(PYTHON) $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[test]'
	touch $@

ui/node_modules/.installed: ui/package.json ui/package-lock.json
	cd ui && npm ci --ignore-scripts --silent
	touch $@
