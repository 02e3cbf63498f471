# Every target works in a fresh clone that has make, Python 3.10 - 3.12 and the package registries.
# ARGS goes to the command behind a target: make demo ARGS="--help", make test ARGS="tests/unit -x".
# BENCH names the benchmarks to run: make bench BENCH=benchmarks/near_duplicates.py ARGS="--turns 1".

ARGS ?=
EXTRAS ?= dev
BENCH ?= $(sort $(wildcard benchmarks/*.py))
BIN := .venv/bin
INSTALLED := .venv/.installed

# The first Python in the supported range that can make a virtual environment; PYTHON=... overrules.
FITS := import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for each in python3 python3.12 python3.11 python3.10 python; do \
	$$each -c '$(FITS)' >/dev/null 2>&1 && echo $$each && break; done)

# Without cached bytecode every process would compile FiftyOne and torch again, which takes longer
# than most of what is run here.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test faults lint bench screenshots clean install mongod chromium

demo: mongod
	$(BIN)/isoclip demo $(ARGS)

test: mongod
	-@$(BIN)/python scripts/ensure_chromium.py
	$(BIN)/pytest $(ARGS)

# All of the fault tests, those that take minutes or gigabytes as well, with draws of their own each
# time; FAULTS_SEED=... repeats a run.
faults: export FAULTS_SEED := $(or $(FAULTS_SEED),$(shell od -An -N4 -tu4 /dev/urandom | tr -d ' '))
faults: mongod
	-@$(BIN)/python scripts/ensure_chromium.py
	$(BIN)/pytest tests/faults -m "long or not long" $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then $(BIN)/mypy; \
	else echo "mypy: left out, for the newest NumPy on Python 3.10 states other types"; fi
	$(BIN)/uv pip check --quiet --python .venv
	$(BIN)/python scripts/audit_versions.py

bench: mongod
	for each in $(BENCH); do $(BIN)/python $$each $(ARGS) || exit 1; done

screenshots: mongod chromium
	$(BIN)/python scripts/take_screenshots.py $(ARGS)

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

mongod: install
	@$(BIN)/python scripts/ensure_mongod.py

chromium: install
	@$(BIN)/python scripts/ensure_chromium.py

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { \
		echo "No Python 3.10, 3.11 or 3.12 with venv was found on the PATH; install one, or name it:" \
		"make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --python .venv -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@
