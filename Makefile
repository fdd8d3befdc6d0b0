# Two commands a newcomer needs: `make demo` and `make test`. Both set themselves up; nothing else is needed.
PYTHON ?= python3
VENV := .venv
CLIENTS := .venv-clients
BIN := $(VENV)/bin
DEMO_HOME := $(CURDIR)/.demo
PYTEST_ARGS ?=

.PHONY: bench bench-quick help demo demo-down test test-slow lint format docs clean system

help: ## Show what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.demo-installed ## Train a real model, deploy it, print its URL and a prediction
	MLSHIP_HOME="$(DEMO_HOME)" $(BIN)/python examples/demo.py

demo-down: ## End what `make demo` started and remove its files
	@if [ -x $(BIN)/mlship ] && [ -d "$(DEMO_HOME)" ]; then MLSHIP_HOME="$(DEMO_HOME)" $(BIN)/mlship down; fi
	rm -rf "$(DEMO_HOME)"

test: $(VENV)/.test-installed $(CLIENTS)/.installed ## Run the tests (10 minutes at most once installed)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/.test-installed $(CLIENTS)/.installed ## Run the tests that take minutes: fuzzing, faults under load
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: $(VENV)/.lint-installed ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.lint-installed ## Format the code and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench/.envs/mlship/.made ## Measure mlship beside its peers (45 minutes once installed; on a quiet machine)
	bench/.envs/mlship/bin/python -m bench $(BENCH_ARGS)

bench-quick: bench/.envs/mlship/.made ## The same, one short round: does everything run?
	bench/.envs/mlship/bin/python -m bench --quick $(BENCH_ARGS)

bench/.envs/mlship/.made: pyproject.toml bench/peers/mlship/requirements.txt bench/peers/constraints.txt
	@sh tools/bench-packages.sh
	$(PYTHON) -m venv bench/.envs/mlship
	bench/.envs/mlship/bin/python -m pip install --quiet -c bench/peers/constraints.txt -r bench/peers/mlship/requirements.txt
	@touch $@

clean: demo-down ## Remove the environments
	rm -rf $(VENV) $(CLIENTS) bench/.envs bench/.models

system:
	@sh tools/system-packages.sh

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11, 4) else f"mlship needs Python 3.11.4 or newer, {sys.executable} is {v[0]}.{v[1]}.{v[2]}. Name another: make PYTHON=python3.12 demo")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[sklearn]'
	@touch $@

$(VENV)/.test-installed: pyproject.toml | $(BIN)/python system
	$(BIN)/python -m pip install --quiet --editable '.[all,test]'
	@touch $@ $(VENV)/.demo-installed

$(VENV)/.lint-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[all,test,lint]'
	@touch $@

# The clients of other projects pin libraries of their own, as they do on their users' machines.
$(CLIENTS)/.installed: tests/conformance/clients-requirements.txt
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --upgrade pip
	$(CLIENTS)/bin/python -m pip install --quiet -r $<
	@touch $@
