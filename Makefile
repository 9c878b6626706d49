# `make demo` and `make test` need Python >= 3.11, git and make, nothing else; they set up .venv themselves.

# The first that runs and is new enough. Another: make PYTHON=/path/to/python
IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c '$(IS_NEW_ENOUGH)' 2>/dev/null && { echo $$p; break; }; done)

BIN := .venv/bin
INSTALLED := .venv/.installed
# Extras to install beside those of the tests: all, tensorflow, blitz, or none (make test EXTRAS=). Another choice needs `make clean`.
EXTRAS ?= all
DOCS_INSTALLED := .venv/.installed-docs
COMMA := ,
# Doctests train, so they need a backend.
TESTS := -n 2 --dist loadgroup tests $(if $(EXTRAS),--doctest-modules skuq)
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# One target at a time, whatever MAKEFLAGS say.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Where packages come from is the user's choice; where they go and which ones is not. The same for Python and pytest.
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_CONSTRAINT PIP_REQUIREMENT PIP_NO_DEPS PIP_UPGRADE PYTHONPATH PYTHONHOME PYTEST_ADDOPTS
export PIP_USER := 0
export PIP_PRE := 0
export PIP_NO_INPUT := 1

.PHONY: help
help:
	@echo "make demo   install into .venv and run the five methods on real data"
	@echo "make test   install into .venv and run lint, types and all tests"
	@echo "make lint   ruff, mypy and the layers of imports only"
	@echo "make coverage   all tests, and which lines they reach, into htmlcov"
	@echo "make bench  install into .venv and time skuq beside the same work written by hand"
	@echo "make bench-quality   score the defaults on the UCI splits, CLINC150 (both need the benchmark data) and tables of categories"
	@echo "make docs   build docs/_build/html"
	@echo "make clean  remove .venv and everything built"

# torch first and alone: whatever asks for torch afterwards finds this one and pulls no other.
$(INSTALLED): pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c '$(IS_NEW_ENOUGH)' || \
		{ echo "skuq needs Python 3.11 or newer, got PYTHON='$(PYTHON)'. Pass PYTHON=/path/to/python." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(if $(filter all blitz,$(EXTRAS)),$(PIP) install -c constraints.txt torch==2.13.0)
	$(PIP) install -c constraints.txt -e '.[$(if $(EXTRAS),$(EXTRAS)$(COMMA))test]'
	@touch $@

$(DOCS_INSTALLED): $(INSTALLED)
	$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $@

.PHONY: demo
demo: $(INSTALLED)
	$(BIN)/python -m skuq.demo

.PHONY: test
test: lint
	$(BIN)/python -m pytest $(TESTS)

.PHONY: coverage
coverage: $(INSTALLED)
	$(BIN)/python -m pytest --cov --cov-report=term --cov-report=html $(TESTS)

.PHONY: lint
lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

.PHONY: docs
docs: $(DOCS_INSTALLED)
	$(BIN)/python -m sphinx -b html -W --keep-going docs docs/_build/html

# Options: make bench BENCH="--quick --backend blitz"
.PHONY: bench
bench: $(INSTALLED)
	$(BIN)/python examples/benchmarks/speed.py $(BENCH)

# Options: make bench-quality BENCH="--only discrete --backend blitz"
.PHONY: bench-quality
bench-quality: $(INSTALLED)
	$(BIN)/python examples/benchmarks/quality.py $(BENCH)

.PHONY: clean
clean:
	rm -rf .venv build dist skuq.egg-info docs/_build docs/api demo-output bench-output .coverage htmlcov .pytest_cache .mypy_cache .ruff_cache
