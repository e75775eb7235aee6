# `make run` trains the quick start; `make test` runs the tests; `make bench` times training steps
# against a textbook implementation (BENCH=--long: whole recipes too). Each sets everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RECIPE ?= recipes/quickstart-warm.toml

.PHONY: run test test-all soak soak-ranks bench lint format types docs site browser package check test-oldest test-newest clean

run: $(VENV)/.installed
	$(BIN)/rnode-dyn run $(RECIPE)

test: $(VENV)/.developed
	$(BIN)/pytest -n 2

# More than 200 kills and 20,000 damaged recipes, overrides and run folders: see docs/survives.md.
soak: $(VENV)/.developed
	RNODE_DYN_KILLS=200 RNODE_DYN_FUZZ=20000 $(BIN)/pytest tests/survive

test-all: $(VENV)/.developed
	$(BIN)/pytest -n 2 -m ""

# Two and four processes that train together, one of them killed, 20 times.
soak-ranks: $(VENV)/.developed
	RNODE_DYN_KILLS=20 $(BIN)/pytest -m "" tests/ranks

bench: $(VENV)/.developed
	$(BIN)/python benchmarks/steps.py --json bench.json $(BENCH)

lint: $(VENV)/.developed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.developed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.developed
	$(BIN)/pyright

docs: $(VENV)/.developed
	$(BIN)/mkdocs build --strict

# The site as its readers meet it: each page in a browser, each tutorial and command line run.
site: $(VENV)/.developed browser
	$(BIN)/pytest -m "" -rs tests/docs

# The browser that looks at the site, where there is apt and the right to use it.
browser:
	.ci/browser

# The archives that users install, built into dist/ and tried from an empty folder.
package: $(VENV)/.developed
	.ci/package

check: lint types test docs package

# The tests in an environment of their own: with the oldest versions that are supported, and with
# the newest there are.
test-oldest: CONSTRAINED = --constraint oldest.txt
test-oldest test-newest: test-%: | $(BIN)/python
	$(BIN)/python -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --upgrade $(CONSTRAINED) --editable ".[dev]"
	.venv-$*/bin/pytest -n 2

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest site build dist

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; say which: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.developed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,docs,tensorboard,search,bench,onnx]"
	touch $(VENV)/.installed $@
