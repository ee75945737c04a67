# Two commands: `make demo` and `make test`. Both set up whatever is missing; everything they make lies below .local/.
PYTHON ?= python3
AIRFLOW := .local/venvs/airflow/bin/python
PYTEST := $(AIRFLOW) -m pytest -p workshop.marks
# Tests in so many processes at the same time: most of their time they wait.
JOBS ?= $(shell n=$$(nproc); echo $$((n < 12 ? n : 12)))

.DEFAULT_GOAL := help
.PHONY: help demo test up down check lint format fast chaos-jobs chaos-lifecycle bench-jobs bench-export bench-lifecycle lock clean \
	setup setup-tests

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## a cluster from nothing to nothing, with a real MPI job on it (DEMO_KEEP=1, DEMO_SIMULATION=name)
	@$(AIRFLOW) -m workshop.demo

test: setup-tests ## all checks and all tests
	@$(AIRFLOW) -m workshop.check; checks=$$?; $(PYTEST) -n $(JOBS) -p workshop.together --durations=15 $(TESTS) && exit $$checks

chaos-jobs: setup ## hundreds of faults put into the life of jobs on the real Slurm (INJECTIONS=number, SEED=number or WHOLE=number for one run)
	@PYTHONPATH=plugins $(AIRFLOW) -m chaos $(INJECTIONS:%=--injections %) $(SEED:%=--seed %) $(WHOLE:%=--seed --whole %)

chaos-lifecycle: setup ## faults put into whole runs, from nothing to nothing, and the janitor: about 40 minutes (INJECTIONS=number, SEED=number or WHOLE=number for one run)
	@PYTHONPATH=plugins $(AIRFLOW) -m chaos.lifecycle $(INJECTIONS:%=--injections %) $(SEED:%=--seed %) $(WHOLE:%=--seed --whole %)

up: setup ## a local AWS region and Airflow in the background
	@$(AIRFLOW) -m workshop up

down: ## stop what `make up` started
	@$(AIRFLOW) -m workshop down

check: setup ## lint, types, schema, links, secrets
	@$(AIRFLOW) -m workshop.check

lint: setup ## lint and format only, and correct what can be
	@$(AIRFLOW) -m ruff check --fix .
	@$(AIRFLOW) -m ruff format .

fast: setup ## the tests that need no server, under a minute
	@$(PYTEST) -q -m "not region and not slurm and not pcluster and not airflow and not browser" $(TESTS)

bench-jobs: setup ## what waiting for thousands of jobs costs, and submitting them: about 15 minutes
	@$(AIRFLOW) -m benchmarks.jobs

bench-export: setup ## our export to S3 against aws s3 sync, rclone and s5cmd: about 16 minutes, 12 GB of disk
	@$(AIRFLOW) -m benchmarks.export

bench-lifecycle: setup ## what a whole run costs beside AWS, Slurm and the job, against an empty DAG, and what many simulations cost
	@$(AIRFLOW) -m benchmarks.lifecycle

lock: setup ## resolve the requirements again and write the locks
	@$(AIRFLOW) -m workshop.lock

clean: ## stop everything and remove what was made, environments included
	@$(AIRFLOW) -m workshop clean

setup:
	@$(PYTHON) -m workshop.setup

setup-tests:
	@$(PYTHON) -m workshop.setup --tests
