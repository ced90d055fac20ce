# Every target sets up what it needs by itself; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# The targets share cargo's locks and dist/; cargo and the scripts use all cores by themselves.
.NOTPARALLEL:
.PHONY: help run dev test coverage wasm build build-local bench emulator lint vet fmt clean deps dev-setup \
  docker-build docker-run docker-compose-up

ENV := . scripts/env;
PORT ?= 9101

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## set up, build, start the sidecar and Envoy, say where to go; Ctrl-C stops both
	@scripts/run

dev: run ## the same as run

test: ## all tests: unit, contract, golden, end to end with a real Envoy
	@scripts/test

coverage: ## the unit tests' coverage, as coverage/html/index.html; needs cargo-llvm-cov
	@scripts/setup run
	@cargo llvm-cov --version >/dev/null 2>&1 || { echo "coverage: install it with 'cargo install cargo-llvm-cov' and 'rustup component add llvm-tools'" >&2; exit 1; }
	@$(ENV) cargo llvm-cov --html --output-dir coverage -p tidegate-core -p tidegate-filter -p tidegate --lib

wasm: ## the filter, as dist/tidegate_filter.wasm
	@scripts/setup run
	@scripts/build-wasm

build: ## the sidecar, as dist/tidegate
	@scripts/setup run
	@scripts/build-sidecar

build-local: wasm build ## both of them

bench: ## the benchmarks, beside a bare Envoy in the same run
	@scripts/setup bench
	@scripts/build-wasm
	@scripts/build-sidecar
	@$(ENV) cargo run --release -p tidegate-bench -- $(ARGS)

emulator: ## the emulated providers on PORT (9101), with POST /__faults
	@$(ENV) cargo run -p tidegate-e2e --bin emulator -- --port $(PORT)

lint: ## formatting, clippy, shell scripts, configuration files
	@scripts/lint

vet: ## clippy alone
	@$(ENV) cargo clippy --workspace --all-targets -- -D warnings

fmt: ## format the Rust sources
	@$(ENV) cargo fmt --all

deps: ## install what running needs
	@scripts/setup run

dev-setup: ## install what the tests need, too
	@scripts/setup test

clean: ## remove what was built and the local state; the tools stay
	@$(ENV) cargo clean
	@rm -rf dist .state coverage

docker-build: ## the images tidegate-sidecar and tidegate-envoy
	@deploy/compose.sh build

docker-run: ## Envoy and the sidecar in containers, without the servers around them
	@deploy/compose.sh --file deploy/compose.alone.yml up --build

docker-compose-up: ## the whole environment in containers: Redis, Kafka, etcd, Prometheus and Grafana too
	@deploy/compose.sh up --build
