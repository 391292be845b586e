"""Probes and failed starts in real containers: what recovers, and what the deploy reports for what does not."""

import re

import pytest

# A liveness probe that alone would kill what has not answered after two seconds.
STRICT = {"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 2}
SLOW = {"vllm_env": {"STANDIN_LOAD_SECONDS": "12"}, "vllm_liveness_probe": STRICT, "vllm_startup_seconds": 90}


def restarts(platform, app):
    return [
        status["restartCount"] for pod in platform.pods(app) for status in pod["status"].get("containerStatuses", [])
    ]


def test_a_model_that_loads_for_longer_than_the_liveness_budget_survives(platform):
    platform.deploy("vllm", **SLOW)
    assert restarts(platform, "vllm") == [0]


def test_without_the_startup_probe_it_would_be_killed(platform):
    no_probe = {"spec": {"template": {"spec": {"containers": [{"name": "vllm", "startupProbe": None}]}}}}
    platform.deploy("vllm", **SLOW, vllm_patch=no_probe, apply_wait=False)
    platform.until(lambda: any(restarts(platform, "vllm")), "killed by its liveness probe")
    platform.deploy("vllm")


def test_never_ready_while_the_old_pods_serve(platform):
    """Triton surges: the deploy fails with the reason, while the old pods keep serving."""
    before = {pod["metadata"]["uid"] for pod in platform.pods("triton-inference")}
    done = platform.deploy(
        "triton",
        check=False,
        triton_env={"STANDIN_FAIL": "never-ready"},
        triton_startup_seconds=10,
        triton_progress_deadline_seconds=30,
        triton_enabled_profiles=["cpu"],
    )
    assert done.returncode != 0
    assert "Deployment ml-models/triton-inference is not rolled out" in done.stdout
    assert "Startup probe failed" in done.stdout or "Readiness probe failed" in done.stdout
    assert "2 replica(s) still serve" in done.stdout
    assert "kubectl -n ml-models describe deployment triton-inference" in done.stdout
    assert "Go back: playbooks/rollback.yml -e release=" in done.stdout
    assert before <= {pod["metadata"]["uid"] for pod in platform.pods("triton-inference")}
    platform.deploy("smoke", triton_enabled_profiles=["cpu"], vllm_enabled=False, vllm_judge_variant="none")
    platform.deploy("triton")


def test_never_ready_where_the_old_pod_had_to_go_first(platform):
    """The node's last GPU: the message states the outage and the way back, and that way works."""
    done = platform.deploy(
        "vllm",
        check=False,
        vllm_env={"STANDIN_FAIL": "never-ready"},
        vllm_startup_seconds=6,
        vllm_startup_period_seconds=2,
        platform_download_mib_per_second=10000,  # there are no weights
    )
    assert done.returncode != 0
    assert "Deployment ml-models/vllm is not rolled out" in done.stdout
    assert "Startup probe failed" in done.stdout
    assert "Nothing serves now." in done.stdout
    back = re.search(r"Go back: playbooks/rollback.yml -e release=(\d+)", done.stdout)
    platform.deploy("rollback", release=back[1])
    assert "changed=0" in platform.deploy("vllm").stdout


FAILURES = {
    "out-of-memory": ["OOMKilled", "Nothing serves now."],
    "cuda-out-of-memory": ["CUDA out of memory", "(code 1)"],
    "crash": ["STANDIN_FAIL is crash: exits", "Nothing serves now."],
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_death_is_told_with_the_last_lines(platform, failure):
    done = platform.deploy("vllm", check=False, vllm_env={"STANDIN_FAIL": failure})
    assert done.returncode != 0
    assert "container vllm: " in done.stdout
    for words in FAILURES[failure]:
        assert words in done.stdout


def test_an_init_container_that_fails_is_told_with_its_last_lines(platform):
    command = ["sh", "-c", "echo the bucket is on holiday >&2; exit 7"]
    done = platform.deploy("vllm", check=False, vllm_adapter_loader="image", vllm_init_command=command)
    assert done.returncode != 0
    assert "container load-adapters: " in done.stdout
    assert "the bucket is on holiday" in done.stdout
    assert "(code 7)" in done.stdout
    platform.deploy("vllm")
