# `make help` lists the targets.

VERSION ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),unknown)
GO      ?= go
GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION   := v1.9.0

# The name and the architectures of the image that `make image-tar` makes: the chart's.
IMAGE       ?= docker.io/library/nftproxy:$(shell sed -n 's/^appVersion: //p' deploy/chart/Chart.yaml)
IMAGE_ARCHS ?= amd64 arm64

# What `make release` builds for, where the image and the chart will be, and the commit's time, which all files have.
RELEASE_TARGETS ?= linux/amd64 linux/arm64 linux/arm linux/ppc64le linux/s390x linux/riscv64 darwin/amd64 darwin/arm64
REGISTRY        ?= ghcr.io/nftproxy
RELEASE_OUT     ?= $(CURDIR)/dist/release
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)
# Settings of somebody's machine that would change the bytes.
RELEASE_ENV     := GOTOOLCHAIN=$(shell sed -n 's/^toolchain //p' go.mod) GOFLAGS= GOEXPERIMENT= GOAMD64=v1 GOARM=7 GOARM64=v8.0 GOPPC64=power8 GORISCV64=rva20u64

# Flags for `go test`, for `go test -bench` and for the demo.
TEST_FLAGS  ?=
BENCH_FLAGS ?=
DEMO_FLAGS  ?=

# How long `make fuzz` tries each reader.
FUZZ_TIME   ?= 20s

# Which of Debian's kernels `make kernels` boots, and further options of it.
KERNELS       ?= 5.10,6.1,6.12,newest
KERNELS_FLAGS ?=
KERNELS_QUICK := nfnetlinktest,conntrack,lock=^Test[^U],kernel=^(TestAdoption|TestRefused|TestStatements|TestWatch)$$,packets=^(TestAffinityToPorts|TestOwnershipComesAndGoes|TestRestart|TestRoundRobinKeepsItsTurn|TestSCTPAssociations|TestSCTPMultihoming|TestSCTPRefusal)$$

# How long `make soak` goes on, further options of it, and how far it walks over the model.
MINUTES     ?= 20
SOAK_FLAGS  ?=
MODEL_STEPS ?= 1000000

FLAKY_COUNT    ?= 20
FLAKY_PACKAGES ?= ./...

BUILD    := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'
LINTER   := bin/tools/golangci-lint-$(GOLANGCI_LINT_VERSION)
# Modules of their own, apart because of what they require; ./... does not enter them.
NESTED   := $(patsubst %/go.mod,%,$(wildcard e2e/*/go.mod deploy/*/go.mod))
# Packages that must compile on systems other than Linux.
PORTABLE := ./cmd/nftproxy ./rules ./rules/tracer ./rules/rulestest

.DELETE_ON_ERROR:
.PHONY: FORCE all build image-tar release release-twice release-sign release-push site manifests demo test fuzz flaky kernels kernels-quick faults race e2e e2e-cluster cluster-programs e2e-release e2e-rollouts e2e-upstream e2e-versions e2e-ui bench bench-compare bench-micro soak lint vulncheck shape cross clean help

all: build ## The same as build

build: ## Build bin/nftproxy, a static program
	$(BUILD) -o bin/nftproxy ./cmd/nftproxy

# An OCI archive for `ctr images import`, `podman load` and `docker load`; no container engine makes it.
image-tar: ## Make dist/nftproxy-image.tar, the image for amd64 and arm64
	for arch in $(IMAGE_ARCHS); do GOARCH=$$arch GOOS=linux $(BUILD) -o dist/nftproxy-linux-$$arch ./cmd/nftproxy || exit 1; done
	cd e2e/image && $(GO) run ./build -name $(IMAGE) -version $(VERSION) -o $(CURDIR)/dist/nftproxy-image.tar \
		$(foreach arch,$(IMAGE_ARCHS),$(arch)=$(CURDIR)/dist/nftproxy-linux-$(arch))
	@ls -l dist/nftproxy-image.tar

# The same commit gives the same bytes, with the same version of Go: go.mod's toolchain. DIRTY=1 packs what is not committed.
release: ## Make dist/release: archives, packages, image, chart, manifests, bills of materials, checksums (VERSION=v0.1.0)
	@if [ -z "$(DIRTY)" ] && [ -n "$$(git status --porcelain)" ]; then \
		echo 'release: this checkout is not a commit: commit first, or try with DIRTY=1' >&2; exit 1; fi
	rm -rf dist/build
	@set -e; for target in $(RELEASE_TARGETS); do dir=dist/build/$$(echo $$target | tr / _); echo "build $$dir/nftproxy"; \
		GOOS=$${target%/*} GOARCH=$${target#*/} $(RELEASE_ENV) $(BUILD) -o $$dir/nftproxy ./cmd/nftproxy; done
	cd deploy/release && $(GO) run . pack -version $(VERSION) -commit $$(git rev-parse HEAD) -time $(SOURCE_DATE_EPOCH) \
		-registry $(REGISTRY) -root $(CURDIR) -binaries $(CURDIR)/dist/build -out $(RELEASE_OUT)
	@ls -l $(RELEASE_OUT)

# Two clones of the commit in folders of other names, each with empty caches. Modules come from this machine's own cache first, as archives:
# go.sum has their sums.
release-twice: ## Make the release twice, from clean clones and caches, and compare all bytes (20 minutes; VERSION=v0.1.0; RELEASE_TARGETS=linux/amd64: fewer)
	rm -rf dist/twice; mkdir -p dist/twice
	set -e; export GOPROXY=file://$$($(GO) env GOMODCACHE)/cache/download,$$($(GO) env GOPROXY); \
	for clone in first the-second; do git clone -q . dist/twice/$$clone; \
		export GOCACHE=$(CURDIR)/dist/twice/$$clone-cache GOMODCACHE=$(CURDIR)/dist/twice/$$clone-modules; \
		$(MAKE) -C dist/twice/$$clone release VERSION=$(VERSION) RELEASE_TARGETS='$(RELEASE_TARGETS)' REGISTRY=$(REGISTRY); \
		$(GO) clean -modcache; rm -rf $$GOCACHE $$GOMODCACHE; done
	diff -r dist/twice/first/dist/release dist/twice/the-second/dist/release
	@echo 'release-twice: all bytes are the same'; cat dist/twice/first/dist/release/SHA256SUMS

# cosign signs with the key in COSIGN_KEY (and COSIGN_PASSWORD). Without one there is no signature, and that is said.
release-sign: ## Sign dist/release/SHA256SUMS with cosign, where a key is in COSIGN_KEY
	@if [ -z "$$COSIGN_KEY" ]; then echo 'release-sign: no key is there (COSIGN_KEY): SHA256SUMS is not signed'; \
	elif ! command -v cosign >/dev/null; then echo 'release-sign: a key is there, but no cosign: install it' >&2; exit 1; \
	else cosign sign-blob --yes --key env://COSIGN_KEY --bundle dist/release/SHA256SUMS.sigstore.json dist/release/SHA256SUMS; fi

release-push: ## Publish the image, its bills of materials and the chart of dist/release, as whoever is logged in
	cd deploy/release && $(GO) run . push -from $(CURDIR)/dist/release

# dist/readme.html is the README as GitHub shows it, to be looked at.
site: ## Make dist/site, a static site of the README and docs/
	rm -rf dist/site
	cd deploy/site && $(GO) run . -root $(CURDIR) -out $(CURDIR)/dist/site && $(GO) run . -root $(CURDIR) -readme $(CURDIR)/dist/readme.html
	@ls dist/site | wc -l | xargs echo 'files in dist/site:'

manifests: ## Render deploy/nftproxy.yaml from deploy/chart
	cd e2e/chart && $(GO) run ./render $(CURDIR)/deploy/chart $(CURDIR)/deploy/nftproxy.yaml

demo: build ## Show nftproxy at work in network namespaces (DEMO_FLAGS=--keep leaves them up)
	$(BUILD) -o bin/demo ./e2e/demo
	bin/demo --bin bin/nftproxy $(DEMO_FLAGS)

# A test whose tool (such as nft) is missing skips, and says so; with
# NFTPROXY_REQUIRE_TOOLS=1 in the environment it fails.
# Without cgo, as the program is built: with it nftproxy cannot give up rights.
test: ## Run all tests that need no cluster, as root or not
	CGO_ENABLED=0 $(GO) test -timeout 40m $(TEST_FLAGS) ./...

# Readers of what others write. What they find goes to testdata/fuzz, as a test; see `go doc testing.F`. Where the time is over just as an
# input is tried, Go before 1.27 calls that a failure, with no input to show for it: go.dev/issue/75804.
fuzz: ## Feed each reader (manifests, configuration, netlink messages, names) with odd input for FUZZ_TIME
	@set -e; log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	grep -rno '^func Fuzz[A-Za-z]*' --include='*_test.go' cmd conntrack nfnetlink printable proxier rules | while IFS=: read -r file _ func; do \
		echo "$$(dirname $$file) $${func#func }"; failed=; \
		$(GO) test ./$$(dirname $$file) -run '^$$' -fuzz "^$${func#func }$$" -fuzztime $(FUZZ_TIME) -fuzzminimizetime 100x >"$$log" 2>&1 || failed=yes; \
		cat "$$log"; \
		[ -z "$$failed" ] || { grep -q '^    context deadline exceeded$$' "$$log" && ! grep -q testdata/fuzz "$$log"; } || exit 1; done

# Fails for every test that does not pass each time, and says how often.
flaky: ## Run every test FLAKY_COUNT times (20), idle and beside a load of twice the processors (hours; FLAKY_PACKAGES=./e2e/traffic: less)
	$(GO) run ./e2e/flaky -count $(FLAKY_COUNT) $(FLAKY_PACKAGES)

# Takes no root and no KVM. As root it installs what is missing here, with apt-get: it says what that is.
KERNELS_RUN := bin/boot-kernels -version $(VERSION) -install
bin/boot-kernels: FORCE
	CGO_ENABLED=0 $(GO) build -o $@ ./e2e/kernels
FORCE:

kernels: bin/boot-kernels ## Boot Debian's kernels in emulated machines, run the tests and the demo in each, write the table in docs/reliability.md (hours; KERNELS=6.1: one)
	$(KERNELS_RUN) -series $(KERNELS) -write docs/reliability.md $(KERNELS_FLAGS)

# Exits with 3 where a kernel cannot be had.
kernels-quick: bin/boot-kernels ## Run a part of the same with an old and a new kernel (8 minutes)
	$(KERNELS_RUN) -series 5.10,6.12 -sctp yes -suites '$(KERNELS_QUICK)' $(KERNELS_FLAGS)

# FAULTS=part does less; FAULTS_PAGE= prints the table only. Each file of e2e/faults names its faults.
FAULTS      ?= all
FAULTS_PAGE ?= docs/reliability.md
faults: ## Do all that may go wrong to nftproxy with traffic running, and write down what became of it, as root (half an hour; FAULTS=part: 8 minutes)
	rm -f bin/faults.jsonl; mkdir -p bin
	failed=; export NFTPROXY_FAULTS=$(FAULTS) NFTPROXY_FAULTS_RESULTS=$(CURDIR)/bin/faults.jsonl; \
	CGO_ENABLED=0 $(GO) test -timeout 90m -count 1 -parallel 1 $(TEST_FLAGS) ./e2e/faults || failed=1; \
	CGO_ENABLED=0 $(GO) test -timeout 20m -count 1 -run 'Fault|ShortAttr|Missing' $(TEST_FLAGS) ./rules/kernel || failed=1; \
	(cd e2e/controlplane && $(GO) test -vet=off -timeout 60m -count 1 -run 'TestAPIFaults|TestBitFlips|TestAPIRestarts|TestMigration' $(TEST_FLAGS) .) || failed=1; \
	$(GO) run ./e2e/faults/report -version $(VERSION) -o "$(FAULTS_PAGE)" bin/faults.jsonl && test -z "$$failed"

race: ## Run the tests of what has goroutines with the race detector (it needs a C compiler)
	$(GO) test -race -timeout 40m $(TEST_FLAGS) ./cmd/... ./proxier/... ./rules ./rules/inspect ./conntrack ./nfnetlink/...

e2e: build bin/kube-proxy ## Run the tests against a real kube-apiserver, as root (its first build takes minutes)
	cd e2e/image && $(GO) test -count 1 $(TEST_FLAGS) ./...
	cd deploy/release && $(GO) test -count 1 $(TEST_FLAGS) ./...
	cd deploy/site && $(GO) test -count 1 $(TEST_FLAGS) ./...
	cd e2e/chart && $(GO) test -count 1 $(TEST_FLAGS) ./...
	cd e2e/metrics && $(GO) test -count 1 $(TEST_FLAGS) ./...
	cd e2e/controlplane && $(GO) test -timeout 40m -count 1 $(TEST_FLAGS) ./...
	cd e2e/bench && $(GO) test -timeout 40m -count 1 $(TEST_FLAGS) ./...
	cd e2e/soak && $(GO) test -timeout 40m -count 1 $(TEST_FLAGS) ./...

# The servers are those of e2e/controlplane/versions, built from the file of requirements of their version; those of the newest version are
# e2e/controlplane's own. The servers say which version they are, as released ones do.
VERSIONS      ?= 1.35 1.36 1.37
VERSION_TESTS ?= ^(TestControlPlane|TestVersion|TestNftproxy|TestRBAC|TestAPIRestarts)$$
e2e-versions: ## Run tests against API servers of three minor versions of Kubernetes, as root (the first build of each takes 20 minutes; VERSIONS=1.36: one)
	mkdir -p bin
	@failed=; for v in $(VERSIONS); do \
		case $$v in 1.37) mod=go.mod;; 1.36) mod=versions/go.mod;; *) mod=versions/go-$$v.mod;; esac; \
		version=$$(sed -n 's/^.*k8s.io\/kubernetes v//p' e2e/controlplane/$$mod); echo "Kubernetes $$version"; \
		flags="-s -w -X k8s.io/component-base/version.gitVersion=v$$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$${v#1.}"; \
		servers=; if [ $$v != 1.37 ]; then servers=$(CURDIR)/bin/servers-$$v; \
			(cd e2e/controlplane/versions && $(GO) build -modfile=$${mod#versions/} -ldflags "$$flags" -o $$servers .) || { failed="$$failed $$v"; continue; }; fi; \
		(cd e2e/controlplane && NFTPROXY_SERVERS=$$servers NFTPROXY_SERVERS_VERSION=$$version $(GO) test -vet=off -ldflags "$$flags" \
			-timeout 40m -count 1 -run '$(VERSION_TESTS)' $(TEST_FLAGS) .) || failed="$$failed $$v"; \
	done; test -z "$$failed" || { echo "failed with Kubernetes$$failed"; exit 1; }

e2e-ui: ## Test the page of 'nftproxy ui' in a headless Chromium, as root
	cd e2e/ui && $(GO) test -timeout 20m -count 1 $(TEST_FLAGS) ./...

# containerd, its tools and the test server go to bin/cluster. kubelet and the control plane are in the test itself.
CONTAINERD := github.com/containerd/containerd/v2/cmd
CLUSTER    := $(CURDIR)/bin/cluster
e2e-cluster: build bin/kube-proxy cluster-programs ## Run whole clusters in namespaces, with kubelets and containerd, as root (the first build takes 20 minutes)
	cd e2e/cluster && $(GO) test -vet=off -ldflags '-s -w' -timeout 40m -count 1 $(TEST_FLAGS) .

# The table goes to bin/rollouts.md, for docs/operations.md.
ROLLOUTS ?= 2
e2e-rollouts: build bin/kube-proxy cluster-programs ## Measure what rolling updates cost connections with nftproxy and kube-proxy, as root (3 minutes for each of ROLLOUTS=2)
	cd e2e/cluster && NFTPROXY_ROLLOUTS=$(ROLLOUTS) NFTPROXY_ROLLOUTS_TABLE=bin/rollouts.md \
		$(GO) test -vet=off -ldflags '-s -w' -timeout 2h -count 1 -run '^TestRollouts$$' -v $(TEST_FLAGS) .

cluster-programs:
	$(MAKE) image-tar IMAGE_ARCHS=$$($(GO) env GOARCH)
	mkdir -p bin/cluster
	cd e2e/cluster && CGO_ENABLED=0 $(GO) build -ldflags '-s -w' -o $(CLUSTER)/ ./server
	cd e2e/cluster && $(GO) build -ldflags '-s -w' -o $(CLUSTER)/ $(addprefix $(CONTAINERD)/,containerd containerd-shim-runc-v2 ctr)
	cd e2e/image && $(GO) run ./testimages -o $(CLUSTER)/images.tar $(CLUSTER)/server

# A release of this checkout for this machine's architecture, and what somebody installs it with: Helm and kubectl. The servers say which
# version they are, as released ones do: Helm asks.
RELEASED := $(CLUSTER)/release
e2e-release: build bin/kube-proxy cluster-programs ## Install, upgrade and roll back a release's chart with Helm on such a cluster, as root
	$(MAKE) release DIRTY=1 VERSION=v0.0.0-e2e REGISTRY=registry.test/e2e RELEASE_TARGETS=linux/$$($(GO) env GOARCH) RELEASE_OUT=$(RELEASED)
	cd e2e/chart && $(GO) build -ldflags '-s -w' -o $(CLUSTER)/ helm.sh/helm/v3/cmd/helm
	cd e2e/cluster && $(GO) build -ldflags '-s -w' -o $(CLUSTER)/ $(KUBERNETES)/cmd/kubectl
	cd e2e/cluster && NFTPROXY_RELEASE=$(RELEASED) $(GO) test -vet=off -timeout 20m -count 1 -run '^TestRelease$$' $(TEST_FLAGS) \
		-ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$($(GO) list -m -f '{{.Version}}' $(KUBERNETES))" .

# The specs are in e2e/upstream/specs.tsv. UPSTREAM=part is for every change, and has its results in bin/upstream-part;
# a run of all, or of what is on one of the clusters (two, balanced, six), in bin/upstream.
UPSTREAM       ?= all
UPSTREAM_FLAGS ?=
UPSTREAM_OUT   := bin/upstream$(if $(filter part,$(UPSTREAM)),-part)
UPSTREAM_PAGE  ?= $(if $(filter part,$(UPSTREAM)),,docs/conformance.md)
PROXY          ?= nftproxy
KUBERNETES     := k8s.io/kubernetes
e2e-upstream: build bin/kube-proxy cluster-programs ## Run Kubernetes' own sig-network specs, as root, and write docs/conformance.md (UPSTREAM=part: 30 specs; PROXY=kube-proxy: with that)
	cd e2e/dns && $(GO) build -ldflags '-s -w' -o $(CLUSTER)/dns .
	cd e2e/cluster && $(GO) build -ldflags '-s -w' -o $(CLUSTER)/ ./upstream $(addprefix $(KUBERNETES)/,cmd/kubectl test/images/agnhost test/images/regression-issue-74839)
	cd e2e/cluster && $(GO) test -vet=off -ldflags '-s -w' -c -o $(CLUSTER)/e2e.test ./upstream/specs
	porter=$$(cd e2e/cluster && $(GO) list -m -f '{{.Dir}}' $(KUBERNETES))/test/images/agnhost/porter && \
	cd e2e/image && $(GO) run ./upstreamimages -bin $(CLUSTER) -porter $$porter -o $(CLUSTER)/upstream.tar
	failed=; bin/cluster/upstream -bin bin/cluster -images bin/cluster/images.tar,bin/cluster/upstream.tar,dist/nftproxy-image.tar \
		-proxy $(PROXY) -select $(UPSTREAM) -out $(UPSTREAM_OUT) $(UPSTREAM_FLAGS) || failed=1; \
	$(GO) run ./e2e/upstream/report -version $(VERSION) -o "$(UPSTREAM_PAGE)" $(UPSTREAM_OUT) && test -z "$$failed"

bench-micro: ## Run the Go benchmarks, of single packages and of large clusters (e2e/scale)
	$(GO) test -run '^$$' -bench . $(BENCH_FLAGS) ./rules/... ./proxier/... ./conntrack/... ./e2e/scale

# QUICK=1 measures less; RESUME=1 goes on with an interrupted run.
bench: build bin/kube-proxy ## Compare nftproxy with kube-proxy in both modes, as root (35 minutes; QUICK=1: 5; RESUME=1 goes on); ends with a short soak
	cd e2e/bench && $(GO) build -o $(CURDIR)/bin/bench .
	cd e2e/soak && $(GO) build -o $(CURDIR)/bin/soak .
	bin/bench $(if $(QUICK),-quick) $(if $(RESUME),-resume) $(BENCH_FLAGS)
	bin/soak $(if $(QUICK),-smallest,-minutes 2) -out bench-report/soak

# Kubernetes' own, from its source.
bin/kube-proxy: e2e/bench/go.mod
	cd e2e/bench && $(GO) build -ldflags '-s -w' -o $(CURDIR)/$@ ./kubeproxy

# Without OLD and NEW the last run is compared with the results in the repository.
bench-compare: OLD ?= e2e/bench/results/results.json
bench-compare: NEW ?= bench-report/results.json
bench-compare: ## Say what got slower between two runs: OLD=FILE NEW=FILE, each a results.json
	cd e2e/bench && $(GO) build -o $(CURDIR)/bin/bench .
	bin/bench compare $(OLD) $(NEW)

# SOAK_FLAGS='-out e2e/soak/results -page docs/reliability.md' renews what the repository has of it.
soak: build ## Run nftproxy for MINUTES (20) under changes, traffic, tampering and restarts of the API server, as root; a report
	cd e2e/soak && $(GO) build -o $(CURDIR)/bin/soak .
	bin/soak -minutes $(MINUTES) $(SOAK_FLAGS)
	MODEL_STEPS=$(MODEL_STEPS) CGO_ENABLED=0 $(GO) test -count 1 -timeout 6h ./proxier -run '^TestModelWalk$$'

lint: $(LINTER) ## Check format, go vet, golangci-lint and who imports whom
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "run gofmt -w on:" $$files >&2; exit 1; fi
	$(GO) vet ./...
	$(LINTER) run
	@set -e; for dir in $(NESTED); do echo "cd $$dir && $(GO) vet ./..."; (cd $$dir && $(GO) vet ./...); done

$(LINTER):
	GOBIN=$(CURDIR)/bin/tools CGO_ENABLED=0 $(GO) install -trimpath github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv bin/tools/golangci-lint $@

# The database of vulnerabilities is on the network. Where it cannot be reached this says so, and does not fail.
vulncheck: ## Look for known vulnerabilities in what nftproxy calls (it asks vuln.go.dev)
	@mkdir -p bin; if $(GO) run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION) ./cmd/... > bin/vulncheck.log 2>&1; then cat bin/vulncheck.log; \
	elif grep -qE 'dial tcp|no such host|connection refused|i/o timeout|proxyconnect|unexpected EOF|HTTP GET .*(40[0-9]|50[0-9])' bin/vulncheck.log; then \
		echo "vulncheck: not run: the database cannot be reached: $$(grep ^govulncheck: bin/vulncheck.log)"; \
	else cat bin/vulncheck.log >&2; exit 1; fi

shape: ## Count the largest structs, types, files and functions, and circles between files (its test holds the limits)
	$(GO) run ./internal/shape

cross: ## Compile for arm64, and for macOS what must compile there
	GOOS=linux GOARCH=arm64 $(BUILD) -o bin/nftproxy-linux-arm64 ./cmd/nftproxy
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./...
	GOOS=darwin CGO_ENABLED=0 $(GO) vet $(PORTABLE)

clean: ## Remove what make has built
	rm -rf bin dist bench-report failover-report soak-report

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
