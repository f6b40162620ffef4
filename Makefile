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

# Python makes the tool's manual page.
BUILD_PACKAGES := libuv1-dev libmicrohttpd-dev pkg-config python3
TEST_PACKAGES := netcat-openbsd zsh fish python3 python3-venv mandoc
DEB_PACKAGES := dpkg-dev debhelper dh-python python3-all pybuild-plugin-pyproject flit lintian
PAGE_PACKAGES := chromium chromium-driver python3
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
    nightly lint docs instructions bench bench-nio bench-plasma install uninstall deb test-deb clean

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
	deploy/man/generate $(BIN)/smalloc-cli > $(BIN)/smalloc-cli.1
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
	swift build --product conform-driver
	protocol/python/tests/run

# Where there is no chromium to be had, that is told, and nothing fails.
.PHONY: test-page picture
test-page: packages ## Test the daemon's page in a headless Chromium
	@($(call install-packages,$(PAGE_PACKAGES))) || \
	    echo "make: going on without what could not be installed" >&2
	swift build --product smallocd
	Tests/Page/run

picture: packages ## Make the picture of the page that the README has
	@$(call install-packages,$(PAGE_PACKAGES) pngquant)
	swift build --product smallocd
	Tests/Page/picture.py

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
	$(MAKE) test-deb
	$(MAKE) fuzz

lint: toolchain ## Check the format, the documentation comments and the shell scripts
	swift format lint --strict --recursive --parallel Package.swift Sources Tests
	bash -n .ci/run
	bash -n Tests/Fuzz/run
	bash -n Tests/Page/run
	bash -n Tests/Baselines/nio.sh
	bash -n Tests/Baselines/plasma.sh
	bash -n protocol/python/tests/run
	bash -n Tests/Metrics/run
	for script in deploy/build-deb Tests/Packages/*; do bash -n $$script; done
	@! git ls-files | grep -E '^(\.build|Package\.resolved)' || { \
	    echo "make: build products are under version control" >&2; exit 1; }

# By the toolchain's own tools: no package has to be fetched for it.
DOCS := .build/docs
docs: packages ## Build the library's manual, in .build/docs; a warning is an error
	swift build --target Smalloc
	rm -rf $(DOCS)
	mkdir -p $(DOCS)/symbols
	bin=$$(swift build --show-bin-path); \
	swift symbolgraph-extract -module-name Smalloc -minimum-access-level public \
	    -target "$$(swift -print-target-info | sed -n 's/.*"triple": "\(.*\)",/\1/p' | head -1)" \
	    -I "$$bin/Modules" -Xcc -fmodule-map-file="$$bin/CSmalloc.build/module.modulemap" \
	    -output-dir $(DOCS)/symbols
	docc=$$(dirname "$$(readlink -f "$$(command -v swift)")")/docc; \
	"$$docc" convert Sources/Smalloc/Smalloc.docc --warnings-as-errors \
	    --fallback-display-name Smalloc --fallback-bundle-identifier smalloc.Smalloc \
	    --additional-symbol-graph-dir $(DOCS)/symbols --output-path $(DOCS)/Smalloc.doccarchive

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

UNITS := smallocd.service smallocd.socket
MANUALS := $(BIN)/smalloc-cli.1 $(wildcard deploy/man/*.[1-8])
TOOLS := smallocd smalloc-cli

# A release that is as new as its sources is taken as it is, so that root needs no toolchain.
define fresh-release
	if [ ! -e $(BUILT) ] || [ -n "$$(find Package.swift Sources deploy/man/generate \
	        -newer $(BUILT) -print -quit)" ]; then \
	    $(MAKE) release; \
	fi
endef

# What names places is made to name those that it is installed for.
PLACED = sed -e 's|/usr/local/bin/|$(PREFIX)/bin/|g' -e 's|/etc/smallocd/|$(SYSCONFDIR)/smallocd/|g'

install: ## Install under PREFIX (/usr/local), with units, manuals, completions; honours DESTDIR
	@$(fresh-release)
	root="$(DESTDIR)$(PREFIX)"; share="$$root/share"; config="$(DESTDIR)$(SYSCONFDIR)/smallocd"; \
	place() { install -d "$${2%/*}"; $(PLACED) "$$1" > "$$2"; chmod 0644 "$$2"; }; \
	for tool in $(TOOLS); do install -s -D -m 0755 "$(BIN)/$$tool" "$$root/bin/$$tool"; done; \
	for unit in $(UNITS); do \
	    place "deploy/$$unit" "$$root/lib/systemd/system/$$unit"; \
	done; \
	install -D -m 0644 deploy/sysusers.conf "$$root/lib/sysusers.d/smallocd.conf"; \
	install -D -m 0644 deploy/tmpfiles.conf "$$root/lib/tmpfiles.d/smallocd.conf"; \
	[ -e "$$config/smallocd.yaml" ] || place deploy/smallocd.yaml "$$config/smallocd.yaml"; \
	for page in $(MANUALS); do \
	    place "$$page" "$$share/man/man$${page##*.}/$${page##*/}"; \
	done; \
	install -d "$$share/bash-completion/completions" "$$share/zsh/site-functions" \
	    "$$share/fish/vendor_completions.d"; \
	for tool in $(TOOLS); do \
	    made="$(BIN)/$$tool --generate-completion-script"; \
	    $$made bash > "$$share/bash-completion/completions/$$tool"; \
	    $$made zsh > "$$share/zsh/site-functions/_$$tool"; \
	    $$made fish > "$$share/fish/vendor_completions.d/$$tool.fish"; \
	done

# Folders that others may have things in go when they are empty; those that a system has by itself
# (bin, lib, share, share/man) only below DESTDIR.
uninstall: ## Remove what install put there, but a configuration that was changed
	root="$(DESTDIR)$(PREFIX)"; share="$$root/share"; \
	config="$(DESTDIR)$(SYSCONFDIR)/smallocd"; \
	for tool in $(TOOLS); do \
	    rm -f "$$root/bin/$$tool" "$$share/bash-completion/completions/$$tool" \
	        "$$share/zsh/site-functions/_$$tool" "$$share/fish/vendor_completions.d/$$tool.fish"; \
	done; \
	for unit in $(UNITS); do rm -f "$$root/lib/systemd/system/$$unit"; done; \
	rm -f "$$root/lib/sysusers.d/smallocd.conf" "$$root/lib/tmpfiles.d/smallocd.conf"; \
	for page in $(MANUALS); do rm -f "$$share/man/man$${page##*.}/$${page##*/}"; done; \
	if $(PLACED) deploy/smallocd.yaml | cmp -s - "$$config/smallocd.yaml"; then \
	    rm "$$config/smallocd.yaml"; \
	fi; \
	if [ -e "$$config/smallocd.yaml" ]; then \
	    echo "make: $$config/smallocd.yaml was changed, and stays"; \
	fi; \
	empty() { if [ -d "$$1" ]; then rmdir --ignore-fail-on-non-empty "$$1"; fi; }; \
	for folder in lib/systemd/system lib/systemd lib/sysusers.d lib/tmpfiles.d \
	        share/man/man1 share/man/man5 share/man/man7 share/man/man8 \
	        share/bash-completion/completions share/bash-completion \
	        share/zsh/site-functions share/zsh share/fish/vendor_completions.d share/fish; do \
	    empty "$$root/$$folder"; \
	done; \
	empty "$$config"; \
	if [ -n "$(DESTDIR)" ]; then \
	    for folder in bin lib share/man share; do empty "$$root/$$folder"; done; \
	    (cd "$(DESTDIR)" && for folder in $(PREFIX:/%=%) $(SYSCONFDIR:/%=%); do \
	        if [ -d "$$folder" ]; then rmdir --ignore-fail-on-non-empty -p "$$folder"; fi; \
	    done); \
	fi

deb: ## Build Debian packages of a release, in .build/deb; lintian finds nothing
	@$(call install-packages,$(DEB_PACKAGES))
	@$(fresh-release)
	deploy/build-deb $(BIN) .build/deb

test-deb: deb ## Install, use, upgrade and purge these packages in a Debian of their own; as root
	@if [ "$$(id -u)" = 0 ]; then $(call install-packages,mmdebstrap); fi
	Tests/Packages/deb $(BIN) .build/deb

clean: ## Remove all build folders
	rm -rf .build .build-tsan .build-asan .build-fuzz Tests/Baselines/NIOClient/.build
