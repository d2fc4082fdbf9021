# Every verb of the project. `make help` lists them.

CARGO ?= cargo
SEED ?= 1
N ?= 100

.DEFAULT_GOAL := help
.PHONY: help setup build demo test full lint tour sim sim-many fresh-machine

help: ## list the verbs
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

setup: ## check (and on Debian or Ubuntu install) what a build needs
	@scripts/setup.sh

build: setup ## build the binary, target/debug/dlog
	$(CARGO) build --locked

demo: build ## a three-node cluster that loses its leader and no record; ends by itself
	@scripts/demo.sh

test: build ## all tests, the demo and the README's tour
	$(CARGO) test --workspace --locked
	@scripts/tour.sh
	@scripts/demo.sh

full: build ## the acceptance tests in their long form (takes long)
	DLOG_TEST_FULL=1 $(CARGO) test --workspace --locked

lint: setup ## formatting, clippy, dependencies and licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@scripts/deny.sh

tour: build ## run the README's tour word for word
	@scripts/tour.sh

sim: setup ## one simulated cluster: make sim SEED=42
	$(CARGO) run --locked -p dlog-sim -- --seed $(SEED)

sim-many: setup ## N simulated clusters, seeds SEED to SEED+N-1: make sim-many N=1000
	$(CARGO) run --locked -p dlog-sim -- --seed $(SEED) --count $(N)

fresh-machine: ## prove make demo and make test in a bare Debian (as root)
	@scripts/fresh-machine.sh
