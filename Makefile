# Each target makes .venv when it is missing and installs what it needs. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo-out

export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow test-gpu check cards clean

$(VENV)/.base: pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-cache-dir -e .
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-cache-dir -e ".[dev]"
	touch $@

## search a cell on images, train it, export it and let the ONNX file predict
demo: $(VENV)/.base
	$(BIN)/python benchmarks/demo.py --out $(DEMO)

## the tests that fit a coffee break
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadscope -q

## all others, but for those that need a GPU or the internet
test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadscope -q -m "slow and not gpu and not network" --durations 10

## those that need a GPU
test-gpu: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m gpu

## lint and types
check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/python -m mypy -p gemnet

## rewrite MODEL_CARD.md, docs/zoo.html and the tables of README from the zoo
cards: $(VENV)/.base
	$(BIN)/python benchmarks/tables.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
