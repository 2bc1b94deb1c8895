# Every check and every measurement has one target here; CI calls only these.
SHELL := /bin/bash
# For libraries that an operator brings: nothing may report from a test.
export ORT_DISABLE_TELEMETRY := 1
.DEFAULT_GOAL := help

# Crates that never see polars: built and tested together, so that features are unified once.
PROXY_CRATES := types tls config contract policy experiment freshness replay models fleet cache upstream ledger sinks proxy admin sim
PROXY_FLAGS := $(foreach c,$(PROXY_CRATES),-p farthing-$(c)) -p farthing
# Optimised dependencies, our own code with debug assertions: what tests and demo use for the trainer.
TRAINER := target/debug/farthing-train

.PHONY: help deps deps-bench proxy trainer demo demo-json check test skips test-rust test-trainer test-e2e test-python test-http-cache http-cache test-full explore simulate scenarios models results bench bench-swaps bench-costs bench-load kpi doc lint clean

help: ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

deps: ## Get what build and tests need (idempotent)
	@bash scripts/deps.sh test

deps-runtime:
	@bash scripts/deps.sh runtime

deps-bench:
	@bash scripts/deps.sh bench

proxy: ## Build the proxy (release, without polars)
	cargo build --release -p farthing

trainer: ## Build the trainer
	cargo build -p farthing-trainer

demo: deps-runtime proxy trainer ## The main job: from nothing to a proven saving
	FARTHING_TRAIN=$(TRAINER) target/release/farthing demo $(DEMO_ARGS)

demo-json: deps-runtime proxy trainer ## The same, its figures into target/results/demo.json
	@mkdir -p target/results
	FARTHING_TRAIN=$(TRAINER) target/release/farthing demo --json $(DEMO_ARGS) > target/results/demo.json.new
	@mv target/results/demo.json.new target/results/demo.json

kpi: ## The board of headline figures (K1 to K10) from what was measured into target/results/
	cargo run --release -q -p farthing-bench --bin kpi

check: ## Fast checks: format, lints, types
	cargo fmt --all --check
	cargo clippy $(PROXY_FLAGS) -p farthing-tests -p farthing-bench --all-targets -- -D warnings
	cargo clippy -p farthing-trainer --all-targets -- -D warnings

test: deps skips test-trainer test-rust test-python test-http-cache ## All tests; what was skipped is listed at the end
	@bash scripts/skipped.sh

# The list is begun anew; what is skipped adds a line.
skips:
	@mkdir -p target && : > target/skipped.txt

# Property tests draw the same cases in every run of `make test`, so that a red run means a change; `make explore` draws new ones.
test test-rust test-trainer test-e2e: export PROPTEST_RNG_SEED := 1

# First, because the end-to-end tests run the trainer that it builds.
test-trainer:
	FARTHING_SKIPPED=$(CURDIR)/target/skipped.txt cargo test -q -p farthing-trainer

# Everything else in one build, the end-to-end tests with it: features are unified once.
test-rust:
	FARTHING_SKIPPED=$(CURDIR)/target/skipped.txt FARTHING_TRAIN=$(CURDIR)/$(TRAINER) cargo test -q $(PROXY_FLAGS) -p farthing-tests -p farthing-bench

test-e2e: trainer ## The end-to-end tests alone
	cargo build -p farthing
	FARTHING_TRAIN=$(CURDIR)/$(TRAINER) cargo test -q -p farthing-tests

test-python:
	@if [ -x target/venv/bin/python ]; then PYTHONPATH=sdk/python target/venv/bin/python -W error::ResourceWarning -m unittest discover -q sdk/python/tests; \
	else echo "Python SDK: no target/venv" | tee -a target/skipped.txt; fi
	@if [ -x target/venv/bin/python ]; then target/venv/bin/python tests/python/run_notebooks.py; \
	else echo "notebooks: no target/venv" | tee -a target/skipped.txt; fi
	@if [ -x target/venv/bin/python ]; then target/venv/bin/python tests/python/check_bundles.py; \
	else echo "bundles by other programs: no target/venv" | tee -a target/skipped.txt; fi
	@if [ -x target/venv/bin/python ]; then target/venv/bin/python tests/python/check_manifests.py target/debug/farthing; \
	else echo "manifests of Kubernetes: no target/venv" | tee -a target/skipped.txt; fi

# By the program that the tests before have built; a build of the program alone has other features, and takes minutes.
test-http-cache:
	@if [ -n "$$(ls target/http-cache/.installed-* 2>/dev/null)" ]; then node tests/http-cache/run.mjs --suite target/http-cache/node_modules/http-cache-tests \
		--farthing target/debug/farthing --known tests/http-cache/known.json --out target/results/http-cache.json; \
	else echo "HTTP cache suite: no target/http-cache" | tee -a target/skipped.txt; fi

http-cache: deps ## The public suite of HTTP cache tests into target/results/http-cache.json, held to tests/http-cache/known.json
	cargo build -q $(PROXY_FLAGS)
	@$(MAKE) --no-print-directory test-http-cache

explore: ## Property tests with new random cases, ten times
	for n in 1 2 3 4 5 6 7 8 9 10; do cargo test -q $(PROXY_FLAGS) --lib || exit 1; done

test-full: test explore simulate scenarios proxy ## Tests, the long simulations, the demo at full length; FARTHING_DATA=dir adds the real traces
	FARTHING_TRAIN=$(CURDIR)/$(TRAINER) cargo test -q -p farthing-tests -- --ignored

simulate: trainer ## Long seeded simulations: leases, purges, statistics, learners, bill, alerts, budgets; hundreds of kills
	cargo test -q -p farthing-fleet --release --lib -- --ignored --nocapture
	cargo test -q -p farthing-cache --release --lib -- --ignored --nocapture
	cargo test -q -p farthing-experiment --release -- --ignored --nocapture
	cargo test -q -p farthing-ledger --release --lib -- --ignored --nocapture
	cargo test -q -p farthing-trainer -- --ignored
	cargo test -q -p farthing-ledger -- --ignored
	cargo test -q -p farthing-upstream --lib -- --ignored
	cargo test -q -p farthing-proxy --release --test billing -- --ignored --nocapture
	cargo test -q -p farthing-proxy --release --test budgets -- --ignored
	cargo build -p farthing && cargo test -q -p farthing-tests --test e2e in_fifty_runs -- --ignored --nocapture
	cargo test -q -p farthing-tests --release --test llm -- --ignored --nocapture
	cargo test -q -p farthing-tests --release --test e2e fleet::purges -- --ignored --nocapture
	cargo test -q -p farthing-tests --release --test e2e fleet_limits -- --ignored --nocapture
	cargo test -q -p farthing-tests --test e2e fleet::experiments -- --ignored --nocapture
	cargo test -q -p farthing-tests --release --test scenarios -- --ignored --nocapture trials::
	cargo test -q -p farthing-models --release --test swap -- --ignored --nocapture
	FARTHING_TRAIN=$(CURDIR)/$(TRAINER) cargo test -q -p farthing-tests --release --test autopilot -- --ignored --nocapture

scenarios: ## Scenarios Z1 to Z6 at full size, each with an ablation, into target/results/scenarios.json
	cargo test -q --release -p farthing-tests --test scenarios -- --ignored --nocapture scenarios_at_full_size

doc: ## API documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps $(PROXY_FLAGS)

models: trainer ## Rebuild the shipped predictors from data/
	bash scripts/models.sh

results: trainer ## Measure what the learners are worth into docs/results.md; DATA=dir is the folder of real traces
	FARTHING_PYTHON=$${FARTHING_PYTHON:-$$([ -x target/venv/bin/python ] && echo target/venv/bin/python || echo python3)} $(TRAINER) results $(if $(DATA),--data $(DATA)) --out docs/results.md --json target/results/learning.json

bench: ## Micro benches (decision, key, replay, start of the disk store, memory of an entry, hits, purges, limits, log, stampede, batcher, experiments) into target/results/
	cargo run --release -p farthing-bench --bin micro
	cargo run --release -p farthing-bench --bin replay
	cargo run --release -p farthing-bench --bin disk
	cargo run --release -p farthing-bench --bin memory
	cargo run --release -p farthing-bench --bin limits
	cargo run --release -p farthing-bench --bin log
	cargo run --release -p farthing-bench --bin stampede
	@mkdir -p target/results
	cargo run --release -p farthing-cache --example purge > target/results/purge.json
	cargo run --release -p farthing-cache --example hits > target/results/hits.json
	cargo run --release -p farthing-upstream --example batching > target/results/batching.json
	cargo run --release -p farthing-experiment --example cost > target/results/experiments.json

bench-costs: ## Questions about money over 1e7 rows, beside DuckDB on the same files, into target/results/costs.json
	@mkdir -p target/results
	[ -d target/bench-costs/log/calls ] || cargo run --release -p farthing-ledger --example costs -- write target/bench-costs/log
	cargo run --release -q -p farthing-ledger --example costs -- ask target/bench-costs/log > target/bench-costs/farthing.json
	@if [ -x target/venv/bin/python ]; then target/venv/bin/python scripts/bench_costs.py target/bench-costs/log target/bench-costs/farthing.json target/results/costs.json; \
	else cp target/bench-costs/farthing.json target/results/costs.json; echo "DuckDB beside bench-costs: no target/venv (make deps)" | tee -a target/skipped.txt; fi

bench-swaps: deps-runtime ## Predictors that change under load: p99 in alternating blocks, memory after 1,000 swaps, into target/results/swaps.json (5 min)
	cargo run --release -p farthing-bench --bin swaps

bench-load: deps-bench proxy ## Load bench against bare hyper, nginx, HAProxy, Varnish into target/results/load.json
	cargo run --release -p farthing-bench --bin load

clean:
	cargo clean
