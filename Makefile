PYTHON ?= python3
# 1: compile the core if there is a C compiler (about twice as fast); 0: run the Python source.
COMPILE ?= 1
BIN = .venv/bin
PIP = $(BIN)/pip install -q --disable-pip-version-check
EDITABLE = $(PIP) --no-deps --no-build-isolation -e .
COMPILED = *__mypyc.*.so $$(find engine -name "*.so" 2>/dev/null)

# Most tests wait for servers, clocks and kills, so several at once take a third of the time. `SIDE_BY_SIDE=` runs them one after the other.
SIDE_BY_SIDE ?= -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: run test test-long check bench setup clean rocketmq-native demo-rocketmq demo-cluster
setup: .venv/ready
.venv/ready: pyproject.toml requirements.txt $(shell find engine/core engine/replay/lines.py -name "*.py")
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -r requirements.txt
	@rm -f $(COMPILED)
	@HATCH_BUILD_HOOK_ENABLE_MYPYC=$(COMPILE) $(EDITABLE) >.venv/compile.log 2>&1 || { rm -f $(COMPILED); test -e pyproject.toml || mv pyproject.toml.bak pyproject.toml; $(EDITABLE) && \
	echo "The core could not be compiled (see .venv/compile.log). Everything works, at about half the speed."; }
	@touch $@

# While it compiles, hatch-mypyc keeps pyproject.toml under another name. Killed meanwhile, it does not bring it back.
pyproject.toml:
	mv $@.bak $@

run: setup  ## the service on the example configuration
	$(BIN)/rollcall run -c config.example.yaml

test: setup  ## the tests; those with a broker only if one can be downloaded
	@$(BIN)/python -m engine.sources.rocketmq.native || true
	@$(BIN)/python -m tests.mq.jars || true
	@$(BIN)/python -m tests.access.provider_package || true
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-long: setup  ## what repeats kills, soaks and seeds: about ten minutes
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m long

check: setup  ## format, lint, types and tests: run it before each commit
	$(BIN)/ruff format --check engine tests
	$(BIN)/ruff check engine tests
	$(BIN)/mypy engine tests
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

bench: setup  ## how fast it is on this machine, compared with the machine's own limits and a peer
	$(PIP) bytewax==0.21.1 orjson
	$(BIN)/python -m tests.benchmarks

rocketmq-native: setup  ## the native library of the rocketmq source, on Linux x86-64 (docs/sources.md)
	$(BIN)/python -m engine.sources.rocketmq.native

demo-rocketmq: rocketmq-native  ## a RocketMQ broker, a synthetic fleet and the engine, together; needs Java and Maven
	$(BIN)/python -m tests.mq.demo

demo-cluster: rocketmq-native  ## PostgreSQL, RocketMQ, three replicas and a fleet; a replica is killed every 20 s
	$(BIN)/python -m tests.postgres.demo

clean:  ## removes what setup made
	rm -rf .venv $(COMPILED)
