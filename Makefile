# Two commands: `make demo` finds a circuit in the bundled model, `make test` runs the tests.
# Each makes .venv from pyproject.toml with the versions of constraints.txt; nothing else needs to be installed but Python 3.11+.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= gossamer-out/demo
# A process a core, each with files of its own, so that what a file sets up is set up once; more than 8 find no work.
# Files keep their order, the slow ones first (tests/conftest.py).
TEST_OPTIONS ?= --numprocesses=logical --maxprocesses=8 --dist=loadfile --no-loadscope-reorder --durations=10

.PHONY: demo test lint docs clean

demo: $(VENV)/.installed
	$(BIN)/gossamer demo --out $(OUT)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(TEST_OPTIONS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in site/: every page, link and reference is checked, and nothing is fetched.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gossamer needs Python 3.11 or later, found " + sys.version.split()[0] + "; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) gossamer-out site src/gossamer/app/static src/gossamer/app/web/node_modules
