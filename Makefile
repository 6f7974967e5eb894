# Everything a person types. `make` alone prints this list.

.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

help:   ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)$$/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

setup: $(READY)   ## make .venv with everything the other targets need, and stop there

demo: $(READY)   ## an emergency overtakes event news on its way; ends by itself, figures in var/demo.json
	@$(BIN)/python -m consumers.local demo

up: $(READY)   ## the whole stack with simulated providers, in the foreground until Ctrl-C
	@$(BIN)/python -m consumers.local up

test: $(READY)   ## all tests, on a real RabbitMQ, on SQLite and on a real PostgreSQL
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

bench: $(READY)   ## measure; one part alone: make bench PART=idle; figures in var/bench.json
	@$(BIN)/python -m tests.benchmarks $(PART)

bench-peers: $(READY)   ## beside us what others would use: Celery, Kannel, Jasmin, installed now outside .venv
	@$(BIN)/python -m tests.benchmarks overtake drain peers

soak: $(READY)   ## at least 60 processes and servers killed while alerts go out; ALERTING_FAULTS_SEED=… plays one again
	@$(BIN)/python -m pytest tests/soak $(ARGS)

lint: $(READY)   ## style, types, and the directions of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

UV_COMPILE = uv pip compile pyproject.toml -q --generate-hashes --universal --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: $(READY)   ## choose versions anew, and write them with their hashes
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && \
	$(BIN)/python -m venv "$$tools" && "$$tools/bin/pip" install -q uv && export PATH="$$tools/bin:$$PATH" && \
	$(UV_COMPILE) --upgrade -o requirements.lock && \
	$(UV_COMPILE) --upgrade --extra dev -o requirements-dev.lock

clean:   ## remove .venv, var and what tools left behind
	rm -rf $(VENV) var dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The last line makes the stamp: whatever fails before it is done again.
$(READY): requirements-dev.lock pyproject.toml
	@$(call make_venv)
	@echo "Installing into $(VENV) what requirements-dev.lock names, which takes a minute or two."
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Debian's python3 comes without ensurepip, and says so only when the folder is half made.
define make_venv
	if [ -x $(BIN)/pip ] && $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then exit 0; fi; \
	if ! command -v $(PYTHON) > /dev/null; then \
		echo "$(PYTHON) is not here. Install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)," \
			"or name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; fi; \
	if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		echo "$(PYTHON) is $$($(PYTHON) -V), and 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
		exit 1; fi; \
	if ! $(PYTHON) -c 'import ensurepip, venv' 2> /dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
			echo "Installing python3-venv with apt-get."; \
			apt-get -q update > /dev/null && \
			DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-venv > /dev/null || exit 1; \
		else \
			echo "$(PYTHON) cannot make a virtual environment. As root: apt-get install python3-venv. Then again." >&2; \
			exit 1; fi; fi; \
	rm -rf $(VENV); $(PYTHON) -m venv $(VENV)
endef

.PHONY: help setup demo up test bench bench-peers soak lint lock clean
