# Two commands on a fresh machine with Python 3.11+ and make:
#   make demo    set up, then segment a small archive and show what came of it
#   make test    set up, then run every gate and every test
# `make venv` is the set-up alone; it leaves .venv/bin/segpipe.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: venv demo test docs soak gates check-install clean

venv: $(READY)

# Everything is installed from pyproject.toml; a change there installs again.
$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev,train]"
	@touch $@

# Readers of what is exported, whose requirements fit none of ours: a place of their own.
.venv-foreign/.ready: tests/foreign/requirements.txt
	@test -x .venv-foreign/bin/python || $(PYTHON) -m venv .venv-foreign
	.venv-foreign/bin/python -m pip install --quiet --requirement $<
	@touch $@

demo: venv
	$(BIN)/segpipe demo --out demo

gates: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: gates .venv-foreign/.ready
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# The documentation site; the tests build it too, and look at its links.
docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo build/site/index.html

# The faults that `make test` injects by the hundred, by the thousand: about an hour.
soak: venv
	$(BIN)/python -m tests.faults.soak

# What a user gets who has no checkout: minutes, most of them for PyTorch.
check-install:
	PYTHON=$(PYTHON) tests/plain_install.sh

clean:
	rm -rf .venv .venv-foreign demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
