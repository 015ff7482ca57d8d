# Everything on a fresh machine: `make demo` (train, predict, translate, evaluate) and `make test`.

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PY := .venv/bin/python

# malloc keeps what it was given: a part of a small training on a CPU otherwise goes into page
# faults, for memory that is returned and asked for again.
MALLOC := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184
# One thread per worker.
TEST_ENV := OMP_NUM_THREADS=1 $(MALLOC)

.PHONY: help env demo test test-all drill lint format clean
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: .venv/ready ## make the environment; the last line printed is the path of its python
	@echo $(CURDIR)/$(PY)

demo: .venv/ready ## both stages on the synthetic driving world, to videos and a report
	@$(MALLOC) $(PY) run.py experiment=demo

test: .venv/ready ## run the tests
	@$(TEST_ENV) $(PY) -m pytest -n 2 --dist worksteal -m "not slow"

test-all: .venv/ready ## run the tests, the slow ones too
	@$(TEST_ENV) $(PY) -m pytest -n 2 --dist worksteal

drill: .venv/ready ## kill runs and damage files at random, and count what goes wrong (10 minutes)
	@$(TEST_ENV) $(PY) -m tests.drill

lint: .venv/ready ## ruff (lint and format) and mypy
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

format: .venv/ready ## format the code and fix what ruff can fix
	@$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

clean: ## remove what runs wrote here: outputs, artifacts, prepared data
	rm -rf outputs artifacts data

.venv/ready: setup.cfg .ci/environment.py
	@test -n "$(PYTHON)" || { echo "hvp needs Python >= 3.11: install it, or make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) .ci/environment.py
