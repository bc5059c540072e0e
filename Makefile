# Colloquy. `make` alone lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),target)
LISTEN ?= 127.0.0.1:8080
DATA_DIR ?= .colloquy
SEEDS ?= 1..50
KOSOKU := $(TARGET)/kosoku
CLOUDEVENTS := $(TARGET)/cloudevents
# One after the other: built together, the server would get the features that only simulations turn on.
BUILD_RELEASE = cargo build --release -p colloquy-simulations && cargo build --release -p colloquy

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## Build the server, the terminal client and the load generator
	cargo build --workspace --bins

.PHONY: run
run: ## Start a server on the embedded store (LISTEN=127.0.0.1:8080, DATA_DIR=.colloquy)
	cargo run -p colloquy -- serve --data-dir $(DATA_DIR) --listen $(LISTEN)

.PHONY: demo
demo: ## Two scripted clients hold a conversation, over the server of `make run` or one of their own
	cargo run -q -p colloquy -- demo $(if $(filter-out file,$(origin LISTEN)),--server http://$(LISTEN))

.PHONY: demo-agent
demo-agent: ## A person asks an agent: a sidecar beside a stand-in for a model, over a server of the demo's own
	cargo run -q -p colloquy -- demo --agent

.PHONY: cluster
cluster: test-services ## Three pods, Redis, MongoDB and a load balancer on this machine, until Ctrl-C (LISTEN=...)
	@tests/install-services haproxy
	cargo build --workspace --bins
	$(TARGET)/debug/colloquy-simulations cluster --front $(LISTEN)

.PHONY: cluster-chat
cluster-chat: test-services ## Two people chat across two pods of such a cluster, and through its load balancer
	@tests/install-services haproxy
	cargo build --workspace --bins
	$(TARGET)/debug/colloquy-simulations cluster --front $(LISTEN) --chat

.PHONY: check
check: test-runner ## Format, clippy and the tests that start no server
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo nextest run --workspace --profile fast

.PHONY: test
test: test-tools ## Every test, with what the tests need
	cargo build --workspace --all-targets
	cargo nextest run --workspace

.PHONY: test-tools
test-tools: test-runner test-services $(KOSOKU)/bin/kosoku $(CLOUDEVENTS)/installed ## Install what the tests need

.PHONY: test-services
test-services:
	@tests/install-services

.PHONY: test-runner
test-runner:
	@cargo nextest --version >/dev/null 2>&1 || cargo install cargo-nextest --locked

# Autobahn's WebSocket cases. A virtual environment beside the build: nothing is installed on the machine.
$(KOSOKU)/bin/kosoku:
	@tests/install-python
	@mkdir -p $(TARGET)
	python3 -m venv $(KOSOKU) || { rm -rf $(KOSOKU); exit 1; }
	$(KOSOKU)/bin/pip install --quiet --disable-pip-version-check kosoku==0.1.0

# Another implementation of CloudEvents, for round trips.
$(CLOUDEVENTS)/installed:
	@tests/install-python
	@mkdir -p $(TARGET)
	python3 -m venv $(CLOUDEVENTS) || { rm -rf $(CLOUDEVENTS); exit 1; }
	$(CLOUDEVENTS)/bin/pip install --quiet --disable-pip-version-check cloudevents==2.2.0
	@touch $@

.PHONY: bench
bench: ## Measure a message's way to its durable ack, the memory of an idle connection, and a reconnect storm
	$(BUILD_RELEASE)
	$(TARGET)/release/colloquy-simulations load --pairs 200 --window 16 --seconds 15
	$(TARGET)/release/colloquy-simulations idle --connections 5000
	$(TARGET)/release/colloquy-simulations storm --connections 10000

.PHONY: chaos
chaos: ## Worlds of pods and clients on virtual time, in which everything breaks (SEEDS=1..50)
	cargo build --release -p colloquy-simulations
	$(TARGET)/release/colloquy-simulations chaos --seeds $(SEEDS)

.PHONY: chaos-processes
chaos-processes: test-services ## Three real pods, and kill -9, SIGSTOP, SIGTERM, Redis, MongoDB and a cut at random (SEED=1)
	cargo build --workspace --bins
	$(TARGET)/debug/colloquy-simulations chaos --processes --seed $(or $(SEED),1)

.PHONY: mutations
mutations: ## Defects made on purpose, each put into worlds until a check finds it
	cargo build --release -p colloquy-simulations
	$(TARGET)/release/colloquy-simulations mutations

.PHONY: rolling
rolling: test-services ## Restart each of three pods under traffic, and say what clients notice of it
	$(BUILD_RELEASE)
	$(TARGET)/release/colloquy-simulations rolling --clients 200 --rate 500

.PHONY: deny
deny: deny-offline ## Licences, bans and advisories of every dependency
	cargo deny check advisories

.PHONY: deny-offline
deny-offline: # All of it that needs no list of advisories
	@cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --locked
	cargo deny --log-level error check bans licenses sources
