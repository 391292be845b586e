"""What an inventory adds to a server's pods: affinity, a runtime class, further containers; and pods that share a claim."""

from __future__ import annotations

from typing import Any

import pytest
from rendering import rendered

TOOL = {"name": "tool", "image": "docker.io/team/tool:1.2"}
LARGE = {
    "hardware_profile": "gpu-vllm-large",
    "resources": {"requests": {"cpu": 8, "memory": "40Gi"}, "limits": {"memory": "50Gi", "nvidia.com/gpu": 2}},
    "tensor_parallel_size": 2,
    "shm_size": "2Gi",
}
CLAIM = {"cache": {"type": "claim", "size": "8Gi"}}
HOST = "kubernetes.io/hostname"


def deployment(**variables: Any) -> tuple[dict, list[str]]:
    """Give the pod that is rendered for vLLM, and what is wrong."""
    found = rendered(("vllm",), **{f"vllm_{key}": value for key, value in variables.items()})
    (part,) = [part for part in found["parts"] if part["role"] == "vllm"]
    items = [item for item in part["objects"] if item["kind"] == "Deployment"]
    return items[0]["spec"] if items else {}, [*found["problems"], *part["misfits"]]


def pod(**variables: Any) -> dict:
    spec, lines = deployment(**variables)
    assert lines == []
    return spec["template"]["spec"]


def test_they_stand_where_kubernetes_has_them() -> None:
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
    source = [{"secretRef": {"name": "proxy"}}]
    found = pod(affinity=affinity, runtime_class_name="nvidia", extra_env_from=source)
    assert (found["affinity"], found["runtimeClassName"]) == (affinity, "nvidia")
    assert found["containers"][0]["envFrom"] == source
    assert not {"affinity", "runtimeClassName"} & pod().keys()
    assert "envFrom" not in pod()["containers"][0]


def test_the_order_of_containers() -> None:
    native = {**TOOL, "name": "proxy", "restartPolicy": "Always"}
    sidecars = [TOOL, native]
    found = pod(sidecars=sidecars, extra_init_containers=[{**TOOL, "name": "first"}, {**TOOL, "name": "second"}])
    assert [item["name"] for item in found["containers"]] == ["vllm", "tool"]
    assert [item["name"] for item in found["initContainers"]] == ["proxy", "first", "second", "load-adapters"]
    # Without a loader, too.
    alone = pod(lora_enabled=False, adapter_slots={}, extra_init_containers=[TOOL])
    assert [item["name"] for item in alone["initContainers"]] == ["tool"]
    assert "initContainers" not in pod(lora_enabled=False, adapter_slots={})


def test_they_may_no_more_than_the_server_and_come_from_its_mirror() -> None:
    found = rendered(
        ("vllm",), vllm_sidecars=[TOOL], platform_image_registry_mirrors={"docker.io": "mirror.example.org/hub"}
    )
    (part,) = [part for part in found["parts"] if part["role"] == "vllm"]
    (spec,) = [item["spec"]["template"]["spec"] for item in part["objects"] if item["kind"] == "Deployment"]
    server, tool = spec["containers"]
    assert tool["image"] == "mirror.example.org/hub/team/tool:1.2"
    assert tool["imagePullPolicy"] == server["imagePullPolicy"]
    assert tool["securityContext"] == server["securityContext"]
    own = {"readOnlyRootFilesystem": None, "allowPrivilegeEscalation": True}
    changed = pod(sidecars=[{**TOOL, "securityContext": own, "imagePullPolicy": "Never"}])["containers"][1]
    assert changed["imagePullPolicy"] == "Never"
    assert changed["securityContext"] == {"allowPrivilegeEscalation": True, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"name": "Tool"}, "vllm_sidecars.0.name is 'Tool': must be a DNS label"),
        ({"name": "vllm"}, "vllm_sidecars.0.name is 'vllm': must be a name of its own; taken: load-adapters, vllm"),
        ({"name": "load-adapters"}, "vllm_sidecars.0.name is 'load-adapters': must be a name of its own"),
        ({"image": "team/tool"}, "vllm_sidecars.0.image is 'team/tool': must have a tag or a digest"),
        ({"image": None}, "vllm_sidecars.0.image is None: must be an image reference"),
        ({"restartPolicy": "Never"}, "vllm_sidecars.0.restartPolicy is 'Never': must be Always, or left out"),
        ({"env": [{"name": "DB_PASSWORD", "value": "hush"}]}, "vllm_sidecars.0.env.0 is (hidden): must come from a Secret"),
        ({"env": [{"value": "hush"}]}, "vllm_sidecars.0.env.0 is (hidden): must have a name"),
        ({"volumeMounts": [{"name": "cahce", "mountPath": "/c"}]}, "vllm_sidecars.0.volumeMounts.0.name is 'cahce': unknown, did you mean 'cache'"),
        ({"resources": {"requests": {"cpu": "much"}}}, "vllm_sidecars.0.resources.requests.cpu is 'much': must be a Kubernetes quantity"),
        ({"ports": [{"containerPort": 8000}]}, "vllm_sidecars.0.ports.0.containerPort is 8000: is the server's own"),
        ({"resources": {"requests": {"cpu": 1}}}, "has 3920m cpu to give, and all containers together ask for 4"),
        ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, "has 1 nvidia.com/gpu to give, and all containers together ask for 2"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one(given: dict, line: str) -> None:
    lines = deployment(sidecars=[{**TOOL, **given}])[1]
    assert any(line in one for one in lines), lines
    assert "hush" not in str(lines)


def test_two_of_one_name_are_refused_wherever_they_stand() -> None:
    lines = deployment(sidecars=[TOOL], extra_init_containers=[TOOL])[1]
    assert any("vllm_extra_init_containers.0.name is 'tool': must be a name of its own" in line for line in lines)


def test_what_ends_before_the_server_starts_takes_no_room_beside_it() -> None:
    assert deployment(extra_init_containers=[{**TOOL, "resources": {"requests": {"cpu": 3}}}])[1] == []
    # The port is another one's than the Service's.
    assert deployment(sidecars=[{**TOOL, "ports": [{"containerPort": 9090}]}])[1] == []


def test_pods_that_share_a_claim_stay_on_one_node() -> None:
    spec, lines = deployment(**LARGE, **CLAIM, replicas=2)
    assert lines == []
    found = spec["template"]["spec"]
    term = {"labelSelector": {"matchLabels": {"app": "vllm"}}, "topologyKey": HOST}
    assert found["affinity"] == {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    assert "topologySpreadConstraints" not in found
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    # An affinity of the inventory's is beside it; one of pods is in its place.
    node = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    assert pod(**LARGE, **CLAIM, replicas=2, affinity=node)["affinity"] == {**found["affinity"], **node}
    own = {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    assert pod(**LARGE, **CLAIM, replicas=2, affinity=own)["affinity"] == own
    assert "affinity" not in pod(**LARGE, **CLAIM)
    assert "affinity" not in pod(**LARGE, cache={**CLAIM["cache"], "access_mode": "ReadWriteMany"}, replicas=2)
    # An autoscaler's, and a surge beside one pod.
    assert pod(**LARGE, **CLAIM, autoscaled=True)["affinity"] == found["affinity"]
    assert pod(**LARGE, **CLAIM, strategy={"rollingUpdate": {"maxSurge": 1}})["affinity"] == found["affinity"]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({**LARGE, **CLAIM, "replicas": 3}, "ReadWriteOnce is one node's: one of hardware profile 'gpu-vllm-large' has room for 2 of its pods, and there are 3; use ReadWriteMany or an empty_dir"),
        ({**CLAIM, "autoscaled": True}, "has room for 1 of its pods, and there are as many as an autoscaler wants"),
        ({**LARGE, **CLAIM, "replicas": 2, "strategy": {"type": "RollingUpdate"}}, "a surge can't mount the ReadWriteOnce claim that the old pod's node holds: that has room for 2 of its pods; set maxSurge to 0"),
        ({**LARGE, "cache": {**CLAIM["cache"], "access_mode": "ReadWriteOncePod"}, "replicas": 2}, "ReadWriteOncePod serves one pod, and there are 2"),
        ({**LARGE, "cache": {**CLAIM["cache"], "access_mode": "ReadWriteOncePod"}, "strategy": {"type": "RollingUpdate"}}, "a surge can't mount the ReadWriteOncePod claim"),
    ],
)  # fmt: skip
def test_pods_that_can_t_share_a_claim(given: dict, line: str) -> None:
    lines = deployment(**given)[1]
    assert any(line in one for one in lines), lines
