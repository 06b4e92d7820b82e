# Everything starts here: `make demo`, `make test`. Needs Python >= 3.11, make and git.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench fuzz lint lists pages docs package clean

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 8

setup: .venv/.installed-all ## make .venv with all that the other targets need

demo: .venv/.installed-examples ## exercise 9 of the chapter: MNIST where it is on disk, else small digits
	$(BIN)/python examples/exercise_09_transfer_learning.py

test: .venv/.installed-test ## all tests
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

bench: .venv/.installed-bench ## speed, as ratios side by side
	$(BIN)/python -m tests.bench

fuzz: .venv/.installed-test ## ten minutes of damaged files, in turn to all that reads files
	$(BIN)/python -m tests.fuzz --minutes 10

lint: .venv/.installed-test ## format, style and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

lists: .venv/.installed-test ## write what lists the public names, after one was added or removed
	$(BIN)/python docs/lists.py

pages: .venv/.installed-docs ## write what the pages say of results, after an example was run
	$(BIN)/python docs/readme.py
	$(BIN)/python docs/pages.py
	$(BIN)/python docs/chapter_page.py

docs: .venv/.installed-docs ## the site, in docs/_build/html
	$(BIN)/sphinx-build --fail-on-warning --keep-going -q docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

package: .venv/.installed-package ## wheel and sdist, in dist; installs the wheel elsewhere and uses it
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/python tests/installed.py dist/*.whl

clean: ## remove .venv and everything that was made
	rm -rf .venv output dist docs/_build docs/_generated .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp an extra: what is installed is not installed again, unless pyproject.toml changes.
.venv/.installed-%: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + \
	    ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
