# Everyday commands. Each sets up what it needs by itself: a virtual environment in $(VENV), then the dependencies of
# pyproject.toml. Settings, with examples:
#   PYTHON=python3.12                            the interpreter that makes the environment
#   VENV=.venv  DIST=dist  WORKERS=2             where things go; parallel test processes
#   PYTEST="-m 'not slow' tests/test_network.py" further arguments of pytest
#   DEMO="--smoke --out FOLDER"                  arguments of `pinnsim demo`
#   NOTEBOOKS="03 05"                            which ones `make notebooks-full` writes (default: all)

VENV ?= .venv
WORKERS ?= 2
PYTEST ?=
DEMO ?=
DIST ?= dist
BIN := $(VENV)/bin

# The first interpreter that runs, is 3.11 or newer and can make environments (Debian ships python3 without the venv module).
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
FIND = for python in python3 python3.12 python3.13 python3.14 python3.11 python; do \
    $$python -c '$(USABLE)' >/dev/null 2>&1 && echo $$python && break; done
PYENV_ROOT ?= $(HOME)/.pyenv
FIND_312 = for python in python3.12 $(PYENV_ROOT)/versions/3.12*/bin/python3.12; do \
    $$python -c '$(USABLE)' >/dev/null 2>&1 && echo $$python && break; done

# Two test processes on two cores: one thread each for linear algebra and for XLA. Tests are many small programs that run
# once, so compiling them is most of the work: XLA's optimiser stays off, also for notebooks at their small size.
# NPROC is the size of XLA's pool of threads. With two, one program (experiments/melanoma.py) stood still for ever in 9 of
# 18 runs under various settings (jaxlib 0.10.2: all threads wait for work); with one, or pinned to a core, in none of 12.
ONE_THREAD := --xla_cpu_multi_thread_eigen=false
OLDER := import jaxlib.version as v; print(*["--xla_cpu_use_fusion_emitters=false"] * (v.__version_info__ < (0, 12)))
QUICK = --xla_backend_optimization_level=0 $(shell $(BIN)/python -c '$(OLDER)')
FOR_TESTS = NPROC=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 XLA_FLAGS="$(ONE_THREAD) $(QUICK) $(XLA_FLAGS)"

.DEFAULT_GOAL := help
.PHONY: help demo test test-312 lint format notebooks notebooks-full docs dist clean
.DELETE_ON_ERROR:

help:  ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 20

demo: $(VENV)/.core  ## fit, score, perturb and draw the embedded example (about 3 minutes once installed)
	$(BIN)/pinnsim demo $(DEMO)

test: $(VENV)/.dev  ## run all tests, and show which lines they reach
	$(FOR_TESTS) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart=0 \
	    --reached --durations=20 $(PYTEST)

test-312:  ## run the fast tests under Python 3.12, in an environment of its own
	@python=$$($(FIND_312)); \
	[ -n "$$python" ] || { echo "make test-312 needs a python3.12 with the venv module; none was found" >&2; exit 1; }; \
	$(MAKE) test VENV=.venv-312 PYTHON=$$python PYTEST="-m 'not slow' $(PYTEST)"

lint: $(VENV)/.dev  ## check style and types (ruff, mypy)
	@failed=0; for check in "ruff check" "ruff format --check" mypy; do \
	    echo "$(BIN)/$$check"; $(BIN)/$$check || failed=1; done; exit $$failed

format: $(VENV)/.dev  ## rewrite files in the house style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

notebooks: $(VENV)/.dev  ## execute the notebooks at their small size
	PINNSIM_SMOKE=1 $(FOR_TESTS) $(BIN)/python -m pytest -n $(WORKERS) --nbmake --nbmake-timeout=900 notebooks

notebooks-full: $(VENV)/.dev  ## execute the notebooks' scripts at full size and write their .ipynb files (NOTEBOOKS="03 05")
	$(BIN)/python .ci/execute_notebooks.py $(NOTEBOOKS)

docs: $(VENV)/.docs  ## build the documentation into build/docs, warnings as errors, and check every link
	$(BIN)/python -m sphinx --builder html --conf-dir docs --fail-on-warning --keep-going --nitpicky --quiet \
	    --fresh-env --doctree-dir build/doctrees . build/docs
	$(BIN)/python .ci/check_site.py build/docs

dist: $(VENV)/.dev  ## build the wheel and the sdist into dist/ and check what is in them
	$(BIN)/python .ci/check_dist.py $(DIST)

clean:  ## remove environments, caches and builds
	rm -rf .venv .venv-312 dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@python="$(PYTHON)"; [ -n "$$python" ] || python=$$($(FIND)); \
	if [ -z "$$python" ]; then \
	    echo "pinnsim needs Python 3.11 or newer with the venv module, and none was found." >&2; \
	    echo "Install one (Debian, Ubuntu: apt install python3 python3-venv)," >&2; \
	    echo "or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; \
	    exit 1; fi; \
	$$python -c '$(USABLE)' || { echo "$$python is not Python 3.11 or newer with the venv module" >&2; exit 1; }; \
	echo "making $(VENV) with $$($$python --version)"; \
	$$python -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.core: pyproject.toml | $(VENV)/.made
	@echo "installing pinnsim into $(VENV): about a minute, once"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

$(VENV)/.docs: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --group docs
	@touch $@
