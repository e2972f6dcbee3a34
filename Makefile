# Bare `make` prints this help. `make demo` and `make test` set everything up first.
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types protos docs check wheel clean bench bench-peers bench-quick screenshots pythons alerts-storm crowd pilots storm torture fuzz mutants
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

help: ## Print this help
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv and install the project with its development tools

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing everything into $(VENV); a first time takes some minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## Start a kernel and a plugin host, run the demo's jobs live, show the result
	@$(BIN)/python plugins/demo/run_demo.py

test: $(STAMP) ## Run every test that this machine has the parts for; name at the end what was left out
	@$(BIN)/python -m pytest -n 8 --dist loadfile --no-loadscope-reorder

pythons: $(STAMP) ## Run the unit and contract tests on each other supported Python, and with the oldest dependencies
	@$(BIN)/python tests/other_pythons.py

storm: $(STAMP) ## Flood each TCP door of a kernel for 20 s, and see what the owner and the other doors notice
	@$(BIN)/python tests/e2e/storm.py

# One schedule in ten runs on real processes, the others on the simulation.
SCHEDULES ?= 10000
SEED ?= 1
torture: $(STAMP) ## Run SCHEDULES=10000 fault schedules, a tenth on real processes (an hour; goes on where it was)
	@$(BIN)/python tests/torture/torture_main.py --schedules $$(( $(SCHEDULES) / 10 ))
	@$(BIN)/python tests/torture/simulated/run.py --seed $(SEED) --schedules $$(( $(SCHEDULES) - $(SCHEDULES) / 10 ))
	@$(BIN)/python tests/e2e/log_flood.py --megabytes 1024

# Numbers are the same inputs every time; another seed makes others.
N ?= 1000000
fuzz: $(STAMP) ## Send N=1000000 hostile inputs to a real kernel and to the readers of files (an hour; SEED=1)
	@$(BIN)/python tests/fuzz/run.py --inputs $(N) --seed $(SEED)

crowd: $(STAMP) ## The leader goes under 990 instances, 100,000 jobs and 100,000 queued runs (ten minutes)
	@NOMAFLOW_CROWD_HOSTS=99 NOMAFLOW_CROWD_JOBS=1010 NOMAFLOW_CROWD_QUEUED=100000 NOMAFLOW_CROWD_SECONDS=900 \
	  $(BIN)/python -m pytest -q -s --timeout 3600 tests/e2e/test_crowd.py

pilots: $(STAMP) ## 50 pilots of one name, 10,000 runs, 25 pilots killed: nothing runs twice (4 GiB, some minutes)
	@NOMAFLOW_PILOTS=50 NOMAFLOW_PILOTS_RUNS=10000 NOMAFLOW_PILOTS_SECONDS=900 \
	  $(BIN)/python -m pytest -q -s --timeout 3600 tests/e2e/test_pilots.py

alerts-storm: $(STAMP) ## Kill the alerts 100 times, and let 1,000 runs fail at once: every incident is told, and none twice
	@NOMAFLOW_ALERTS_KILLS=100 NOMAFLOW_ALERTS_RUNS=1000 $(BIN)/python -m pytest -q --timeout 3600 \
	  tests/e2e/test_alerts_process.py tests/e2e/test_alerts_runs.py -k "killed or storm"

JOBS ?= 2
mutants: $(STAMP) ## Break the product in known ways; a test must notice each (an hour; JOBS=2 at once)
	@$(BIN)/python tests/mutants/run.py --jobs $(JOBS)

# After the first release, the protos only grow.
lint: $(STAMP) ## ruff, import-linter, buf
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code
	@tag=$$(git describe --tags --match 'v*' --abbrev=0 2> /dev/null) && \
	  $(BIN)/buf breaking --against ".git#tag=$$tag" || test -z "$$tag"

types: $(STAMP) ## mypy --strict
	@$(BIN)/mypy
	@$(BIN)/mypy tests/*.py plugins/demo/run_demo.py

check: lint types test ## Lint, types and tests

protos: $(STAMP) ## Generate the stubs beside the .proto files
	@$(BIN)/buf format --write
	@cd protos && ../$(BIN)/python -m grpc_tools.protoc -I. --plugin=protoc-gen-mypy=../$(BIN)/protoc-gen-mypy \
	  --python_out=. --mypy_out=quiet:. nomaflow_api/v1/*.proto
	@cd protos && ../$(BIN)/python -m grpc_tools.protoc -I. --plugin=protoc-gen-mypy_grpc=../$(BIN)/protoc-gen-mypy_grpc \
	  --grpc_python_out=. --mypy_grpc_out=quiet:. nomaflow_api/v1/*_service.proto

docs: $(STAMP) ## Generate the pages of docs/ that are made from the code
	@$(BIN)/python -m docs.making

bench: $(STAMP) ## Take every measure (25 minutes, on an idle machine) and write docs/performance.md
	@$(BIN)/python -m bench all

bench-quick: $(STAMP) ## Compare ratios with the recorded floors (30 seconds)
	@$(BIN)/python -m bench quick

# Redis and Node.js come from the machine; without them their peers are left out, by name.
bench-peers: $(STAMP) ## Measure six other job runners by turns with this one (15 minutes, on an idle machine; ARGS="--rounds 3")
	@$(BIN)/python -m bench.peers $(ARGS)

screenshots: $(STAMP) ## Take the pictures of docs/screenshots again; needs chromium (two minutes)
	@$(BIN)/python tests/console/browser/showcase/pictures.py

wheel: $(STAMP) ## Build the wheel into dist/
	@$(BIN)/python -m build --wheel --outdir dist

clean: ## Remove the virtual environment, the peers and what was built
	@rm -rf $(VENV) .peers dist build
