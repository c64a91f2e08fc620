# cdscale: everything a developer runs. `make help` lists it.
#
# Needs Python >= 3.11, git and make; the rest is installed into .venv on first use.
#   PYTHON     the interpreter that makes .venv        (make test PYTHON=python3.12)
#   PIP_ARGS   more options for pip install            (an index of CPU-only torch wheels, say)
#   TESTERS    processes that run tests

PYTHON   ?= python3
PIP_ARGS ?=
VENV     := .venv
BIN      := $(VENV)/bin
# A quarter of the tests' time is waiting for servers and workers: one more than processors, if few.
TESTERS  ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n + 1 : 4)))
SOURCES  := cdscale flows benchmarks tests

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint types unit bench bench-gpu format install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-dev ## simulate a region, map its change, write demo/
	$(BIN)/cdscale demo --output demo

test: lint types unit ## everything that has to pass: lint, types, unit

lint: $(VENV)/.installed-dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## mypy, strict for the package and the flows
	$(BIN)/mypy

unit: $(VENV)/.installed-dev ## pytest, network blocked
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(TESTERS)

bench: $(VENV)/.installed-dev ## the named problems of benchmarks/, with their numbers
	$(BIN)/python -m benchmarks

bench-gpu: $(VENV)/.installed-dev ## the networks alone on a GPU, against what it can do
	$(BIN)/python -m benchmarks.gpu benchmarks/results/gpu.json

format: $(VENV)/.installed-dev ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/.installed-dev ## make .venv and install cdscale with its tools

clean: ## remove what was built and written here, .venv excepted
	rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis dask-scratch-space
	find $(SOURCES) -type d -name __pycache__ -prune -exec rm -rf {} +

# The stamp is as new as the last install of this extra; an existing .venv is kept if it works.
$(VENV)/.installed-%: pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "cdscale needs Python >= 3.11; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	    echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }; \
	  $(PYTHON) -m venv $(VENV) || { \
	    echo "Cannot make $(VENV): is the venv module of $(PYTHON) installed?" >&2; exit 1; }; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(VENV) is of a Python older than 3.11: remove it and run make again." >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) \
	  -e ".[$*]" -c constraints.txt
	@touch $@
