# Trilobite. `make run` and `make test` do all the set-up they need on a fresh Debian or Ubuntu machine.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
export PATH := $(HOME)/.cargo/bin:$(PATH)
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
VENV := $(TARGET)/python-clients
ARGS ?=
# Property tests try the same cases in every run, so that a run says something about the change and not about luck.
# To look for new ones: PROPTEST_RNG_SEED=$RANDOM make test
export PROPTEST_RNG_SEED ?= 20261125

.PHONY: run build static test check corpus bench setup clients agents

## run: install what is missing, build the release binary, serve on ./trilobite-data (ARGS="--flag ..." passes flags)
run: build
	exec $(TARGET)/release/trilobite serve $(ARGS)

## build: the release binary. The whole workspace, always: building single packages selects other features of shared
## dependencies, and RocksDB would compile again.
build: setup
	cargo build --release --locked --workspace --bins

## static: the same binary without a loader, for the container image, in $(TARGET)/static. Only the last crate gets the flag, so
## that nothing else is built anew.
static: setup
	cargo rustc --release --locked -p trilobite --bin trilobite -- -C target-feature=+crt-static
	mkdir -p $(TARGET)/static
	install -s $(TARGET)/release/trilobite $(TARGET)/static/trilobite
	rm $(TARGET)/release/trilobite

## test: everything but the corpora; the same profile as the served binary, so that RocksDB compiles once
test: static build clients agents
	TRILOBITE_TEST_PYTHON=$(VENV)/bin/python TRILOBITE_TEST_AGENTS=$(TARGET)/agents \
	    TRILOBITE_STATIC_BIN=$(TARGET)/static/trilobite cargo test --release --locked --workspace

## check: formatting and lints
check: setup
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings

## corpus: the three languages' cases, each with a closing line and a floor that may only rise
corpus: build
	for language in promql logql traceql; do $(TARGET)/release/corpus-$$language; done

## bench: what it costs
bench: setup
	cargo bench --locked --workspace --benches

setup:
	@deploy/setup.sh build

clients: tests/clients/requirements.txt
	@deploy/setup.sh test
	@if ! cmp -s tests/clients/requirements.txt $(VENV)/installed.txt; then \
	    echo "installing the Python clients that the tests drive"; \
	    python3 -m venv --clear $(VENV); \
	    $(VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt; \
	    cp tests/clients/requirements.txt $(VENV)/installed.txt; \
	fi

## agents: programs of others that tests run, such as the OpenTelemetry Collector; a test says so where one cannot be had
agents:
	@tests/clients/agents.sh $(TARGET)/agents
