# Everything there is to do with this project, from a fresh clone on: each target sets up what it needs first.
# `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
PIP := $(PYTHON) -m pip --disable-pip-version-check --quiet

# Packages of Debian or Ubuntu, each with the command it brings (see tests/setup.sh).
TEST_PACKAGES := faketime:faketime redis-server:redis-server haproxy:haproxy prometheus:promtool chromium:chromium \
	chromium-driver:chromedriver
LONG_PACKAGES := firefox-esr:firefox-esr
BENCH_PACKAGES := nginx:nginx wrk:wrk redis-server:redis-server redis-tools:redis-benchmark etcd-server:etcd

.PHONY: help demo run test test-long check check-types check-client check-code check-deploy audit simulate bench screenshot docs lock sbom dist clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Play a story: a stand-in of Amazon Connect, the daemon and twenty agents
	@$(BIN)/watchdog demo

run: $(VENV)/.demo ## Run the daemon with the WATCHDOG_ variables of this shell
	@exec $(BIN)/watchdog run

test: check ## Run all checks and all tests but the long ones
	@tests/setup.sh $(TEST_PACKAGES)
	@tests/run.sh $(PYTHON) "not long"

test-long: check ## Run all checks and all tests
	@tests/setup.sh $(TEST_PACKAGES) $(LONG_PACKAGES)
	@HYPOTHESIS_PROFILE=long tests/run.sh $(PYTHON) "long or not long"

check: $(VENV)/.dev ## Lint, check the format, types, layers, licences, the browser client, alerts and what is in deploy/
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=recurse check-types check-client check-code check-deploy

check-types: $(VENV)/.dev ## Of these, the types
	$(BIN)/mypy

check-code: $(VENV)/.dev ## Of these, the style, layers, licences and known weaknesses
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(PYTHON) -m tests.licences
	$(PYTHON) -m tests.audit || [[ $$? == 3 ]]

check-client: $(VENV)/.dev ## Of these, the browser client
	tests/client/check.sh

check-deploy: $(VENV)/.dev ## Of these, the alerts and deploy/
	tests/prometheus/check.sh
	tests/deploy/check.sh $(BIN)

audit: $(VENV)/.dev ## Ask for known weaknesses of what the daemon needs; fails where no service can be reached
	@$(PYTHON) -m tests.audit

SEEDS ?= 300
FROM ?= 0
OF ?=

simulate: $(VENV)/.demo ## Check the promises in random worlds, on all cores (SEEDS=300 FROM=0 OF=--replicas)
	@$(BIN)/watchdog simulate $(OF) --seeds $(SEEDS) --from $(FROM)

bench: $(VENV)/.dev ## Measure throughput, lag, memory, start-up and ghost-seconds
	@tests/setup.sh $(BENCH_PACKAGES)
	@$(PYTHON) -m tests.benchmarks

screenshot: $(VENV)/.dev ## Take the pictures of the dashboard in docs/ anew (needs chromium and its driver)
	@$(PYTHON) -m tests.dashboard.screenshot

docs: $(VENV)/.dev ## Make a site of the documentation in site/
	@$(PYTHON) -m tests.docs_site site

# One lock file for each purpose; dev.txt holds the others down, so that all agree on every version.
LOCK = CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links $(LOCK_OPTIONS) pyproject.toml

lock: $(VENV)/.dev ## Pin all requirements anew, with hashes (LOCK_OPTIONS=--upgrade for the newest)
	$(LOCK) --extra dev --all-build-deps --output-file requirements/dev.txt
	$(LOCK) --extra sandbox --all-build-deps --constraint requirements/dev.txt --output-file requirements/sandbox.txt
	$(LOCK) --constraint requirements/dev.txt --output-file requirements/run.txt
	$(LOCK) --only-build-deps --all-build-deps --constraint requirements/dev.txt --output-file requirements/build.txt

sbom: $(VENV)/.dev ## Write what the daemon is made of into dist/sbom.cdx.json (CycloneDX)
	@mkdir -p dist
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --short-PURLs \
		--output-format JSON --output-file dist/sbom.cdx.json requirements/run.txt

dist: $(VENV)/.dev ## Build the wheel and the source archive into dist/
	@rm -rf dist build
	$(PYTHON) -m build --no-isolation --outdir dist

clean: ## Remove everything that the other targets made
	rm -rf $(VENV) tests/client/node_modules build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. The stamps make a second run instant; a changed lock file installs again.
PROJECT := pyproject.toml watchdog/__init__.py

$(PYTHON):
	@tests/venv.sh $(VENV)

$(VENV)/.demo: requirements/sandbox.txt $(PROJECT) | $(PYTHON)
	@echo "Installing the requirements of the daemon and its sandbox into $(VENV)"
	@$(PIP) install --no-compile --require-hashes -r requirements/sandbox.txt
	@$(PIP) --quiet install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(PROJECT) | $(PYTHON)
	@echo "Installing the requirements of development into $(VENV)"
	@$(PIP) install --no-compile --require-hashes -r requirements/dev.txt
	@$(PIP) --quiet install --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.demo
