# In a checkout that tools/setup prepared. `make check` is what CI runs after setting up.
PYTHON ?= .venv/bin/python
BIN = $(dir $(PYTHON))

.PHONY: check lint test unit faults labs lock bench generate

check: lint test

lint:
	$(BIN)ruff check .
	$(BIN)ruff format --check .
	$(BIN)mypy
	$(BIN)lint-imports --no-cache

# Labs wait for their Java programs more than they work: three at a time, a module of tests each.
# What they would make too long takes turns, one a day.
test:
	PMRUNBOOK_NO_SKIP=1 $(PYTHON) -m pytest -m "not lab" --numprocesses 2 --dist loadfile
	PMRUNBOOK_NO_SKIP=1 PMRUNBOOK_TEST_TURN=$$(date +%F) $(PYTHON) -m pytest -m "lab and not long" --numprocesses 3 --dist loadfile --no-loadscope-reorder

unit:
	$(PYTHON) -m pytest -m "not lab and not ssh and not ui"

# docs/reference/faults.md: adds a walk through each chapter to what was run before, every action
# with faults it did not meet yet; some hours. FAULTS="--chapter ca" takes a quarter of one.
FAULTS ?=
faults:
	$(PYTHON) -m tests.lab.faults --write $(FAULTS)

# Every lab test and every boundary there is: hours.
labs:
	PMRUNBOOK_TEST_ALL=1 PMRUNBOOK_NO_SKIP=1 $(PYTHON) -m pytest -m lab --numprocesses 2 --dist loadfile

bench:
	$(PYTHON) -m tests.bench.bench_ssh

# Documentation and schema that are made from the code.
generate:
	PYTHON=$(PYTHON) tools/generate

# The lock files; needs uv, which nothing else does.
lock:
	uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-annotate --no-header \
	    pyproject.toml --group build -o requirements.lock
	uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-annotate --no-header \
	    pyproject.toml --group dev -o requirements-dev.lock
