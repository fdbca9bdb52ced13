# make demo    installs what the demo needs, and runs it: real text, real embeddings, no key, no network afterwards
# make test    installs everything, and runs all tests
# make test-all  does that, and runs the long rounds: processes killed at random, files damaged in hundreds of ways; then
#                the report in a browser, and the integrations in environments of their own with the frameworks
# make check   installs the checkers, and runs them
# Each makes .venv where it is missing, and installs again only after pyproject.toml has changed.

PYTHON ?= python3
VENV := .venv
INSTALL := -m pip install --quiet --disable-pip-version-check
PIP := $(VENV)/bin/python $(INSTALL)
# The frameworks that agree with each other; and one that holds openai below the version of the extra.
FRAMEWORKS := .venv-frameworks
DSPY := .venv-dspy

.PHONY: demo test test-all test-soak test-browser test-frameworks check format docs clean

demo: $(VENV)/.demo
	$(VENV)/bin/mrlclient demo

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest -n 2

test-all: test test-soak test-browser test-frameworks

test-soak: $(VENV)/.test
	$(VENV)/bin/python -m pytest -n 2 -m soak

test-browser: $(VENV)/.browser
	$(VENV)/bin/python -m pytest -n 2 -m browser tests/report

test-frameworks: $(FRAMEWORKS)/.test $(DSPY)/.test
	$(FRAMEWORKS)/bin/python -m pytest -n 2 tests/integrations tests/docs/test_examples.py tests/docs/test_pages.py
	$(DSPY)/bin/python -m pytest -n 2 tests/integrations/test_dspy.py tests/docs/test_examples.py -k dspy

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
	rm -rf $(VENV) $(FRAMEWORKS) $(DSPY) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(FRAMEWORKS)/.test: $(FRAMEWORKS)/.made
	$(FRAMEWORKS)/bin/python $(INSTALL) --editable ".[all,langchain,llama-index,haystack,chroma,lancedb,pydantic-ai]" \
		--group test --group frameworks
	@touch $@

$(DSPY)/.test: $(DSPY)/.made
	$(DSPY)/bin/python $(INSTALL) --editable ".[wordllama,nomic,sqlite,config,dspy]" --group test
	@touch $@

%/.made: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $*
	$*/bin/python $(INSTALL) --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.demo: $(VENV)/.made
	$(PIP) --editable ".[wordllama,cli]"
	@touch $@

$(VENV)/.test: $(VENV)/.made
	$(PIP) --editable ".[all]" --group test
	@touch $@

$(VENV)/.browser: $(VENV)/.test
	$(PIP) --group browser
	@touch $@

$(VENV)/.check: $(VENV)/.test
	$(PIP) --group check
	@touch $@
