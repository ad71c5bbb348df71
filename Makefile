PYTHON ?= python3
# 1: compile the core where a C compiler is at hand (about twice as fast); 0: run it as it is.
COMPILE ?= 1
BIN = .venv/bin
PIP = $(BIN)/pip install -q --disable-pip-version-check
EDITABLE = $(PIP) --no-deps --no-build-isolation -e .
COMPILED = *__mypyc.*.so $(shell find engine -name "*.so" 2>/dev/null)

# Most tests wait for servers, clocks and kills: several at once take a third of the time. `SIDE_BY_SIDE=` runs one after the other.
SIDE_BY_SIDE ?= -n 3 --dist loadfile

.PHONY: run test check bench setup clean rocketmq-native demo-rocketmq
setup: .venv/ready
.venv/ready: pyproject.toml requirements.txt $(shell find engine/core engine/replay/lines.py -name "*.py")
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -r requirements.txt
	@rm -f $(COMPILED)
	@HATCH_BUILD_HOOK_ENABLE_MYPYC=$(COMPILE) $(EDITABLE) >.venv/compile.log 2>&1 || { rm -f $(COMPILED); $(EDITABLE) && \
	echo "The core could not be compiled (.venv/compile.log says why): everything works, at about half the speed."; }
	@touch $@

run: setup  ## the service on the example configuration
	$(BIN)/rollcall run -c config.example.yaml

test: setup  ## every test; those with a broker where one can be had
	@$(BIN)/python -m engine.sources.rocketmq.native || true
	@$(BIN)/python -m tests.mq.jars || true
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

check: setup  ## format, lint, types, tests: after this you are done
	$(BIN)/ruff format --check engine tests
	$(BIN)/ruff check engine tests
	$(BIN)/mypy engine tests
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

bench: setup  ## how fast it is on this machine, beside the machine's own limits and a peer
	$(PIP) bytewax==0.21.1 orjson
	$(BIN)/python -m tests.benchmarks

rocketmq-native: setup  ## the native library of the rocketmq source, on Linux x86-64 (docs/sources.md)
	$(BIN)/python -m engine.sources.rocketmq.native

demo-rocketmq: rocketmq-native  ## a RocketMQ broker, a synthetic fleet and the engine, together; needs Java and Maven
	$(BIN)/python -m tests.mq.demo

clean:  ## what setup made, for a fresh start
	rm -rf .venv $(COMPILED)
