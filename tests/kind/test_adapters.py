"""Adapters from end to end: a real MLflow and a real S3 API on this machine, with the loader and vLLM's stand-in in pods.

The pods reach MLflow at the contract's address and have no credentials except a token for their role.
"""

import json
import re

import pytest
import services as real
from kind import identity

LIVE, STAGED = "aws-rag-qa-live", "aws-rag-qa-candidate"
BASE = "TheBloke/Mistral-7B-v0.1-AWQ"
V1 = "/api/v1/namespaces/ml-models/services/vllm-service:http/proxy/v1"


class Adapters:
    """vLLM, MLflow and S3, and what tests do to them."""

    def __init__(self, platform, services):
        self.platform, self.services = platform, services

    def reach_mlflow(self, port: int | None = None) -> None:
        """Let MLflow's name lead to the server, or to another port."""
        self.platform.expose_mlflow(self.services.mlflow, port)

    def restart(self) -> str:
        """Delete vLLM's pod, wait for the next one to serve, and give its loader's log."""
        old = self.platform.pod("vllm")
        self.platform.kubectl("delete", "pod", old, "--grace-period=1")
        self.platform.kubectl("rollout", "status", "deployment/vllm", "--timeout=180s")
        assert self.platform.pod("vllm") != old
        return self.log()

    def log(self) -> str:
        return self.platform.kubectl("logs", self.platform.pod("vllm"), "--container", "load-adapters").stdout

    def served(self) -> set[str]:
        """The names of the models that vLLM's Service lists."""
        return {model["id"] for model in self.platform.kind.api("GET", f"{V1}/models")["data"]}

    def content(self, slot: str) -> str:
        """A checksum of the slot's weights."""
        return self.platform.inside("vllm", f"sha256sum < /mnt/adapters/{slot}/adapter_model.safetensors").stdout


@pytest.fixture(scope="module")
def adapters(platform, services):
    identity.give(platform, "vllm", platform.get("serviceaccount", "vllm-sa"), services.s3)
    found = Adapters(platform, services)
    found.reach_mlflow()
    services.model()
    services.version(real.adapter(base=BASE, fill=1), aliases=("live",))
    services.version(real.adapter(base=BASE, fill=2), aliases=("staged",))
    # Long enough for an importing client on a machine that is busy.
    platform.deploy("vllm", vllm_adapters_seconds=60, vllm_adapters_retries=4)
    return found


def test_the_slots_are_filled_and_served(adapters):
    assert adapters.served() == {BASE, LIVE, STAGED}
    assert adapters.content(LIVE) != adapters.content(STAGED)
    arguments = adapters.platform.inside("vllm", "tr '\\0' '\\n' < /proc/1/cmdline").stdout
    assert re.findall(r"^.*=/mnt/adapters/.*$", arguments, re.MULTILINE) == [
        f"{slot}=/mnt/adapters/{slot}" for slot in (LIVE, STAGED)
    ]


def test_no_credential_is_in_the_cluster(adapters):
    """The S3 credentials were exchanged for the ServiceAccount's token."""
    pods = adapters.platform.kubectl("get", "pods", "--selector", "app=vllm", "--output", "yaml").stdout
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in pods
    assert "ACCESS_KEY" not in pods
    assert adapters.platform.get("secrets")["items"] == []
    for secret in real.CREDENTIALS.values():
        assert secret not in pods + adapters.log()


def test_an_adapter_that_a_workflow_copies_is_loaded_and_gone_with_the_pod(adapters, tmp_path):
    for name, content in real.adapter(base=BASE, fill=3).items():
        (tmp_path / "by-hand").mkdir(exist_ok=True)
        (tmp_path / "by-hand" / name).write_bytes(content)
    pod = adapters.platform.pod("vllm")
    adapters.platform.kubectl("cp", tmp_path / "by-hand", f"{pod}:/mnt/adapters/by-hand", "--container", "vllm")
    kind = adapters.platform.kind
    body = {"lora_name": "by-hand", "lora_path": "/mnt/adapters/by-hand"}
    answer = kind.http().request("POST", f"{kind.url}{V1}/load_lora_adapter", json=body)
    assert answer.status == 200, answer.data.decode()
    assert adapters.served() == {BASE, LIVE, STAGED, "by-hand"}
    adapters.restart()
    assert adapters.served() == {BASE, LIVE, STAGED}


def test_an_alias_that_moves_is_followed_by_a_rollout(adapters):
    before = adapters.content(LIVE)
    adapters.services.version(real.adapter(base=BASE, fill=4), aliases=("live",))
    adapters.platform.kubectl("rollout", "restart", "deployment/vllm")
    adapters.platform.kubectl("rollout", "status", "deployment/vllm", "--timeout=180s")
    assert adapters.content(LIVE) != before
    assert adapters.served() == {BASE, LIVE, STAGED}


def test_what_is_wrong_with_an_adapter_leaves_its_slot_empty(adapters):
    whole = real.adapter(base=BASE, fill=5)
    truncated = {**whole, "adapter_model.safetensors": whole["adapter_model.safetensors"][:-100]}
    adapters.services.version(truncated, aliases=("live",))
    adapters.services.version(real.adapter(rank=64, base=BASE), aliases=("staged",))
    log = adapters.restart()
    assert adapters.served() == {BASE}
    lines = [json.loads(line) for line in log.splitlines()]
    refused = {slot: line["reason"] for line in lines if line["event"] == "refused" for slot in line["slots"]}
    assert "adapter_model.safetensors" in refused[LIVE]
    assert "64" in refused[STAGED]


def test_mlflow_down_at_a_cold_start(adapters):
    """vLLM starts without adapters; where they are required, the deploy says what is missing."""
    adapters.services.version(real.adapter(base=BASE, fill=6), aliases=("live", "staged"))
    adapters.reach_mlflow(port=9)
    try:
        adapters.platform.deploy("vllm", vllm_adapters_seconds=10)
        assert adapters.served() == {BASE}
        done = adapters.platform.deploy("vllm", vllm_adapters_seconds=10, vllm_adapters_required=True, check=False)
        assert done.returncode != 0
        assert "container load-adapters: " in done.stdout
        assert "mlflow.ai-platform" in done.stdout
        assert "Nothing serves now." in done.stdout
    finally:
        adapters.reach_mlflow()
    adapters.platform.deploy("vllm", vllm_adapters_seconds=60, vllm_adapters_retries=4)
    assert adapters.served() == {BASE, LIVE, STAGED}
    assert adapters.content(LIVE) == adapters.content(STAGED)
