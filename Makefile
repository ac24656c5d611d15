# The front door. `make run` and `make test` do everything, set-up included.

CARGO ?= cargo
# From any directory.
PROXIMA := $(CARGO) run -q --manifest-path $(CURDIR)/Cargo.toml -p boot_tester --
PREFIX ?= /usr/local
# Crates that build on the host; the kernel itself and the guest's programs have targets of their own.
TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.PHONY: all setup build run test test-all test-kvm test-releases docs bench check install dist clean

all: build

setup:
	@sh scripts/setup.sh

# The kernel at target/proxima, and the guest's programs.
build: setup
	@$(PROXIMA) build

# The demo: four nodes, unequal distances, numactl, page placement, a live migration.
run: setup
	@sh sysroot/demo/run.sh $(PROXIMA)

# The kernel that checks itself: a boot, and every allocation failing in turn; host tests, guest suites
# (most on five topologies), the program's streams, a few programs of known traffic.
test: setup
	@$(PROXIMA) test boot faults --kernel checked --topology ring-4
	@$(PROXIMA) test --host
	@$(PROXIMA) cpus --quick
	@sh scripts/streams.sh --quick $(PROXIMA)
	@$(PROXIMA) test --traffic --filter 'scale|falsely|two_runs'

# Everything, on every topology, on both kernels. ROOTS: roots of other releases to install the package in.
test-all: setup
	@$(PROXIMA) test boot task faults --kernel checked --topology ring-4
	@$(PROXIMA) test --host --long --kernel both --topology one-node --topology two-socket \
		--topology ring-4 --topology memoryless --topology cxl --topology epyc-nps4-2s \
		--topology glueless-8 --topology wide-64
	@$(PROXIMA) test sched affinity --long --filter 'storm|under_stress' --timeout 900 \
		--topology quad-16
	@$(PROXIMA) test sched --kernel both --filter 'every_cpu_runs|beyond_64|without_memory' \
		--topology crowd-96
	@$(PROXIMA) cpus
	@$(PROXIMA) test --traffic --kernel both
	@sh scripts/cachegrind.sh $(PROXIMA)
	@sh scripts/traffic-lines.sh $(PROXIMA)
	@sh scripts/traffic-advice.sh $(PROXIMA)
	@sh scripts/traffic-memory.sh $(PROXIMA)
	@sh scripts/traffic-page.sh $(PROXIMA)
	@sh scripts/perf-suite.sh $(PROXIMA)
	@sh scripts/commands.sh $(PROXIMA)
	@sh scripts/streams.sh $(PROXIMA)
	@sh scripts/share.sh $(PROXIMA)
	@sh scripts/record.sh $(PROXIMA)
	@sh scripts/refusals.sh $(PROXIMA)
	@sh scripts/machines.sh $(PROXIMA)
	@sh scripts/crashes.sh $(PROXIMA)
	@sh scripts/readme.sh $(PROXIMA)
	@sh scripts/dist-test.sh $(ROOTS)
	@sh scripts/sysctl.sh $(PROXIMA)
	@sh scripts/test-kvm.sh $(if $(DEBIAN13),--root $(DEBIAN13)) $(PROXIMA)

# Under KVM, in an emulated machine that has it: DEBIAN13=DIR names a Debian 13 with QEMU (see the script).
test-kvm: setup
	@sh scripts/test-kvm.sh $(if $(DEBIAN13),--root $(DEBIAN13)) $(PROXIMA)

# Installed and run in fresh roots of other releases: needs root and debootstrap.
test-releases: setup
	@sh scripts/releases.sh

# docs/syscalls.md, from the kernel's own table.
docs: setup
	@sh scripts/syscalls-doc.sh $(PROXIMA)

bench: setup
	@$(PROXIMA) bench --kernel both

# What must hold before a commit: format, lints (host, kernel, guest), host tests.
check: setup
	$(CARGO) fmt --check
	cd user && $(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	@$(PROXIMA) check
	@$(PROXIMA) test --host-only

# One file, with all that a guest boots inside it; manual pages and completions.
install: setup
	$(CARGO) build --release -p boot_tester
	sh scripts/install.sh $(TARGET_DIR)/release/proxima $(DESTDIR)$(PREFIX)

# What is given away: a tarball, a Debian package, checksums, a list of what is inside (see the script).
dist: setup
	sh scripts/dist.sh $(TARGET_DIR)/dist

clean:
	$(CARGO) clean
