# One command to a running platform: make deploy. See `make help`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

UV := tools/uv
BIN := .venv/bin
# On which cluster: local (the embedded control plane) or kind (real containers).
CLUSTER := local
CONTROL := controlplane/$(or $(if $(filter local,$(CLUSTER)),cluster),$(filter kind,$(CLUSTER)),$(error CLUSTER=$(CLUSTER): must be local or kind))
# Both inventories read the location of their cluster from the environment.
PLAY := MODELYARD_KUBECONFIG="$$($(CONTROL) kubeconfig)" $(BIN)/ansible-playbook -i inventories/$(CLUSTER)
SHELL_FILES := controlplane/cluster controlplane/kind standins/build $(wildcard images/*/build images/*/prepare standins/*/prepare) tests/vllm/ask tests/vllm/enter tests/vllm_flags/ask tools/uv .ci/run

# Where Python may not write bytecode, every play spends seconds compiling its imports. Compiling the whole environment would
# take minutes and half a gigabyte, so only these.
COMPILED := ansible ansible_collections/kubernetes kubernetes kubernetes_validate yaml jinja2 markupsafe urllib3 requests \
	cryptography dateutil boto3 botocore jmespath jsonschema referencing attr certifi charset_normalizer idna oauthlib requests_oauthlib websocket

.PHONY: help deploy destroy check smoke image ee render specs dashboards bench bench-docs pictures vendor kubeconfig env build lock lint test test-unit test-kind test-vllm test-gitops test-aws molecule clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

deploy: env ## Deploy the whole platform to the local cluster, which is built and started as needed (CLUSTER=kind: to a kind cluster)
	@$(CONTROL) up
	@$(PLAY) playbooks/site.yml

check: env ## Show what deploy would change on the local cluster, and change nothing
	@$(CONTROL) up
	@$(PLAY) playbooks/site.yml --check --diff

smoke: env ## Send each model server a real request
	@$(PLAY) playbooks/smoke.yml

render: env ## Write infra/, the files for kubectl and Argo CD: make render INVENTORY=inventories/platform
	@$(BIN)/ansible-playbook -i $(or $(INVENTORY),inventories/platform) playbooks/render.yml

image: ## Build the image that loads adapters, and push it: make image IMAGE=ACCOUNT.dkr.ecr.REGION.amazonaws.com/vllm-deployment-tools:TAG
	@images/vllm-deployment-tools/build "$(IMAGE)"

ee: env ## Build the execution environment: make ee EE=NAME:TAG EE_BASE_IMAGE=IMAGE ENGINE=podman or docker
	@$(BIN)/ansible-builder build --context .cache/execution-environment --tag $(or $(EE),modelyard-ee:latest) \
		$(if $(EE_BASE_IMAGE),--build-arg EE_BASE_IMAGE=$(EE_BASE_IMAGE)) $(if $(ENGINE),--container-runtime $(ENGINE))

specs: env ## Write roles/*/meta/argument_specs.yml, which ansible-doc reads, from what meta/inputs.yml says
	@$(BIN)/python tools/specs.py

dashboards: env ## Write roles/*/files/dashboard.json, Grafana's dashboards, from what tools/dashboards.py says
	@$(BIN)/python tools/dashboards.py

bench: env build ## Measure deploys beside kubectl, Helm and Argo CD: JSON and a page in bench/ (BENCH_RUNS=5, BENCH_ONLY=nochange,first,rendering,clusters)
	@$(BIN)/python tools/bench

bench-docs: env ## Put the figures of the last make bench into docs/benchmark.md
	@$(BIN)/python tools/bench --docs

pictures: deploy ## Draw docs/images: a plan and a refusal from runs on the local cluster, and a report of made-up clusters (Chromium)
	@MODELYARD_KUBECONFIG="$$($(CONTROL) kubeconfig)" $(BIN)/python tools/pictures.py

vendor: env ## Fetch the libraries of the report's page, as pinned, and check them
	@$(BIN)/python tools/vendor.py

destroy: ## Remove the local cluster; only the cache is kept
	@$(CONTROL) down

kubeconfig: ## Print the path of the local cluster's kubeconfig
	@$(CONTROL) kubeconfig

build: ## Build the control plane into the cache, without starting it
	@controlplane/cluster build

env: .venv/.ready ## Install the tools from the lock file into .venv
	@:

.venv/.ready: uv.lock pyproject.toml .python-version tools/uv
	@echo "env: installing the tools of uv.lock into .venv, which takes a minute or two"
	@$(UV) sync --frozen --quiet
	@cd .venv/lib/python3*/site-packages && "$(CURDIR)/$(BIN)/python" -m compileall -q -j 0 $(COMPILED)
	@touch $@

LOCK_IMAGE = $(UV) pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	--no-header --no-annotate --no-emit-index-url

lock: ## Update uv.lock and the images' requirements after a change of pyproject.toml or of an image's requirements.in
	@$(UV) lock
	@$(LOCK_IMAGE) --group mlflow2 --output-file images/vllm-deployment-tools/requirements.txt
	@$(LOCK_IMAGE) images/mlserver/requirements.in --excludes images/mlserver/excludes.txt \
		--output-file images/mlserver/requirements.txt
	@$(UV) pip compile --quiet --python-version 3.13 --no-annotate --no-emit-index-url --no-header --constraints <($(UV) export --quiet --frozen --no-hashes) \
		--output-file images/execution-environment/requirements.txt images/execution-environment/requirements.in

lint: env ## Run ansible-lint, yamllint, ruff and shellcheck
	@$(BIN)/yamllint --strict .
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/shellcheck $(SHELL_FILES)
	@PATH="$(CURDIR)/$(BIN):$$PATH" ANSIBLE_INVENTORY=inventories/local $(BIN)/ansible-lint --offline

# Of ARGS, the files and folders of tests. Each of them builds and starts by itself what it needs.
SOME := $(filter tests/%,$(ARGS))

# pytest runs the molecule scenarios too, so its last line covers everything. Three workers, since tests mostly
# wait; each worker has its own cluster and runs whole files, and one worker runs all of tests/kind, one all of tests/vllm.
test: env $(if $(SOME),,build lint) ## Lint, then run every test; or run some: make test ARGS="tests/test_apply.py -k lock"
	@$(if $(SOME),,controlplane/kind prepare)
	@$(BIN)/pytest $(if $(SOME),,-n 3 --dist loadfile --no-loadscope-reorder --durations=30) $(ARGS)

test-unit: env ## Run the unit tests alone: no cluster, nothing is built
	@$(BIN)/pytest tests/unit $(ARGS)

test-kind: env build ## Run the tests on a kind cluster alone
	@controlplane/kind prepare
	@$(BIN)/pytest tests/kind $(ARGS)

# A part of make test. One server at a time takes 3 GB and both cores.
test-vllm: env ## Run the tests of vLLM itself alone, on a tiny model: make test-vllm MODEL=llama, qwen2 or mistral
	@MODELYARD_TEST_MODEL=$(MODEL) $(BIN)/pytest tests/vllm $(ARGS)

# A part of make test.
test-gitops: env build ## Run the tests of GitOps alone
	@$(BIN)/pytest -n 2 --dist loadfile $(wildcard tests/test_infra*.py tests/test_argocd*.py tests/test_gitops_delivery.py \
		tests/unit/test_tree.py tests/unit/test_argocd.py) $(ARGS)

test-aws: env ## Run the tests of the AWS side alone; ARGS are given to pytest
	@$(BIN)/pytest tests/test_aws*.py tests/test_security_*.py tests/unit/test_{aws*,beyond,iam,irsa,requests,trust,refusals}.py $(ARGS)

molecule: env build ## Run one molecule scenario: make molecule SCENARIO=default
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test --scenario-name $(or $(SCENARIO),default)

clean: destroy ## Remove the local cluster and the environment
	@rm -rf .venv .ansible .pytest_cache .ruff_cache
