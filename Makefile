# Two commands do everything on a fresh machine with Python >= 3.11, git and make:
#   make demo    set up, then show the main job on the embedded engine
#   make test    set up, then run lint, types, import contracts and every test
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST_WORKERS ?= 5
# tests start hundreds of interpreters: compiled modules are kept, whatever the environment says
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: audit chaos failing-io fuzz mutate help demo test test-loaded nightly check fmt lint types contracts unit simulate explore day record-sessions test-shells test-agents record-screens bench lock docs site clean

help:  ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "relaybroker needs Python >= 3.11, found " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/.installed  ## the main job: agents that talk to each other, 200 deliveries in flight, kill -9, nothing lost
	@$(BIN)/relaybroker demo

test: $(VENV)/.installed lint types contracts docs  ## everything CI runs
	HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-ci} $(BIN)/pytest -n $(PYTEST_WORKERS) --dist worksteal

test-loaded: $(VENV)/.installed  ## the same beside two busy loops and a syncing writer
	$(BIN)/python -m tests.loaded $(MAKE) test

nightly: $(VENV)/.installed  ## the property tests with many more examples, and every simulated night
	HYPOTHESIS_PROFILE=nightly $(BIN)/pytest -n $(PYTEST_WORKERS) --dist worksteal --timeout 7200 tests/property tests/simulation/test_nights.py

check: $(VENV)/.installed lint types contracts docs unit  ## before every commit: under a minute

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

fmt: $(VENV)/.installed  ## format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.installed
	$(BIN)/mypy

contracts: $(VENV)/.installed
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

docs: $(VENV)/.installed  ## generated pages agree with the code
	$(BIN)/python -m relaybroker.reference.pages --check

site: $(VENV)/.installed  ## the documentation as a static site, in build/site
	$(BIN)/python -m sphinx -q -W -b html -c docs/site . build/site

unit: $(VENV)/.installed  ## the fast tests
	$(BIN)/pytest -n $(PYTEST_WORKERS) --dist worksteal tests/unit tests/property tests/contract tests/replay -m 'not slow and not peers'

SEEDS ?= 300
simulate: $(VENV)/.installed  ## the core in a simulated world: SEEDS=300 the first 300, SEEDS=7,12 these, SEEDS=100-200 that range
	$(BIN)/python -m relaybroker.testing.simulation $(SEEDS)

day: SEEDS = 1,
day: $(VENV)/.installed  ## the same for 24 simulated hours with 50 agents; nightly
	$(BIN)/python -m relaybroker.testing.simulation $(SEEDS) --day

EXPLORE_S ?= 120
explore: $(VENV)/.installed  ## small worlds of the core, every schedule of them, as deep as EXPLORE_S=120 seconds for each allow; nightly
	$(BIN)/python -m tests.simulation.exploration --seconds $(EXPLORE_S)

CHAOS_S ?= 1200
chaos: $(VENV)/.installed  ## nightly: a nemesis over real processes under load, a checker over the whole history (CHAOS_S=1200, CHAOS_SEED=7)
	CHAOS_S=$(CHAOS_S) $(BIN)/python -m tests.chaos

IO_FAULTS ?= 100
failing-io: $(VENV)/.installed  ## nightly: the N-th open, read, write, fsync, rename or large allocation of the broker fails (IO_FAULTS=100 of them, all, all-fsync; IO_SEED=7)
	IO_FAULTS=$(IO_FAULTS) IO_SEED=$${IO_SEED:-$$(date +%s)} $(BIN)/pytest -n $(PYTEST_WORKERS) --dist worksteal --timeout 7200 tests/e2e/test_failing_io.py

mutate: $(VENV)/.installed  ## nightly: small changes to the core that a test must notice (MUTATE=200 of them besides the held modules, MUTATE_S=3600, MUTATE_SEED=7)
	$(BIN)/python -m tests.mutation

FUZZ ?= 2000
fuzz: $(VENV)/.installed  ## hostile requests to every route, random values for every member: FUZZ=2000 each, FUZZ_SEED=7 repeats
	FUZZ=$(FUZZ) $(BIN)/pytest -n $(PYTEST_WORKERS) --dist worksteal --timeout 7200 tests/integration/api/test_hostile_requests.py \
		tests/contract/engine/test_hostile_requests.py tests/unit/cli/test_bad_input.py

audit: $(VENV)/.installed  ## known vulnerabilities of the dependencies, and an SBOM in build/ (says so where there is no network)
	$(BIN)/python -m tests.supply_chain

NAMES ?=
record-sessions: $(VENV)/.installed  ## make fixtures/sessions again from real runs (NAMES="gap-and-hole ..." only these)
	$(BIN)/python -m tests.replay.record $(NAMES)

AGENTS  ?= claude codex gemini opencode qwen copilot pi cline aider
SHELLS ?= 10000
test-shells: $(VENV)/.installed  ## messages to real shells and interpreters do nothing in them (SHELLS=10000: so many to each; SHELLS_SEED=1)
	SHELLS=$(SHELLS) $(BIN)/pytest -n $(PYTEST_WORKERS) --dist worksteal tests/shells

VERSIONS ?= pinned
SOAK    ?= 40
AGENTS_RUN := build/agents
test-agents: $(VENV)/.installed  ## the real programs (AGENTS="claude codex" only these; VERSIONS="pinned newest"; SOAK=500); writes docs/real-agents.md
	@mkdir -p $(AGENTS_RUN) && rm -f $(AGENTS_RUN)/figures.txt
	-$(BIN)/python -m tests.agents.install $(AGENTS)
	PROGRAMS="$(AGENTS)" VERSIONS="$(VERSIONS)" SOAK=$(SOAK) RESULTS=$(AGENTS_RUN)/results.json FIGURES=$(AGENTS_RUN)/figures.txt \
		$(BIN)/pytest -p no:xdist tests/agents; status=$$?; \
	$(BIN)/python -m tests.agents.table $(AGENTS_RUN)/results.json $(AGENTS_RUN)/figures.txt; exit $$status

record-screens: $(VENV)/.installed  ## record screens of the real programs into fixtures/terminals (AGENTS="claude" only these)
	$(BIN)/python -m tests.agents.record $(AGENTS)

bench: $(VENV)/.installed  ## this broker and the reference brokers side by side, with method (8 minutes)
	$(BIN)/python -m bench

lock:  ## renew requirements.lock (needs network)
	$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv
	.venv-lock/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --group dev --group docs -o requirements.lock pyproject.toml
	rm -rf .venv-lock

clean:  ## remove everything that make made
	rm -rf $(VENV) .venv-lock .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
