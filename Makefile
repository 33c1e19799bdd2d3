# The few commands of a working day. `make` lists them.

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

check: ## the quick check before a commit: format, lints, house rules and all tests of the bare build
	cargo fmt --check
	cargo clippy --no-default-features --all-targets -- -D warnings
	cargo test --no-default-features

test: ## everything CI checks, in both builds
	tests/run

sim: ## the simulator alone; SNAPFOLD_SIM_SEEDS sets how many seeds
	cargo test --no-default-features --test sim -- --nocapture

fuzz: ## fuzz every parser of foreign bytes; SNAPFOLD_FUZZ_SECONDS sets how long each
	fuzz/run all $${SNAPFOLD_FUZZ_SECONDS:-60}

peers: ## benchmark against a raw consumer and Kafka Streams; needs Java 17, Maven and a quiet machine
	benches/peers/run

soak: ## kill workers and servers at random; SNAPFOLD_SOAK_MINUTES sets for how long; prints a table
	tests/soak

fmt: ## format the code
	cargo fmt

.PHONY: help check test sim fuzz peers soak fmt
