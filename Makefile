# Everything runs from .venv and .build, which `make setup` makes from pinned versions.
PY := .venv/bin/python
PYTHON ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-vm test test-vm test-unit lint format bench fuzz audit faults soak dist test-dist clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## Install what the other targets need: Python packages, cnitool and the reference plugins
	@PYTHON=$(PYTHON) tests/peers/setup.sh

demo: setup ## Lend links of a host to a pod through cnitool, and show them before, during, after
	@$(PY) -m tests.demo

demo-vm: setup ## Tell the Go injector's story, word for word, in a virtual machine that has dummy links
	@tests/vm/setup.sh
	@$(PY) -m tests.vm demo

test: setup lint ## Run every test (needs root; VM=no leaves out those in the virtual machine)
	@$(PY) -m pytest
	@$(MAKE) --no-print-directory test-vm

VM ?= yes
test-vm: setup ## Run the tests that need a kernel with more kinds of links, in a virtual machine
ifeq ($(VM),no)
	@echo "VM=no: the tests in the virtual machine are left out"
else
	@tests/vm/setup.sh
	@$(PY) -m tests.vm test
endif

test-unit: ## Run the tests that need no root, in seconds
	@$(PY) -m pytest -q tests/unit

lint: ## Check style, types and the import rules
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --check --quiet .
	@$(PY) -m mypy
	@$(PY) -m pytest -q tests/unit/test_layout.py

format: ## Format the code
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

ROW ?=
bench: setup ## Time us against host-device and ip, and write docs/performance.md; ROW=add-32: one row
	@[ -d .build/plot/lib ] || $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes \
		--only-binary :all: --target .build/plot/lib -r tests/plot.lock
	@PYTHONPATH=.build/plot/lib $(PY) -m tests.bench $(ROW)

SECONDS ?= 120
fuzz: ## Throw bytes at the NRI plugin's wire for SECONDS (120), by coverage
	@[ -d .build/fuzz/lib ] || $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes \
		--only-binary :all: --target .build/fuzz/lib -r tests/fuzz.lock
	@PYTHONPATH=.build/fuzz/lib $(PY) -m tests.fuzz_wire $(SECONDS)

audit: ## Ask PyPI whether a locked version has a known hole (needs the network)
	@[ -x .build/audit/bin/pip-audit ] || { $(PY) -m venv .build/audit && \
		.build/audit/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/audit.lock; }
	@.build/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock

faults: setup ## Let every call of every verb go wrong in every way, and write docs/reliability.md
	@$(PY) -m tests.faults

MINUTES ?= 30
soak: setup ## Random pods and random kills for MINUTES (30), and write docs/reliability.md
	@MINUTES=$(MINUTES) SEED=$(SEED) ROUND=$(ROUND) $(PY) -m tests.soak

dist: setup ## Make dist/cni-netdev-VERSION-MACHINE.tar.xz: the programs with their interpreter, for any node
	@$(PY) -m bundling dist

test-dist: setup ## Run the end-to-end tests with the programs of a bundle that was put down (ARGS="-k ...")
	@rm -rf .build/dist/cni-netdev-*
	@$(PY) -m bundling --tree-only .build/dist
	@.build/dist/cni-netdev-*/netdevctl install --bin-dir .build/dist/node/cni --prefix .build/dist/node --prune
	@NETDEV_PROGRAMS=$(CURDIR)/.build/dist/node/bin $(PY) -m pytest -q tests/e2e $(ARGS)

clean: ## Remove what setup and the tests made
	rm -rf .venv .build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -exec rm -rf {} +
