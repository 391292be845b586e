"""Rollouts, drains and the node's last GPU, with real containers and real requests."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

from kind.client import Client


def uids(platform, app):
    return {pod["metadata"]["uid"] for pod in platform.pods(app)}


def test_a_rolling_update_of_triton_loses_no_request(platform):
    infer = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [0]}]})
    client = Client(platform, "triton-inference", 8000, "/v2/models/resnet18_imagenette/infer", infer)
    before, old = client.counts()["answered"], uids(platform, "triton-inference")
    platform.deploy("triton", triton_pod_annotations={"roll": "me"}, triton_env={"STANDIN_REQUEST_SECONDS": "0.2"})
    platform.until(lambda: not old & uids(platform, "triton-inference"), "all pods replaced")
    counts, said = client.stop()
    assert counts["failed"] == 0, said
    assert counts["answered"] > before


# One completion, asked of vLLM's Service from the judge's container: prints the status.
COMPLETE = """python3 -c '
import json, urllib.request
body = json.dumps({"model": "TheBloke/Mistral-7B-v0.1-AWQ", "prompt": "x", "max_tokens": 4}).encode()
request = urllib.request.Request("http://vllm-service:8000/v1/completions", body, {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=60).status)
'"""
RUNNING = "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8000/metrics\").read().decode())'"


def ask_while_it_leaves(platform):
    """Delete vLLM's pod while a request of ten seconds runs, and give the client's result."""
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(platform.inside, "judge-vllm", COMPLETE, check=False)
        name = platform.pod("vllm")
        platform.until(
            lambda: re.search(
                r"^vllm:num_requests_running\{.*\} 1", platform.inside("vllm", RUNNING).stdout, re.MULTILINE
            ),
            "a request is running",
        )
        platform.kubectl("delete", "pod", name, "--wait=false")
        return asked.result()


def test_a_running_request_outlives_its_pod(platform):
    platform.deploy("vllm", vllm_env={"STANDIN_REQUEST_SECONDS": "10"})
    done = ask_while_it_leaves(platform)
    assert done.stdout.strip() == "200", done.stderr


def test_without_the_drain_it_would_not(platform):
    no_drain = {"spec": {"template": {"spec": {"containers": [{"name": "vllm", "lifecycle": None}]}}}}
    platform.deploy("vllm", vllm_env={"STANDIN_REQUEST_SECONDS": "10"}, vllm_patch=no_drain)
    assert ask_while_it_leaves(platform).returncode != 0
    platform.deploy("vllm")


def test_the_last_gpu_of_the_node_changes_hands(platform):
    """Triton's GPU profile, vLLM and the judge hold all three; an update of vLLM has to free its own first."""
    old = uids(platform, "vllm")
    platform.deploy("vllm", vllm_pod_annotations={"roll": "me"})
    assert len(uids(platform, "vllm")) == 1
    assert not old & uids(platform, "vllm")


def test_a_drain_leaves_what_the_budget_asks_for(platform):
    """Two pods of Triton, one may go: the node can't be emptied while the other has nowhere to go."""
    node = platform.pods("triton-inference")[0]["spec"]["nodeName"]
    old = uids(platform, "triton-inference")
    try:
        done = platform.kind.kubectl(
            "drain", node, "--pod-selector=app=triton-inference", "--delete-emptydir-data", "--timeout=60s", check=False
        )
        assert done.returncode != 0
        assert "violate the pod's disruption budget" in done.stderr
        assert len(old & uids(platform, "triton-inference")) == 1
        assert platform.get("deployment", "triton-inference")["status"]["readyReplicas"] == 1
    finally:
        platform.kind.kubectl("uncordon", node)
    platform.kubectl("rollout", "status", "deployment/triton-inference", "--timeout=120s")


def test_a_schedule_of_a_minute_parks_the_judge(platform, tmp_path):
    """With kubectl in an image that has nothing else, as the published one; no registry is asked."""
    image, node = "kubectl:schedule", platform.kind.api("GET", "/api/v1/nodes")["items"][0]["metadata"]["name"]
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY kubectl /bin/kubectl\nENV PATH=/bin\n")
    shutil.copy(platform.kind.bin / "kubectl", tmp_path / "kubectl")
    platform.kind.run("docker", "build", "--tag", image, tmp_path, env={"DOCKER_BUILDKIT": "0"})
    load = f"docker save {image} | docker exec --interactive {node} ctr --namespace=k8s.io images import -"
    platform.kind.run("bash", "-o", "pipefail", "-c", load)
    vllm = uids(platform, "vllm")
    # The other one on New Year's Day.
    times = {"park": "* * * * *", "wake": "0 0 1 1 *", "time_zone": "Europe/Berlin"}
    platform.deploy("vllm_judge", vllm_judge_schedule=times, vllm_judge_schedule_image=image)
    platform.until(lambda: not platform.pods("judge-vllm"), "the judge parked by its schedule", 180)
    platform.kubectl("patch", "cronjob", "judge-vllm-park", "--patch", '{"spec": {"suspend": true}}')
    platform.kubectl("create", "job", "now", "--from=cronjob/judge-vllm-wake")
    platform.kubectl("wait", "--for=condition=Complete", "job/now", "--timeout=120s")
    platform.kubectl("rollout", "status", "deployment/judge-vllm", "--timeout=120s")
    assert len(platform.pods("judge-vllm")) == 1
    said = platform.deploy("vllm_judge").stdout
    assert "prune CronJob ml-models/judge-vllm-park" in said
    # What a person parks has real pods that end, and answers when it is woken.
    said = platform.deploy("park", park_reason="night").stdout
    assert "judge-vllm: its pods are gone, which frees 1 GPU" in said
    said = platform.deploy("wake").stdout
    assert "judge-vllm: POST /v1/completions: right" in said
    assert uids(platform, "vllm") == vllm
