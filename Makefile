# `make demo` and `make test` work on a fresh clone with Python 3.11+ and make; everything else builds on them.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check full format clean

# The stamp is newer than what it was installed from, so an install is repeated only when that changes.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("datawinnow needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; run: make PYTHON=python3.12 demo" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: .venv/.installed
	$(BIN)/datawinnow demo

# Two workers; a file's tests stay together, since they share recordings.
test: .venv/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu"

check: .venv/.installed
	$(BIN)/ruff format --check src tests benchmarks examples docs
	$(BIN)/ruff check src tests benchmarks examples docs
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu"

# Longer checks: minutes to hours, and what needs a GPU (skipped, saying so, where there is none).
full: .venv/.installed
	$(BIN)/python -m pytest -m "slow or gpu"

format: .venv/.installed
	$(BIN)/ruff format src tests benchmarks examples docs
	$(BIN)/ruff check --fix src tests benchmarks examples docs

clean:
	rm -rf .venv build dist runs results .pytest_cache .ruff_cache .mypy_cache .hypothesis
