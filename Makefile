# The two commands of the README are `make run` and `make test`. Everything here
# works on a machine with Go, git, make and gcc (gcc for the race detector only).

GO ?= go
export GOFLAGS ?= -buildvcs=auto
GOLANGCI_LINT_VERSION := v2.15.0
# A count: with a time, Go 1.26 may call the end of it a failure (go.dev/issue/75804).
FUZZTIME ?= 100000x

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-zA-Z_-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## Train on the embedded digits: 2 workers, CPU, about a minute
	$(GO) run ./cmd/agrdist run

.PHONY: build
build: ## Build the static binary ./agrdist
	CGO_ENABLED=0 $(GO) build -trimpath -tags grpcnotrace -o agrdist ./cmd/agrdist

.PHONY: cuda
cuda: ## Build BIN=FILE for NVIDIA GPUs (needs gcc, fetches cuda.h; GOARCH=arm64 for Grace)
	@[ -n "$(BIN)" ] || { echo "usage: make cuda BIN=FILE [GOARCH=arm64]" >&2; exit 2; }
	bash -c '. hack/cuda-env.sh && GOOS=linux $(GO) build -trimpath -tags cuda,grpcnotrace -o "$(BIN)" ./cmd/agrdist'

.PHONY: cuda-check
cuda-check: ## Check the GPU build on doubles of NVIDIA's libraries, without a GPU
	hack/cuda-check.sh

.PHONY: test
test: ## Run all tests with the race detector (about 12 minutes on 2 cores)
	hack/test.sh

.PHONY: quickstart-check
quickstart-check: ## Check that make run trains digits that can be read (a minute)
	hack/quickstart-check.sh

SCHEDULES ?= 10000
SEED ?= 1

.PHONY: simulate
simulate: ## Run SCHEDULES random schedules of faults (default 10000) of the control plane
	$(GO) test ./cluster/simulate -run 'Schedules|Planted' -schedules $(SCHEDULES) -seed $(SEED) -timeout 30m -v

MINUTES ?= 2

.PHONY: chaos
chaos: ## Three nodes in network namespaces under random faults for MINUTES (root; default 2)
	CHAOS_MINUTES=$(MINUTES) $(GO) test ./cmd/agrdist -run '^TestChaos$$' -v -timeout 2h

TIMES ?= 3

.PHONY: reliability
reliability: build ## Break real runs, measure it, write docs/reliability.md (root; ROWS=REGEXP: only show)
	$(GO) run ./hack/reliability $(if $(ROWS),-rows '$(ROWS)',-times $(TIMES) -write docs/reliability.md) ./agrdist

.PHONY: lint
lint: ## Run golangci-lint, and find exports without a caller
	hack/lint.sh $(GOLANGCI_LINT_VERSION)

.PHONY: generate
generate: ## Regenerate the generated code (protobuf, assembly)
	hack/generate.sh

.PHONY: generated
generated: ## Check that generated code is up to date
	hack/generate.sh --check

.PHONY: fuzz
fuzz: ## Fuzz every parser with FUZZTIME inputs (default 100000x) each
	hack/fuzz.sh $(FUZZTIME)

.PHONY: cross
cross: ## Build for linux/amd64, linux/arm64 and darwin/arm64
	for target in linux/amd64 linux/arm64 darwin/arm64; do \
	  echo $$target; GOOS=$${target%/*} GOARCH=$${target#*/} CGO_ENABLED=0 $(GO) build ./... || exit 1; done

.PHONY: release
release: ## Build the archives of VERSION=1.2.3 into dist/ (reproducible; TARGETS chooses)
	hack/release.sh "$(VERSION)" dist

.PHONY: release-check
release-check: ## Build a release twice and compare the bytes
	hack/release-check.sh

.PHONY: arm64-check
arm64-check: ## Check the arm64 kernels under qemu-user (skipped where there is none)
	hack/arm64-check.sh

.PHONY: manifests
manifests: ## Validate deploy/k8s with kubeconform -strict
	hack/manifests.sh

.PHONY: paper-small
paper-small: ## The paper's comparison on digits: 9 methods, tuned, 5 seeds (STEPS=N shortens)
	$(GO) run ./cmd/agrdist compare configs/experiments/paper-small.yaml \
	  $(if $(STEPS),--steps $(STEPS) --tune-steps $(STEPS) --at $(STEPS) -n 100 --out runs/paper-small-$(STEPS))

.PHONY: e2e-web
e2e-web: ## Drive the page in Chromium, read tb/ with TensorBoard, scrape with Prometheus
	hack/e2e-web.sh

.PHONY: e2e
e2e: ## Apply deploy/k8s to a real Kubernetes on this machine and break things (root)
	hack/e2e-k8s.sh $(E2E)

.PHONY: bench-status
bench-status: build ## What watching a run costs: 200 pairs of 50 steps, 10 pairs of runs, 200 clients (20 minutes)
	$(GO) test ./worker -run '^$$' -bench Watching -benchtime 200x -timeout 1h
	$(GO) run ./hack/benchstatus ./agrdist

.PHONY: bench
bench: ## Short benchmarks of step and all-reduce
	$(GO) run ./cmd/agrdist bench step --steps 5
	$(GO) run ./cmd/agrdist bench allreduce -e 16M

.PHONY: clean
clean: ## Remove what builds and runs left (runs/ too)
	rm -rf agrdist bin dist runs
