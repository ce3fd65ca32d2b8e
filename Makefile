# To try refreshd: `make run`. To work on it: `make dev`, then `make quick` after each change (CONTRIBUTING.md).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP     = $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK    = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

# Programs that tests start import refreshd compiled, whatever the environment says: that is a quarter of their start.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help run dev quick t format test operations migration doors clouds clocks lint types audit fuzz mutations check faults bench dist advisories lock clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

run: $(VENV)/.run  ## the daemon on config.example.toml: embedded MongoDB, sandbox provider, demo tokens
	@exec $(BIN)/refreshd --config config.example.toml run

dev: $(VENV)/.dev  ## the environment for development, in .venv
	@echo "$(VENV) is ready. make quick: the checks after each change. make t T=FILE: one test. CONTRIBUTING.md: the rest"

PYTEST = $(BIN)/python -m pytest -p no:cacheprovider

# The simulated days take most of a minute and are left to `make test`.
quick: lint  ## lint, and the tests of the domain and of refreshing; after each change; meant to take under 20 s
	$(PYTEST) -m "not long and not slow" --numprocesses 2 --dist worksteal tests/domain tests/refreshing \
		--ignore=tests/refreshing/test_simulated_day.py

t: $(VENV)/.dev  ## some tests: make t T=tests/domain/test_policy.py, or T="tests/refreshing -k doubt"
	@test -n "$(T)" || { echo 'Name a test: make t T=tests/domain/test_policy.py' >&2; exit 2; }
	$(PYTEST) $(T)

format: $(VENV)/.dev  ## ruff sorts the imports and formats all code
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

HERE   = tests --ignore=tests/operations --ignore=tests/migration --ignore=tests/doors --ignore=tests/clouds
# Two thirds of the time of the tests are waits, for a sweep, a lease or a process: as measured on two cores.
WORKERS = 4
PAIRED = -m "not long and not alone" --numprocesses $(WORKERS) --dist worksteal $(HERE)

test: $(VENV)/.dev  ## every test that needs nothing but Python, against a real MongoDB
	$(PYTEST) $(PAIRED)
	$(PYTEST) -m "alone and not long" --numprocesses 2 --dist worksteal $$(grep -rl --include='*.py' 'mark[.]alone' tests)

operations: $(VENV)/.dev  ## the tests beside foreign programs: Prometheus, Chromium, PM2, systemd, proxies
	$(PYTEST) tests/operations

migration: $(VENV)/.dev  ## the tests of moving and backups beside PostgreSQL, Node and age, all of which must be installed
	REFRESHD_TEST_MIGRATION=1 $(PYTEST) -m "not long" --numprocesses 2 --dist loadfile tests/migration

doors: $(VENV)/.dev $(VENV)/doors/.done  ## the tests of the readers, of sealing and of connect beside programs in JavaScript; first: npm ci --ignore-scripts in tests/doors
	REFRESHD_TEST_DOORS=1 $(PYTEST) -m "not long" --numprocesses 2 --dist worksteal tests/doors

clouds: $(VENV)/.dev $(VENV)/clouds/.done  ## the tests of secrets in AWS beside a server that imitates it
	REFRESHD_TEST_CLOUDS=1 $(PYTEST) -m "not long" --numprocesses 4 --dist worksteal tests/clouds

clocks: $(VENV)/.dev  ## the tests under other dates; CLOCKS="leap-day decade" for some dates
	$(BIN)/python -m tests.support.moved_clocks $(CLOCKS) -- $(PAIRED)

lint: $(VENV)/.dev  ## ruff and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev  ## mypy --strict
	$(BIN)/mypy
	$(BIN)/mypy --config-file clients/python/pyproject.toml

audit: $(VENV)/.dev  ## compare the locked packages with requirements/advisories.json
	$(BIN)/python -m supply.advisories check

fuzz: $(VENV)/.dev  ## made-up replies, streams and documents; SECONDS=3600 for an hour, SEED=7 for the same ones again
	$(BIN)/python -m tests.fuzz.hunt --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED))

mutations: $(VENV)/.dev  ## break each invariant on purpose, in a copy, and see its test fail; long; ONLY=lane.py for some
	$(BIN)/python -m tests.mutations.run --only "$(ONLY)"

# What uses one core and no clock goes in pairs.
check:  ## lint, types, audit, a minute of fuzz, operations, test
	@$(MAKE) --no-print-directory --jobs 2 --output-sync SEED=$(or $(SEED),1) fuzz lint types audit
	@$(MAKE) --no-print-directory operations
	@$(MAKE) --no-print-directory test

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
	$(BIN)/python bench/compare_rivals.py --runs 5
	$(BIN)/python bench/replicas.py --runs 4
	$(BIN)/python bench/isolation.py
	$(BIN)/python bench/access.py
	$(BIN)/python bench/audit_day.py
	$(BIN)/python bench/hostile.py
	$(BIN)/python bench/hostile.py --by replies

dist: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)
dist: $(VENV)/.dev  ## sdist, wheel, the packages for applications, bill of materials and checksums, the same bytes on every machine
	$(BIN)/python -m supply.dist

advisories: $(VENV)/.dev  ## renew requirements/advisories.json; FILES="..." are downloads in the OSV format
	$(BIN)/python -m supply.advisories update $(FILES)

lock:  ## renew requirements/*.txt from pyproject.toml (wants uv)
	$(LOCK) requirements/build.in --output-file requirements/build.txt
	$(LOCK) --extra embedded pyproject.toml --output-file requirements/run.txt
	$(LOCK) --extra embedded --extra postgresql --constraint requirements/run.txt pyproject.toml --output-file requirements/postgresql.txt
	$(LOCK) --extra embedded --extra aws --constraint requirements/run.txt pyproject.toml --output-file requirements/aws.txt
	$(LOCK) --extra embedded --extra postgresql --extra aws --extra dev pyproject.toml --output-file requirements/dev.txt
	$(LOCK) --constraint requirements/dev.txt requirements/doors.in --output-file requirements/doors.txt
	$(LOCK) --constraint requirements/dev.txt requirements/clouds.in --output-file requirements/clouds.txt

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

# What the tests of clients/python run beside it, apart from the daemon's packages.
$(VENV)/doors/.done: requirements/doors.txt
	$(PYTHON) -m venv --clear $(VENV)/doors
	$(VENV)/doors/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes -r requirements/doors.txt
	@touch $@

# A server that imitates AWS (make clouds), apart from the daemon's packages.
$(VENV)/clouds/.done: requirements/clouds.txt
	$(PYTHON) -m venv --clear $(VENV)/clouds
	$(VENV)/clouds/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes -r requirements/clouds.txt
	@touch $@
