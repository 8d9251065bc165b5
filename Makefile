# make demo      compile the example network, classify its test images, compare with onnxruntime
# make test      all tests but the long sweeps        make test-all   these too
# make lint      ruff                                 make clean      remove what these made
SHELL := /bin/bash
PYTHON ?= python3
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-all lint clean

demo: $(INSTALLED)
	@$(BIN)/python examples/digits/demo.py

test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -n $(WORKERS)

lint: $(INSTALLED)
	@$(BIN)/python -m pip install -q -e '.[lint]'
	$(BIN)/python -m ruff check

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# gcc with its C headers links the compiled models; ensurepip is what Debian leaves out of python3 without python3-venv
$(INSTALLED): pyproject.toml
	@missing=""; \
	echo '#include <stdint.h>' | gcc -E - >/dev/null 2>&1 || missing="gcc libc6-dev"; \
	$(PYTHON) -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$${missing:+$$missing }python3 python3-venv"; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing the system packages: $$missing ..."; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  { apt-get -qq update && apt-get -qq install -y --no-install-recommends $$missing; } >/dev/null || exit 1; \
	else \
	  echo "These system packages are missing: $$missing. Install them, as on Debian: sudo apt-get install $$missing" >&2; exit 1; \
	fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "bnncc needs Python 3.10 or newer; choose one: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "Installing bnncc and what it needs into $(VENV) ..."
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test]'
	@touch $@
