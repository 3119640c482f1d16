# `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin
PYTHON ?= python3
BIN := .venv/bin
OVERLAY ?= quick-start
DEBIAN := tcpdump tshark iperf3 iproute2 iputils-ping util-linux openssl
TESTED := iperf traceroute ethtool bpftrace

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: install
install: .venv/ready ## The snoopy command in .venv, from locked versions: source .venv/bin/activate

KERNEL := analysis/kernel/Cargo.toml $(wildcard analysis/kernel/src/*.rs)

.venv/ready: pyproject.toml constraints.txt $(KERNEL) | rust
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 is needed, or a newer one: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --requirement constraints.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: rust
rust: ## Rust's cargo, 1.63 or newer, which builds the kernel; Debian's where it is missing (as root)
	@command -v cargo >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq cargo \
	  </dev/null >/dev/null; } || { echo "cargo is needed, 1.63 or newer: apt-get install cargo, or rustup.rs"; exit 1; }

# $(call installed,COMMANDS,PACKAGES): where a command is missing, install the packages
installed = for program in $(1); do command -v $$program >/dev/null && continue; \
	  echo "installing $(2)"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(2) \
	  </dev/null >/dev/null || { echo "this needs root on a Debian, or these programs: $(2)"; exit 1; }; break; done

.PHONY: programs
programs: ## Install the Debian packages of the programs that demo and test run, where one is missing (as root)
	@$(call installed,tcpdump tshark iperf3 ip ping nsenter openssl,$(DEBIAN))

.PHONY: tools
tools: programs ## The same for what podtracer can run
	@$(call installed,$(TESTED),$(TESTED))

.PHONY: demo
demo: .venv/ready programs ## Three small hosts on this machine, one campaign, one report: reports/demo/report.html
	rm -rf reports/demo
	$(BIN)/python examples/demo.py reports/demo

.PHONY: test
test: .venv/ready tools check ## Everything that needs no cluster (root runs the tests in network namespaces, too)
	$(BIN)/pytest --ignore=tests/cluster

.PHONY: bench
bench: .venv/ready programs ## Compare with other tools, and write docs/benchmarks.md (as root, for tcptrace; half an hour)
	$(BIN)/python -m tests.bench.compare --out docs/benchmarks.md

.PHONY: check
check: .venv/ready ## Style, types and the layers workflows > steps > analysis
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@cd analysis/kernel && for each in "fmt --check" "clippy --release --quiet -- -D warnings"; do \
	  ! cargo $${each%% *} --version >/dev/null 2>&1 || cargo $$each || exit 1; done

.PHONY: format
format: .venv/ready ## Format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: manifests
manifests: .venv/ready ## Write the WorkflowTemplate for deploy, and with kubectl the Helm chart's templates
	$(BIN)/snoopy manifests
	$(BIN)/python deploy/chart/generate.py

.PHONY: lock
lock: .venv/ready ## Renew the locked versions in constraints.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --output-file constraints.txt pyproject.toml

KUBERNETES := $(PYTHON) tests/cluster/local
BUILDER ?= docker

.PHONY: images
images: ## Build the two images with docker, or with BUILDER=podman
	$(BUILDER) build --file deploy/Dockerfile --target capture --tag localhost/snoopy-capture:dev .
	$(BUILDER) build --file deploy/Dockerfile --target snoopy --tag localhost/snoopy:dev .

.PHONY: deploy
deploy: ## Install on the cluster of the current kubeconfig; OVERLAY=s3 for a store of your own
	@kubectl get crd workflows.argoproj.io -o name >/dev/null || { echo "Argo Workflows is not installed \
	on this cluster, or the cluster cannot be reached: see argo-workflows.readthedocs.io/en/stable/quick-start"; exit 1; }
	@kubectl get validatingadmissionpolicies -o name >/dev/null || { echo "Kubernetes 1.30 or newer is needed: who may \
	capture is decided by a ValidatingAdmissionPolicy"; exit 1; }
	kubectl apply --server-side --force-conflicts -k deploy/overlays/$(OVERLAY)
	@for each in $$(kubectl -n snoopy-operator get deployment -o name); do \
	  kubectl -n snoopy-operator rollout status $$each --timeout=180s || exit 1; done

.PHONY: undeploy
undeploy: ## Remove everything that deploy installed; campaigns of resources are stopped and reported first
	@for kind in tcpdumps.pcap snoopyjobs.job snoopydataendpoints.data; do \
	  ! kubectl get crd $$kind.fennecproject.io >/dev/null 2>&1 || \
	  kubectl delete $$kind.fennecproject.io --all --all-namespaces --timeout=900s || exit 1; done
	kubectl delete --ignore-not-found -k deploy/overlays/$(OVERLAY)

.PHONY: cluster
cluster: ## A two-node cluster on this machine (root and Go; the first time it compiles for 12 minutes)
	$(KUBERNETES) up

.PHONY: cluster-images
cluster-images: ## Build the two images and load them on the nodes of make cluster
	$(KUBERNETES) image localhost/snoopy-capture:dev . --file deploy/Dockerfile --target capture
	$(KUBERNETES) image localhost/snoopy:dev . --file deploy/Dockerfile --target snoopy

.PHONY: cluster-test
cluster-test: .venv/ready tools cluster cluster-images ## The tests on that cluster; on yours: KUBECONFIG=... pytest tests/cluster
	eval "$$($(KUBERNETES) env)" && SNOOPY_REQUIRE_CLUSTER=1 $(BIN)/pytest tests/cluster \
	  $(addprefix tests/workflows/test_,campaign.py examples.py schedule.py tunnel.py)

.PHONY: cluster-down
cluster-down: ## Stop that cluster and leave no trace but its programs and state
	$(KUBERNETES) down
