# Everything that a fresh machine needs is a Swift toolchain, make and apt: each target installs
# what it lacks, and only that.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
# Options of the daemon for `make run`, of the bench for `make bench`, of the runner for the tests.
ARGS ?=
# The Swift libraries go into the executables: they run where there is no toolchain. The loader
# still needs libuv.
RELEASE := -c release --static-swift-stdlib

BUILD_PACKAGES := libuv1-dev libmicrohttpd-dev pkg-config
TEST_PACKAGES := netcat-openbsd zsh fish python3 python3-venv
COUNT_PACKAGES := valgrind
BENCH_PACKAGES := redis-server memcached nbdkit libnbd-bin

# $(call install-packages,NAMES): installs those that are missing, as root or through sudo.
define install-packages
	missing=; \
	for package in $(1); do \
	    case "$$(dpkg-query -W -f '$${Status}' "$$package" 2>/dev/null || true)" in \
	        *"ok installed") ;; \
	        *) missing="$$missing $$package" ;; \
	    esac; \
	done; \
	if [ -n "$$missing" ]; then \
	    command -v apt-get >/dev/null || { \
	        echo "make: these packages (by their Debian names) have to be installed:$$missing" >&2; \
	        exit 1; }; \
	    sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	    echo "installing$$missing"; \
	    $$sudo apt-get update -qq; \
	    $$sudo env DEBIAN_FRONTEND=noninteractive \
	        apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
endef

# Where a release is, and what says that all of it was built: `make install` asks no toolchain.
BIN := .build/release
BUILT := $(BIN)/all.built

.PHONY: help toolchain packages build release run test test-python test-tsan test-asan fuzz \
    nightly lint instructions bench bench-nio bench-plasma install clean

help: ## Tell what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

toolchain:
	@command -v swift >/dev/null || { \
	    echo "make: no Swift toolchain: install Swift 6.2 or newer (https://www.swift.org/install/linux) and put its 'swift' into PATH" >&2; \
	    exit 1; }

packages: toolchain
	@$(call install-packages,$(BUILD_PACKAGES))

build: packages ## Build everything for debugging
	swift build --build-tests

release: packages ## Build the daemon and the command line tool for use
	swift build $(RELEASE) --product smallocd
	swift build $(RELEASE) --product smalloc-cli
	@touch $(BUILT)

# Where the daemon listens by default: in the user's runtime folder, for root in /run. A user
# without a runtime folder gets one in /tmp, and is told so.
run: release ## Build a release, start the daemon, and tell how to talk to it
	@$(call install-packages,$(TEST_PACKAGES))
	@bin=$$(swift build $(RELEASE) --show-bin-path); \
	folder=$${XDG_RUNTIME_DIR:-}; listen=; export=; \
	if [ -z "$$folder" ] && [ "$$(id -u)" = 0 ]; then folder=/run/smallocd; fi; \
	if [ -z "$$folder" ]; then \
	    folder=/tmp/smallocd-$$(id -u); mkdir -p -m 0700 "$$folder"; \
	    [ -O "$$folder" ] || { echo "make: $$folder belongs to somebody else" >&2; exit 1; }; \
	    listen="--listen unix:$$folder/smallocd.sock"; \
	    export="  export SMALLOC_ADDRESS=unix:$$folder/smallocd.sock"; \
	fi; \
	printf '%s\n' \
	    "" \
	    "smallocd is starting in this terminal; Ctrl-C stops it. Talk to it from another one:" \
	    "" \
	    "  nc -U $$folder/smallocd.sock          then type: help" \
	    "  printf 'alloc a 4\nwrite a 0 4 6 2 3\nread a\n' | nc -NU $$folder/smallocd.sock" \
	    $${export:+"$$export"} \
	    "  $$bin/smalloc-cli ls" \
	    "  $$bin/smalloc-cli --help" \
	    ""; \
	exec "$$bin/smallocd" $$listen $(ARGS)

test: packages ## Run every test
	@$(call install-packages,$(TEST_PACKAGES))
	swift build --build-tests
	swift test --skip-build --no-parallel $(ARGS)
	$(if $(ARGS),,protocol/python/tests/run)
	$(if $(ARGS),,Tests/Metrics/run)

test-python: packages ## Run the tests of the Python client
	@$(call install-packages,$(TEST_PACKAGES))
	swift build --product smallocd
	swift build --product mapped-worker
	protocol/python/tests/run

# A stop at once leaves threads behind, on purpose.
TSAN_OPTIONS := halt_on_error=1 atexit_sleep_ms=0 report_thread_leaks=0 \
    suppressions=$(CURDIR)/Tests/thread.supp

# A sanitizer has its own build folder. Crashes on purpose must end at once: no backtraces.
test-tsan: packages ## Run every test under ThreadSanitizer
	@$(call install-packages,$(TEST_PACKAGES))
	SWIFT_BACKTRACE=enable=no TSAN_OPTIONS="$(TSAN_OPTIONS)" \
	    swift test --no-parallel --sanitize=thread --scratch-path .build-tsan $(ARGS)

test-asan: packages ## Run every test under AddressSanitizer
	@$(call install-packages,$(TEST_PACKAGES))
	SWIFT_BACKTRACE=enable=no ASAN_OPTIONS=detect_leaks=0 \
	    swift test --no-parallel --sanitize=address --scratch-path .build-asan $(ARGS)

FUZZ_SECONDS ?= 600
fuzz: packages ## Fuzz a session, for FUZZ_SECONDS (600); what it finds is in .build-fuzz
	Tests/Fuzz/run $(FUZZ_SECONDS)

# What takes hours, each part bounded: a test ends by its own time, the fuzzer by its own.
NIGHTLY_SCALE ?= 5
nightly: packages ## Run what takes too long for every change: long random tests, sanitizers, fuzzing
	@$(call install-packages,$(TEST_PACKAGES))
	swift build --build-tests
	ulimit -n "$$(ulimit -Hn)"; \
	SMALLOC_NIGHTLY=1 SMALLOC_SCALE=$(NIGHTLY_SCALE) SMALLOC_EVENTS=2000000 \
	    swift test --skip-build --no-parallel $(ARGS)
	SMALLOC_NIGHTLY=1 SMALLOC_SCALE=$(NIGHTLY_SCALE) protocol/python/tests/run
	$(MAKE) test-tsan
	$(MAKE) test-asan
	$(MAKE) fuzz

lint: toolchain ## Check the format, the documentation comments and the shell scripts
	swift format lint --strict --recursive --parallel Package.swift Sources Tests
	bash -n .ci/run
	bash -n Tests/Fuzz/run
	bash -n Tests/Baselines/nio.sh
	bash -n Tests/Baselines/plasma.sh
	bash -n protocol/python/tests/run
	bash -n Tests/Metrics/run
	@! git ls-files | grep -E '^(\.build|Package\.resolved)' || { \
	    echo "make: build products are under version control" >&2; exit 1; }

instructions: packages ## Count the daemon's instructions for each kind of request against their budgets
	@$(call install-packages,$(COUNT_PACKAGES))
	swift build $(RELEASE) --product smallocd
	swift build $(RELEASE) --product smalloc-bench
	"$$(swift build $(RELEASE) --show-bin-path)/smalloc-bench" instructions $(ARGS)

bench: packages ## Measure the daemon beside Redis, memcached and nbdkit
	@$(call install-packages,$(BENCH_PACKAGES))
	swift build $(RELEASE) --product smallocd
	swift build $(RELEASE) --product smalloc-bench
	"$$(swift build $(RELEASE) --show-bin-path)/smalloc-bench" $(ARGS)

bench-nio: packages ## Measure the Swift client beside one on SwiftNIO that speaks to Redis
	@$(call install-packages,redis-server python3)
	swift build $(RELEASE) --product smallocd
	swift build $(RELEASE) --product smalloc-bench
	swift build $(RELEASE) --package-path Tests/Baselines/NIOClient
	Tests/Baselines/nio.sh "$$(swift build $(RELEASE) --show-bin-path)/smalloc-bench" \
	    "$$(swift build $(RELEASE) --package-path Tests/Baselines/NIOClient --show-bin-path)/NIOClient"

bench-plasma: packages ## Measure the Python client beside Plasma, pyarrow's store in shared memory
	@$(call install-packages,python3 python3-venv)
	swift build $(RELEASE) --product smallocd
	Tests/Baselines/plasma.sh "$$(swift build $(RELEASE) --show-bin-path)/smallocd" $(ARGS)

# A release that is as new as its sources is installed as it is, so that root needs no toolchain.
install: ## Install under PREFIX (/usr/local), with units and completions; honours DESTDIR
	@if [ ! -e $(BUILT) ] || [ -n "$$(find Package.swift Sources -newer $(BUILT) -print -quit)" ]; then \
	    $(MAKE) release; \
	fi
	bin=$(BIN); root="$(DESTDIR)$(PREFIX)"; \
	install -s -D -m 0755 "$$bin/smallocd" "$$root/bin/smallocd"; \
	install -s -D -m 0755 "$$bin/smalloc-cli" "$$root/bin/smalloc-cli"; \
	for unit in smallocd.service smallocd.socket; do \
	    install -d "$$root/lib/systemd/system"; \
	    sed 's|/usr/local/bin/|$(PREFIX)/bin/|' "deploy/$$unit" \
	        > "$$root/lib/systemd/system/$$unit"; \
	    chmod 0644 "$$root/lib/systemd/system/$$unit"; \
	done; \
	install -D -m 0644 deploy/sysusers.conf "$$root/lib/sysusers.d/smallocd.conf"; \
	install -D -m 0644 deploy/tmpfiles.conf "$$root/lib/tmpfiles.d/smallocd.conf"; \
	[ -e "$(DESTDIR)$(SYSCONFDIR)/smallocd/smallocd.yaml" ] || \
	    install -D -m 0644 deploy/smallocd.yaml "$(DESTDIR)$(SYSCONFDIR)/smallocd/smallocd.yaml"; \
	share="$$root/share"; \
	install -d "$$share/bash-completion/completions" "$$share/zsh/site-functions" \
	    "$$share/fish/vendor_completions.d"; \
	for tool in smallocd smalloc-cli; do \
	    "$$bin/$$tool" --generate-completion-script bash > "$$share/bash-completion/completions/$$tool"; \
	    "$$bin/$$tool" --generate-completion-script zsh > "$$share/zsh/site-functions/_$$tool"; \
	    "$$bin/$$tool" --generate-completion-script fish > "$$share/fish/vendor_completions.d/$$tool.fish"; \
	done

clean: ## Remove all build folders
	rm -rf .build .build-tsan .build-asan .build-fuzz Tests/Baselines/NIOClient/.build
