# Every verb of the project. `make help` lists them.

CARGO ?= cargo
SEED ?= 1
BENCH ?=
DLOG_SOAK_SECONDS ?= 3600
N ?= 100
DLOG_FUZZ_SEED ?= 1
DLOG_FUZZ_SECONDS ?= 600

.DEFAULT_GOAL := help
.PHONY: help setup build demo test full soak lint docs compose interop sim sim-many mutants fuzz fuzz-corpus bench fresh-machine

help: ## list the verbs
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

setup: ## check (and on Debian or Ubuntu install) what a build needs
	@scripts/setup.sh

build: setup ## build the binary, target/debug/dlog
	$(CARGO) build --locked

demo: build ## a three-node cluster that loses its leader and no record; ends by itself
	@scripts/demo.sh

test: build ## all tests, the documents' commands, the compose file and the demo
	$(CARGO) test --workspace --locked
	$(CARGO) run --locked -p dlog-sim --features mutants -- mutants --short
	$(CARGO) test --locked -p dlog-storage --features mutants --lib walk_tests::wrong
	@scripts/interop.sh
	@scripts/docs.sh
	@scripts/compose-test.sh
	@scripts/demo.sh

full: build ## the acceptance tests in their long form (takes long)
	DLOG_TEST_FULL=1 $(CARGO) test --workspace --locked

soak: build ## an hour of load, a random node restarted every 20 s (DLOG_SOAK_SECONDS=3600)
	DLOG_TEST_FULL=1 DLOG_SOAK_SECONDS=$(DLOG_SOAK_SECONDS) $(CARGO) test --workspace --locked --test cluster soak -- --nocapture

lint: setup ## formatting, clippy, dependencies and licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@scripts/deny.sh

docs: build ## run the commands of README and docs as they stand
	@scripts/docs.sh

compose: build ## bring deploy/docker-compose.yml up for real (skips where there is no engine)
	@scripts/compose-test.sh

interop: build ## batches against kafka-python, the API against a client in Python
	@scripts/interop.sh

sim: setup ## one simulated cluster: make sim SEED=42
	$(CARGO) run --locked -p dlog-sim -- --seed $(SEED)

sim-many: setup ## N simulated clusters, seeds SEED to SEED+N-1: make sim-many N=1000
	$(CARGO) run --locked -p dlog-sim -- --seed $(SEED) --count $(N)

mutants: setup ## the mutation gate: each way to do it wrong is found, by how many seeds and by whom
	$(CARGO) run --locked -p dlog-sim --features mutants -- mutants
	$(CARGO) test --locked -p dlog-storage --features mutants --lib walk_tests::wrong -- --nocapture

fuzz: setup ## damaged input for every decoder, for DLOG_FUZZ_SECONDS=600 from DLOG_FUZZ_SEED on
	DLOG_FUZZ_SEED=$(DLOG_FUZZ_SEED) DLOG_FUZZ_SECONDS=$(DLOG_FUZZ_SECONDS) $(CARGO) run --locked -p dlog-fuzz -- run

fuzz-corpus: setup ## the fuzz tests' valid inputs anew, after a change of a format
	$(CARGO) run --locked -p dlog-fuzz -- corpus

bench: setup ## storage against the raw disk (BENCH="--long --out docs/benchmarks.md"; BENCH=--help lists the rows)
	$(CARGO) run --locked --profile dist -p dlog-storage-bench -- $(BENCH)

fresh-machine: ## prove make demo and make test in a bare Debian (as root)
	@scripts/fresh-machine.sh
