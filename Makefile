# make demo      compile the example network, classify its test images, compare with onnxruntime
# make test      all tests but the long sweeps        make test-all   these too
# make benchmark measure layers and networks, write docs/BENCHMARK.md (MODELS="folders of .onnx")
# make lint      ruff                                 make clean      remove what these made
SHELL := /bin/bash
PYTHON ?= python3
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-all benchmark lint clean c++ aarch64 boards

demo: $(INSTALLED)
	@$(BIN)/python examples/digits/demo.py

test: $(INSTALLED) c++ aarch64 boards
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-all: $(INSTALLED) c++ aarch64 boards
	$(BIN)/python -m pytest -n $(WORKERS)

MODELS ?= examples/digits $(wildcard ../shared/models)

benchmark: $(INSTALLED)
	@$(BIN)/python -m pip install -q -e '.[benchmark]'
	@command -v llvm-mca-19 >/dev/null || echo "There is no llvm-mca-19 (Debian: llvm-19), so nothing is said of processors that are not here." >&2
	$(BIN)/python benchmarks/suite.py --models $(MODELS)

lint: $(INSTALLED)
	@$(BIN)/python -m pip install -q -e '.[lint]'
	$(BIN)/python -m ruff check

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call need,PROBE,PACKAGES): where the command PROBE fails, root gets the system packages installed, others are told their names
define need
@$(1) >/dev/null 2>&1 || \
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
  echo "Installing the system packages $(2) ..."; \
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(2); } >/dev/null; \
else \
  echo "System packages are missing. Install them, as on Debian: sudo apt-get install $(2)" >&2; exit 1; \
fi
endef

# gcc with the C headers links compiled models; Debian leaves ensurepip out of python3 where there is no python3-venv
$(INSTALLED): pyproject.toml
	$(call need,gcc -E -include stdint.h -x c /dev/null,gcc libc6-dev)
	$(call need,$(PYTHON) -c 'import venv; import ensurepip',python3 python3-venv)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "bnncc needs Python 3.10 or newer; choose one: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "Installing bnncc and what it needs into $(VENV) ..."
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test]'
	@touch $@

c++:  # the generated headers are tested from C++, too
	$(call need,g++ --version,g++)

aarch64:  # what is compiled for 64-bit Arm is run under an emulator
	$(call need,aarch64-linux-gnu-gcc --version && qemu-aarch64 --version,gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)

boards:  # firmware is built and run under QEMU; without these packages its tests skip, so a plain user is not stopped
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { command -v arm-none-eabi-gcc && command -v qemu-system-arm && command -v qemu-system-riscv32 && command -v riscv64-unknown-elf-gcc; } >/dev/null; then \
	  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends gcc-arm-none-eabi libnewlib-arm-none-eabi \
	    qemu-system-arm qemu-system-misc gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf; } >/dev/null || echo "No cross compilers: tests of firmware skip." >&2; \
	fi
