# make demo    installs what the demo needs, and runs it: real text, real embeddings, no key, no network afterwards
# make test    installs everything, and runs all tests
# make test-all  does that, and runs the long rounds: processes killed at random, files damaged in hundreds of ways
# make check   installs the checkers, and runs them
# Each makes .venv where it is missing, and installs again only after pyproject.toml has changed.

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-all check format docs clean

demo: $(VENV)/.demo
	$(VENV)/bin/mrlclient demo

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest -n 2

test-all: test
	$(VENV)/bin/python -m pytest -n 2 -m soak

check: $(VENV)/.check
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports

format: $(VENV)/.check
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# Writes the parts of the pages that are made from the catalogue and the code.
docs: $(VENV)/.test
	$(VENV)/bin/python -m tests.docs.generated

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.made: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.demo: $(VENV)/.made
	$(PIP) --editable ".[wordllama,cli]"
	@touch $@

$(VENV)/.test: $(VENV)/.made
	$(PIP) --editable ".[all]" --group test
	@touch $@

$(VENV)/.check: $(VENV)/.test
	$(PIP) --group check
	@touch $@
