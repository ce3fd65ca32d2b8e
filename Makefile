# The two commands a newcomer needs: `make run` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP     = $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK    = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

.DEFAULT_GOAL := help
.PHONY: help run test parts clocks lint types check faults bench lock clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

run: $(VENV)/.run  ## the daemon on config.example.toml: embedded MongoDB, sandbox provider, demo tokens
	@exec $(BIN)/refreshd --config config.example.toml run

PYTEST = $(BIN)/python -m pytest -p no:cacheprovider
PAIRED = --numprocesses 2 --dist worksteal tests --ignore=tests/parts

test: $(VENV)/.dev  ## every test that needs nothing but Python, against a real MongoDB
	$(PYTEST) $(PAIRED)

parts: $(VENV)/.dev  ## the tests beside foreign programs: Prometheus, Chromium, PM2, systemd, proxies
	$(PYTEST) tests/parts

clocks: $(VENV)/.dev  ## the tests under other dates; CLOCKS="leap-day decade" for some dates
	$(BIN)/python -m tests.support.moved_clocks $(CLOCKS) -- $(PAIRED)

lint: $(VENV)/.dev  ## ruff and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev  ## mypy --strict
	$(BIN)/mypy

check: lint types parts test  ## all of the above

faults: $(VENV)/.dev  ## the long form of the fault tests
	$(BIN)/python -m pytest -m long -o addopts="--strict-markers --import-mode=importlib" -v tests/faults

bench: $(VENV)/.dev  ## all measurements, what takes turns in turns; some forty minutes
	$(BIN)/python bench/main_job.py --runs 5 --latency 0 50 200
	$(BIN)/python bench/main_job.py --runs 5 --tokens 20000 --concurrency 512 --daemons 1 2
	$(BIN)/python bench/main_job.py --tokens 100000 --latency 100
	$(BIN)/python bench/stages.py
	$(BIN)/python bench/growth.py
	$(BIN)/python bench/count.py
	$(BIN)/python bench/idle.py
	$(BIN)/python bench/rivals.py --runs 5
	$(BIN)/python bench/replicas.py --runs 4
	$(BIN)/python bench/isolation.py
	$(BIN)/python bench/hostile.py
	$(BIN)/python bench/hostile.py --by replies

lock:  ## renew requirements/*.txt from pyproject.toml (wants uv)
	$(LOCK) requirements/build.in --output-file requirements/build.txt
	$(LOCK) --extra embedded pyproject.toml --output-file requirements/run.txt
	$(LOCK) --extra embedded --extra dev pyproject.toml --output-file requirements/dev.txt

clean:  ## remove the virtual environment and the demo's data
	rm -rf $(VENV) var

# A stamp per set of packages. The lock files name everything, so nothing is resolved at install time.
$(VENV)/.run: requirements/run.txt requirements/build.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --no-deps --require-hashes -r requirements/build.txt -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	$(PIP) install --no-deps --require-hashes -r requirements/dev.txt
	@touch $@
