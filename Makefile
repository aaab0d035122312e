# Two commands for everybody: make demo, make test. Each sets up what it needs in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
# their own requirements have no builds for Python 3.11; the extras of the same names bring what they need
SIMULATORS := safety-gymnasium==0.4.1 metadrive-simulator==0.2.6.0

# one file of tests per process at a time: the tests of a file share what they compile
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: help demo test test-all browser check format docs dist bench clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(VENV)/installed-user: pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[bullet]"
	@touch $@

$(VENV)/installed-dev: pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[bullet,safety-gymnasium,metadrive,minari,onnx,pandas,ray,tensorboard,dev]"
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps $(SIMULATORS)
	@touch $@ $(VENV)/installed-user

$(VENV)/installed-docs: pyproject.toml $(VENV)/installed-user
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[docs,onnx]"
	@touch $@

$(VENV)/installed-dist: pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check "build>=1.2,<2" "twine>=6,<8"
	@touch $@

demo: $(VENV)/installed-user  ## BC-All, BC-Safe and TraC on real data and real physics: a table, pictures and a report page
	$(RUN) examples/demo.py

test: $(VENV)/installed-dev check browser  ## format, lint, types and all tests but the slow ones
	$(RUN) -m pytest $(PARALLEL)

test-all: $(VENV)/installed-dev check browser  ## the slow tests too, and programs as optimised as in use
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(RUN) -m pytest $(PARALLEL) -m ""

# the tests of the report page need one; where none can be had they are skipped, and the last lines say so
browser: $(VENV)/installed-dev  ## Debian's Chromium, if root and apt are there
	@if ! command -v chromium && [ "$$(id -u)" = 0 ] && command -v apt-get; then \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium; } >$(VENV)/chromium.log 2>&1; \
	fi >/dev/null || true

check: $(VENV)/installed-dev  ## what pre-commit runs: format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed-dev  ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/installed-docs  ## the site, in build/site; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "build/site/index.html"

dist: $(VENV)/installed-dist  ## sdist and wheel in dist/, checked, and the wheel at work in an environment of its own
	rm -rf dist
	$(RUN) -m build --outdir dist . >/dev/null
	$(BIN)/twine check --strict dist/*
	.ci/try-wheel $(RUN) dist/*.whl

bench: $(VENV)/installed-dev  ## speed and memory as ratios to the machine's limits; the last line is JSON
	$(RUN) speed/bench.py

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-output
