# Every target works on a fresh clone: it installs what it needs into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOP := scheduler providers jobs tui

.PHONY: help setup demo test check types

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .setup-stamp ## install everything into .venv

.setup-stamp: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -e '.[dev]'
	@touch $@

demo: setup ## a real job, a real notice, a real kill, and what it cost
	$(BIN)/dsched demo

test: setup ## all tests (no cloud, no network)
	$(BIN)/python -m pytest

check: setup .typing ## format, lint, types, contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

types: setup .typing ## mypy --strict
	$(BIN)/mypy

.typing: Makefile  # the folders under their import name, for mypy and import-linter
	@mkdir -p .typing/dsched
	@for p in $(TOP); do ln -sfn ../../$$p .typing/dsched/$$p; done
	@for f in dsched/*.py dsched/py.typed; do ln -sfn ../../$$f .typing/dsched/$$(basename $$f); done
	@touch .typing
