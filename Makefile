# `make demo`, `make test` and `make report`: each does its own set-up; all they need is make and Python 3.11+.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(firstword $(foreach python,python3 python3.13 python3.12 python3.11,$(shell \
	$(python) -c 'import sys; sys.version_info >= (3, 11) and print("$(python)")' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SECAGG_DATA ?= $(firstword $(wildcard ../shared/data data))
export SECAGG_DATA
# One thread a process: two cores serve two test workers, and figures repeat.
export OMP_NUM_THREADS ?= 1

.PHONY: help demo report test setup check unit browser mutants fuzz dropouts scale benchmarks docs clean

help:
	@echo 'make demo        train on real data through every backend, print one table (about 3 minutes)'
	@echo 'make report      attacks against defences, measured: reports/default/report.html (about 7 minutes)'
	@echo 'make test        linters, types, import rules, tests'
	@echo 'make browser     the report in a headless Chromium (needs one on the path; Debian: apt-get install chromium)'
	@echo 'make mutants     delete every guard in turn and see its test go red'
	@echo 'make fuzz        20,000 damaged messages for every backend (about half an hour)'
	@echo 'make dropouts    1,000 random schedules of clients that vanish (about 5 minutes)'
	@echo 'make scale       200 clients x 1M parameters, server memory measured'
	@echo 'make benchmarks  pytest-benchmark suites'
	@echo 'make docs        the documentation as HTML'

demo: $(STAMP)
	$(BIN)/python examples/demo.py

report: $(STAMP)
	$(BIN)/secagg evaluate examples/evaluations/default.toml --output reports/default

test: check unit

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal

browser: $(STAMP)
	$(BIN)/pytest -m browser tests/fl_runtime/evaluation

mutants: $(STAMP)
	$(BIN)/python -m tests.mutants

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz

dropouts: $(STAMP)
	$(BIN)/python -m tests.dropouts

scale: $(STAMP)
	$(BIN)/python -m benchmarks.server_memory

benchmarks: $(STAMP)
	$(BIN)/pytest benchmarks --benchmark-only

docs: $(STAMP)
	$(BIN)/sphinx-build -W -q docs docs/_build/html && echo 'docs/_build/html/index.html'

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then echo 'secagg needs Python 3.11 or later: no python3 found that is' >&2; exit 1; fi
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo 'secagg needs the venv module of Python (Debian: apt-get install python3-venv)' >&2; exit 1; }
	@echo 'Installing into $(VENV): secagg with its extras fl, report and dev (some minutes, once)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
		--constraint constraints.txt --editable '.[fl,report,dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) build *.egg-info docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
