# On a fresh machine `make demo` and `make test` make .venv and install what they need into it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test check soak bench figures sample-data bundle clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(STAMP)  ## make .venv with the pinned packages

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)  ## three hospitals on this machine: preprocess, swarm, evaluate
	$(BIN)/swarmcell demo --force

test: $(STAMP)  ## all tests, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP)  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: $(STAMP)  ## the swarm's simulation for longer, and all properties on fresh examples
	SWARMCELL_SOAK=$${SWARMCELL_SOAK:-600} $(BIN)/python -m pytest tests/simulation
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile fresh

bench: $(STAMP)  ## speed and memory, beside peers
	$(BIN)/python -m benchmarks

figures: $(STAMP)  ## the README's figures on real input, and reports under build/reports; DATA=FOLDER
	$(BIN)/python -m benchmarks.real_input --reports build/reports $(if $(DATA),--data $(DATA))

sample-data: $(STAMP)  ## make sample_data/ again
	$(BIN)/python sample_data/make.py

bundle: $(STAMP)  ## wheels for a machine without a network, under dist/wheels
	$(BIN)/python -m pip wheel --quiet --constraint constraints.txt --wheel-dir dist/wheels '.[websocket,parquet]'

clean:  ## remove what the targets above made
	rm -rf $(VENV) build dist runs demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
