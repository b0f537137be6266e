# `make` alone lists the targets. A fresh machine needs Python >= 3.11 and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint format types bench profile docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python >= 3.11 is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,tensorboard,model,sweep]'
	@touch $@

install: .venv/installed ## make .venv from the pinned constraints

demo: install ## simulate a flexible particle, train on it, show where the results are
	$(BIN)/python train.py

test: install ## the default test suite
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-slow: install ## the long trainings
	$(BIN)/python -m pytest -m slow

lint: install ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install ## rewrite in house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install ## static types
	$(BIN)/mypy

bench: install ## timings, beside the original where it does the same job
	$(BIN)/python -m benchmarks

profile: install ## where the time of a training step goes
	$(BIN)/python -m benchmarks.profile_step

docs: install ## the command-line reference, from the programs' own help
	$(BIN)/python -m docs

clean: ## remove the environment and caches, never results
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
