# Every target sets up what it needs by itself; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# The targets share cargo's locks and dist/; cargo and the scripts use all cores by themselves.
.NOTPARALLEL:
.PHONY: help run test wasm build bench emulator lint fmt clean docker-build docker-compose-up

ENV := . scripts/env;
PORT ?= 9101

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## set up, build, start the sidecar and Envoy, say where to go; Ctrl-C stops both
	@scripts/run

test: ## all tests: unit, contract, golden, end to end with a real Envoy
	@scripts/test

wasm: ## the filter, as dist/tidegate_filter.wasm
	@scripts/setup run
	@scripts/build-wasm

build: ## the sidecar, as dist/tidegate
	@scripts/setup run
	@scripts/build-sidecar

bench: ## the benchmarks, beside a bare Envoy in the same run
	@scripts/setup bench
	@scripts/build-wasm
	@scripts/build-sidecar
	@$(ENV) cargo run --release -p tidegate-bench -- $(ARGS)

emulator: ## the emulated providers on PORT (9101), with POST /__faults
	@$(ENV) cargo run -p tidegate-e2e --bin emulator -- --port $(PORT)

lint: ## formatting, clippy, shell scripts, configuration files
	@scripts/lint

fmt: ## format the Rust sources
	@$(ENV) cargo fmt --all

clean: ## remove what was built and the local state; the tools stay
	@$(ENV) cargo clean
	@rm -rf dist .state

docker-build: ## the images tidegate-sidecar and tidegate-envoy
	@deploy/compose.sh build

docker-compose-up: ## the whole environment in containers
	@deploy/compose.sh up --build
