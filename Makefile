# `make help` lists what there is. Everything here needs Go, make and, for
# `race`, a C compiler; the tools are built from the modules under tools/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
BIN := $(CURDIR)/bin

# Commands as far as they are there, and the hand-written modules beside the main one.
COMMANDS := $(patsubst %/main.go,./%,$(wildcard cmd/*/main.go examples/*/main.go))
MODULES := tools/protogen test/interop test/chaos

LINT := $(GO) tool -modfile=$(CURDIR)/tools/golangci-lint/go.mod golangci-lint
VULN := $(GO) tool -modfile=$(CURDIR)/tools/govulncheck/go.mod govulncheck

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build all packages, and the commands into bin/.
	$(GO) build ./...
	$(if $(COMMANDS),$(GO) build -o $(BIN)/ $(COMMANDS))

.PHONY: run
run: build ## Run a swarm of this machine with examples/hello; Ctrl-C stops both.
	@exec examples/run

.PHONY: dev
dev: build ## Run three managers and two workers on this machine; Ctrl-C stops all.
	@exec examples/dev

.PHONY: test
test: ## Run the tests (minutes; needs Go only).
	$(GO) test ./...

.PHONY: race
race: ## Run the tests under the race detector.
	CGO_ENABLED=1 $(GO) test -race -timeout=30m ./...

.PHONY: interop
interop: build ## Check against the public SwarmKit module, and drive our binaries with it.
	$(GO) build -o $(BIN)/ ./internal/recode
	cd test/interop && SKEP_BIN=$(BIN) $(GO) test -count=1 ./...

CHAOS = cd test/chaos && CHAOS_ROUNDS=$(1) $(GO) test -count=1 -v -failfast

.PHONY: chaos
chaos: build ## Kill, stop and cut off leaders of real swarms, 50 times each (needs root, ip, nft).
	$(call CHAOS,$${CHAOS_ROUNDS:-50}) -timeout=0 .

.PHONY: chaos-short
chaos-short: build ## The same in three minutes: 3 times each.
	$(call CHAOS,$${CHAOS_ROUNDS:-3}) -short -timeout=15m .

.PHONY: bench
bench: build ## Measure a manager against its promises, then the benchmarks beside the code.
	$(BIN)/swarmbench suite --swarmd $(BIN)/swarmd
	SKEP_SESSIONS=1000000 $(GO) test -count=1 -v -run=TestNothingIsLeftOfSessions ./rpc/dispatcher
	$(GO) test -run='^$$' -bench=. -benchmem ./...

.PHONY: vet
vet: ## Run go vet on every module.
	$(GO) vet ./...
	for m in $(MODULES); do (cd $$m && $(GO) vet ./...); done

.PHONY: lint
lint: ## Run golangci-lint on every module (its first build takes a minute or two).
	$(LINT) run ./...
	for m in $(MODULES); do (cd $$m && $(LINT) run ./...); done

.PHONY: check
check: build vet lint test ## What must pass before a commit: build, vet, lint, test.

.PHONY: generate
generate: ## Write api/**/*.pb.go from the .proto files beside them.
	$(GO) run -C tools/protogen . ../..

.PHONY: vuln
vuln: ## Look for known vulnerabilities (needs the network; no part of check).
	$(VULN) ./...

.PHONY: clean
clean: ## Remove what build made.
	rm -rf $(BIN)
