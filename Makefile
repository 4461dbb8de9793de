# Every target first makes .venv where it is missing or older than the files that say what belongs in it.

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?= -n 2 -m "not slow"

BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help demo test test-slow check format venv clean

help:
	@echo "make demo       train, look at and load the embedded example, in minutes on a CPU"
	@echo "make test       the test suite               PYTEST_ARGS='-k attention' narrows it"
	@echo "make test-slow  the tests that take minutes each"
	@echo "make check      lint, format, types, spelling"
	@echo "make format     put the code into shape"
	@echo "make clean      remove .venv and caches; runs/ and data/ stay"

demo: $(STAMP)
	$(BIN)/python -m train.demo

# One thread per worker: two workers with many threads each would fight for the same cores.
test: $(STAMP)
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: PYTEST_ARGS = -m slow
test-slow: test

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(STAMP)

# torch goes first and alone, so that nothing else can pull another version in. The project itself does not stay
# installed: its programs run from the clone, and "a process that cannot import the package" has to be true in tests.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version) if sys.version_info < (3, 10) else None'
	@test -x $(BIN)/python || { echo "creating .venv"; $(PYTHON) -m venv .venv; }
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) -c constraints.txt torch
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) -c constraints.txt --editable ".[train,dev]"
	$(BIN)/python -m pip uninstall --quiet --yes modeling_vanilla
	rm -rf modeling_vanilla.egg-info build
	touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache build dist *.egg-info
