# Every target works on a fresh clone: it installs what it needs into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOP := scheduler providers jobs tui
SEEDS ?= 1000
FIRST_SEED ?= 0
# Test files apart, one per core, the long ones first: most of them wait for real processes.
APART := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help setup tools demo demo-clouds test fast check types bench crash-points prove demo-train

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .setup-stamp tools ## install everything into .venv

.setup-stamp: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -e '.[dev]'
	@touch $@

tools:
	@.ci/tools || true

demo: .setup-stamp ## a real job, a real notice, a real kill, and what it cost
	$(BIN)/dsched demo

demo-clouds: .setup-stamp ## a job that is interrupted on AWS and goes on at Google, both fakes (ARGS=--keep)
	$(BIN)/python -m dsched.scheduler.demo.clouds $(ARGS)

demo-train: .setup-stamp ## the same weights from 1, 2 and 4 workers, through kills, notices and moves
	$(BIN)/python -m dsched.scheduler.demo.training $(ARGS)

test: setup ## all tests (no cloud, no network); ends with what was skipped and why
	$(BIN)/python -m pytest $(APART) --durations=15

fast: .setup-stamp ## the tests that need no process and no disk, in a minute
	$(BIN)/python -m pytest -q -m 'not slow' tests/unit tests/property tests/scripts tests/hygiene

crash-points: .setup-stamp ## kill the daemon at each of its durable or outward system calls
	$(BIN)/python -m tests.support.crashpoints

prove: .setup-stamp ## storms of faults around core and store (SEEDS=1000 FIRST_SEED=0), until one breaks an invariant
	$(BIN)/python -m dsched.scheduler.prove --seeds $(SEEDS) --first $(FIRST_SEED)

check: .setup-stamp .typing ## format, lint, types, contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	cd .typing && ../$(BIN)/lint-imports --config ../pyproject.toml --no-logo

types: .setup-stamp .typing ## mypy --strict
	$(BIN)/mypy

bench: .setup-stamp ## every number this project claims, beside this machine's own (ARGS=--quick: in two minutes)
	$(BIN)/python bench/run.py $(ARGS)

.typing: Makefile  # the folders under their import name, for mypy and import-linter
	@mkdir -p .typing/dsched
	@for p in $(TOP); do ln -sfn ../../$$p .typing/dsched/$$p; done
	@for f in dsched/*.py dsched/py.typed; do ln -sfn ../../$$f .typing/dsched/$$(basename $$f); done
	@touch .typing
