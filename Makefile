# Two commands: `make demo` shows the whole job on real digits, `make test` checks the project. Each makes its own .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint clean

demo: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python benchmarks/demo.py --out demo

test: $(READY) lint
	$(BIN)/python -m pytest

# mypy finds aekit.exporting only where the folder really lies inside the package, so it looks at a tree of links.
lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	rm -rf build/types && mkdir -p build/types/aekit
	ln -s $(addprefix ../../../,$(filter-out %/__pycache__,$(wildcard aekit/*))) build/types/aekit/
	ln -s ../../../export build/types/aekit/exporting
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p aekit

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "aekit needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[train,test]'
	touch $(READY)

clean:
	rm -rf $(VENV) build demo .pytest_cache .mypy_cache .ruff_cache
