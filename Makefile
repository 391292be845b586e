# One command to a running platform: make deploy. See `make help`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

UV := tools/uv
BIN := .venv/bin
CLUSTER := controlplane/cluster
# The local inventory reads where the local cluster is from the environment.
PLAY := MODELYARD_KUBECONFIG="$$($(CLUSTER) kubeconfig)" $(BIN)/ansible-playbook -i inventories/local
SHELL_FILES := $(CLUSTER) tools/uv .ci/run

# An environment may forbid Python to write bytecode, and the plays then spend seconds on compiling what they import.
# All of the environment would take minutes and half a gigabyte: only these.
COMPILED := ansible ansible_collections/kubernetes kubernetes kubernetes_validate yaml jinja2 markupsafe urllib3 requests \
	cryptography dateutil boto3 botocore jmespath jsonschema referencing attr certifi charset_normalizer idna oauthlib requests_oauthlib websocket

.PHONY: help deploy destroy check smoke kubeconfig env build lock lint test test-aws molecule clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

deploy: env ## Deploy the whole platform to the local cluster, which is built and started as needed
	@$(CLUSTER) up
	@$(PLAY) playbooks/site.yml

check: env ## Show what deploy would change on the local cluster, and change nothing
	@$(CLUSTER) up
	@$(PLAY) playbooks/site.yml --check --diff

smoke: env ## Ask each model server a real question
	@$(PLAY) playbooks/smoke.yml

destroy: ## Remove the local cluster and every trace of it but the cache
	@$(CLUSTER) down

kubeconfig: ## Print the path of the local cluster's kubeconfig
	@$(CLUSTER) kubeconfig

build: ## Build the control plane into the cache, without starting it
	@$(CLUSTER) build

env: .venv/.ready ## Install the tools from the lock file into .venv

.venv/.ready: uv.lock pyproject.toml .python-version tools/uv
	@echo "env: installing from uv.lock into .venv"
	@$(UV) sync --frozen $(shell [ -t 2 ] || echo --quiet)
	@echo "env: compiling what the plays import"
	@cd .venv/lib/python3*/site-packages && "$(CURDIR)/$(BIN)/python" -m compileall -q -j 0 $(COMPILED)
	@touch $@

lock: ## Update uv.lock after a change of pyproject.toml
	@$(UV) lock

lint: env ## Run ansible-lint, yamllint, ruff and shellcheck
	@$(BIN)/yamllint --strict .
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/shellcheck $(SHELL_FILES)
	@PATH="$(CURDIR)/$(BIN):$$PATH" ANSIBLE_INVENTORY=inventories/local $(BIN)/ansible-lint --offline

# pytest runs the molecule scenarios too, so its last line is the verdict on everything. Two workers, a file to each, since
# much of a test is waiting; each has a cluster of its own.
test: env build lint ## Lint, then run every test; ARGS are given to pytest
	@$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

test-aws: env ## Run the tests of the AWS side alone; ARGS are given to pytest
	@$(BIN)/pytest tests/test_aws*.py tests/unit/test_aws*.py tests/unit/test_iam*.py $(ARGS)

molecule: env build ## Run one molecule scenario: make molecule SCENARIO=default
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test --scenario-name $(or $(SCENARIO),default)

clean: destroy ## Remove the local cluster and the environment
	@rm -rf .venv .ansible .pytest_cache .ruff_cache
