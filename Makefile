PYTHON ?= python3
BIN = .venv/bin

.PHONY: run test check bench setup
setup: .venv/ready
.venv/ready: pyproject.toml requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

run: setup  ## the service on the example configuration
	$(BIN)/rollcall run -c config.example.yaml

test: setup  ## every test
	$(BIN)/python -m pytest

check: setup  ## format, lint and types
	$(BIN)/ruff check engine
	$(BIN)/mypy engine

bench: setup
	$(BIN)/pip install -q --disable-pip-version-check bytewax==0.21.1 orjson
	$(BIN)/python -m tests.benchmarks
