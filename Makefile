# Everything a user or a developer does has a name here. Each target prepares .venv itself.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
AT_ONCE ?= 4

.DEFAULT_GOAL := help
.PHONY: help demo up test browser image images faults-ci faults soak fuzz night check docs bench load lock install clean delete-data

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: .venv/installed  ## run the whole pipeline once and print what was settled
	@$(BIN)/btcfi demo $(ARGS)

up: .venv/installed  ## start the same parts and keep them running until Ctrl-C
	@$(BIN)/btcfi up $(ARGS)

test: .venv/installed-dev  ## run the tests, AT_ONCE files at a time (they wait more than they compute); ARGS="-k barrier" picks some
	@$(BIN)/pytest --numprocesses=$(AT_ONCE) --dist=loadfile --no-loadscope-reorder $(ARGS)  # files in order: the long ones come first

browser: .venv/installed-dev  ## the console's pages and journeys in a real browser
	@$(BIN)/pytest -m browser tests/browser $(ARGS)

image: .venv/installed-dev  ## build the container image without an engine, and run every service and the demo inside it (root)
	@.ci/image

images: .venv/installed-dev  ## the same, and the screenshots of docs/images taken anew
	@BTCFI_TEST_IMAGES=docs/images $(BIN)/pytest -m browser tests/browser $(ARGS)

faults-ci: .venv/installed-dev  ## each kind of fault once by a seed, poison, fleets, a disaster: nothing lost, nothing twice
	@$(BIN)/pytest --numprocesses=3 --dist=loadgroup --no-loadscope-reorder -m "faults and not night" tests/faults $(ARGS)

faults: .venv/installed-dev  ## every fault at every point, 55 minutes; writes the matrix into docs/reliability.md
	@$(BIN)/btcfi chaos --full --at-once 3 --report docs/reliability.md $(ARGS)

soak: .venv/installed-dev  ## 30 minutes of sales and settlements with a random fault in each; writes docs/reliability.md
	@$(BIN)/btcfi chaos --soak 30 --report docs/reliability.md $(ARGS)

fuzz: .venv/installed-dev  ## a minute of coverage-guided fuzzing of the decoders (needs atheris, see the file)
	@$(BIN)/python tests/fuzz/vm_decoders.py $(ARGS)

night: .venv/installed-dev  ## everything longer than CI allows, each part with its seed; run again, it continues; ARGS=--list
	@$(BIN)/python -m tests.night --write docs/performance.md $(ARGS)

docs: .venv/installed-dev  ## build the documentation into var/site; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: .venv/installed-dev  ## lint, format, types, import order: all run, any may fail
	@status=0; \
	for step in "ruff check" "ruff format --check" mypy lint-imports; do \
	  echo "== $$step"; $(BIN)/$$step || status=1; \
	done; exit $$status

bench: .venv/installed-dev  ## measure; prints one JSON object
	@$(BIN)/python -m tests.benchmarks --json $(ARGS)

load: .venv/installed-dev  ## 1,000 contracts of one minute, memory over 20,000 settlements; minutes long
	@$(BIN)/python -m tests.benchmarks.load $(ARGS)

lock: .venv/installed-dev  ## rewrite both lock files from pyproject.toml, keeping versions that still fit
	@$(BIN)/uv pip compile $(UV_FLAGS) --extra build --extra otel --extra dev pyproject.toml -o requirements-dev.lock
	@$(BIN)/uv pip compile $(UV_FLAGS) --extra build -c requirements-dev.lock pyproject.toml -o requirements.lock

install:  ## install what the lock file says once more, where `btcfi doctor` finds other versions
	@goal=.venv/installed; test ! -e .venv/installed-dev || goal=.venv/installed-dev; \
	rm -f .venv/installed .venv/installed-dev; $(MAKE) --no-print-directory $$goal

clean:  ## remove .venv, caches and what was built; var/, where database, wallet seed and keys are, stays
	rm -rf .venv build dist *.egg-info .*_cache .hypothesis

delete-data:  ## delete var/ with its database, wallet seed and keys; asks first, or says CONFIRM=delete
	@test ! -d var || ls var
	@answer="$(CONFIRM)"; test -n "$$answer" || { printf 'Nobody can bring the keys in var/ back. Type "delete": '; read -r answer; }; \
	test "$$answer" = delete || { echo "var/ stays" >&2; exit 1; }
	rm -rf var

UV_FLAGS := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q

# Versions and hashes come from the lock files; the project itself needs nothing that is not among them.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "btcfi needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/installed: requirements.lock pyproject.toml | .venv/bin/python
	@echo "Installing the locked dependencies into .venv" >&2
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock >&2
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
	@touch $@

.venv/installed-dev: requirements-dev.lock pyproject.toml | .venv/bin/python
	@echo "Installing the locked dependencies and the developers' tools into .venv" >&2
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock >&2
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
	@touch .venv/installed $@
