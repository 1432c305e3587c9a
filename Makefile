# The few commands of this repository. Each works alone on a fresh machine: it first installs what is missing.
#
# Everything is built with the dev profile: it is ready much sooner than an optimised build (one codegen unit, LTO), it is
# the same build that `make test` needs, and a demonstration is not a measurement. `make release` is for real traffic.

# Where rustup installs, also before the shell was restarted.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test interop bench bench-instructions bench-peers simulate release check ci

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/make \1\t\2/p' Makefile | expand -t 26

setup: ## install what the build needs and this machine lacks
	@.ci/setup

demo: setup ## four versions of a service, Weir before them, load, and a play of three rollouts
	cargo build --locked
	@cargo run --quiet --locked -- demo

test: setup ## the whole test-suite: units, doctests and the real binary on real sockets
	cargo test --locked

interop: setup ## grpcio, httpx, h2, curl and Node.js over the real binary; 3 minutes; its packages go below target/
	cargo build --locked
	@tests/interop/run

bench: setup ## the benchmarks, with figures
	cargo bench --locked

bench-peers: setup ## Weir beside HAProxy, nginx and Envoy under the same load; installs them; some two hours
	@.ci/peers
	cargo bench --locked --bench peers -- run

bench-instructions: setup ## instructions per request, beside the kept figures; fails where one is 3 % above
	@.ci/valgrind
	cargo bench --locked --bench instructions -- --check

ROLLOUTS ?= 1000
SEED ?= 1
simulate: setup ## how rollouts end in simulated traffic, by the thousand (ROLLOUTS=1000 SEED=1 ONLY=name PLAN=name)
	WEIR_SIMULATE_ROLLOUTS=$(ROLLOUTS) WEIR_SIMULATE_SEED=$(SEED) WEIR_SIMULATE_ONLY="$(ONLY)" WEIR_SIMULATE_PLAN="$(PLAN)" \
		cargo test --locked --profile simulate --lib -- --ignored --nocapture simulation::table

release: setup ## the optimised binary, target/release/weir
	cargo build --release --locked

check: setup ## format and lints only
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

ci: ## everything a change must pass
	bash .ci/run
