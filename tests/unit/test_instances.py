"""What is known of instance types against published figures, and GPUs by the name that a hardware profile has for them."""

from typing import Any

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.platform import check_platform
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.specs import load
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import instances

GPU, MIG, SHARED = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared"

# Karpenter's published table: memory in MiB, CPU in thousandths, pods, EFA interfaces.
PUBLISHED = {
    "g4dn.xlarge": (14481, 3920, 29, 0),
    "g4dn.2xlarge": (29636, 7910, 29, 0),
    "g4dn.12xlarge": (178933, 47810, 234, 1),
    "g4dn.metal": (355262, 95690, 737, 1),
    "g5.xlarge": (14162, 3920, 58, 0),
    "g5.12xlarge": (173400, 47810, 737, 1),
    "g5.48xlarge": (723299, 191450, 345, 1),
    "g6.4xlarge": (57691, 15890, 234, 0),
    "g6.16xlarge": (234021, 63770, 737, 1),
    "gr6.4xlarge": (118312, 15890, 234, 0),
    "g6e.12xlarge": (360157, 47810, 292, 1),
    "g6e.24xlarge": (721682, 95690, 492, 2),
    "g6e.48xlarge": (1449132, 191450, 492, 4),
    "p3.8xlarge": (228187, 31850, 234, 0),
    "p3dn.24xlarge": (718987, 95690, 737, 1),
    "p4d.24xlarge": (1082712, 95690, 737, 4),
    "p5.4xlarge": (240830, 15890, 118, 1),
    "p5.48xlarge": (1938410, 191450, 100, 32),
    "p5en.48xlarge": (1937332, 191450, 198, 16),
    "p6-b200.48xlarge": (1937332, 191450, 198, 8),
    "p6-b300.48xlarge": (3877198, 191450, 198, 0),
    "g7e.48xlarge": (1932558, 191450, 632, 0),
    "inf2.24xlarge": (355262, 95690, 737, 0),
    "trn1.32xlarge": (481894, 127610, 247, 8),
    "m6i.2xlarge": (29317, 7910, 58, 0),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_allocatable_is_what_is_published(name: str) -> None:
    memory, cpu, pods, efa = PUBLISHED[name]
    found = instances.completed({"instance_type": name})
    wanted = {"cpu": f"{cpu}m", "memory": f"{memory}Mi", **({instances.EFA: str(efa)} if efa else {})}
    assert found["allocatable"] == wanted
    assert found["max_pods"] == pods


@pytest.mark.parametrize("name", instances.known())
def test_a_type_makes_a_whole_profile(name: str) -> None:
    assert check_platform({}, {"pool": instances.completed({"instance_type": name})}) == []


@pytest.mark.parametrize("name", ["g5.xlarge", "m6i.2xlarge"])
def test_what_a_profile_says_itself_wins(name: str) -> None:
    own = {
        "instance_type": name,
        "labels": {"workload": "x"},
        "gpus": 2,
        "gpu_memory_gib": 7.0,
        "price_per_hour": 9.5,
        "allocatable": {"memory": "5Gi"},
    }
    found = instances.completed(own)
    assert {key: found[key] for key in own} | {"allocatable": own["allocatable"]} == own
    assert found["allocatable"]["memory"] == "5Gi"
    assert found["allocatable"]["cpu"] == instances.completed({"instance_type": name})["allocatable"]["cpu"]


def test_more_pods_leave_less_memory() -> None:
    more = instances.completed({"instance_type": "g5.xlarge", "max_pods": 110})
    assert more["allocatable"]["memory"] == f"{14162 - 11 * (110 - 58)}Mi"


def test_a_price_on_demand_is_none_of_a_spot_node() -> None:
    assert instances.completed({"instance_type": "g5.xlarge"})["price_per_hour"] == 1.006
    assert "price_per_hour" not in instances.completed({"instance_type": "g5.xlarge", "capacity_type": "spot"})


def test_cores_and_shares_have_a_part_of_the_memory() -> None:
    cores = instances.completed({"instance_type": "inf2.24xlarge", "gpu_resource": instances.NEURON_CORE})
    assert (cores["gpus"], cores["gpu_memory_gib"]) == (12, 16)
    assert instances.completed({"instance_type": "inf2.24xlarge"})["gpu_resource"] == instances.NEURON


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        (
            {"instance_type": "g5.xlrage"},
            "needs labels, gpus, allocatable: nothing is known of a g5.xlrage (roles/platform/instance_types.yml)",
        ),
        ({"instance_type": "p4d.24xlarge", "gpu_resource": MIG}, "needs gpus, gpu_memory_gib"),
        ({"instance_type": "g5.xlarge", "gpu_resource": "cpu"}, "must be what counts GPUs, such as nvidia.com/gpu"),
        ({"instance_type": "g5.xlarge", "allocatable": {"memroy": "1Gi"}}, "unknown, did you mean 'memory'?"),
        ({"instance_type": "g5.xlarge", "allocatable": {"hugepages-2Mi": "x"}}, "must be a quantity such as 1"),
    ],
    ids=str,
)
def test_what_a_profile_lacks(profile: dict, told: str) -> None:
    lines = check_platform({}, {"pool": instances.completed(profile)})
    assert any(told in line for line in lines), lines


# --- Servers -------------------------------------------------------------------------------------


def asked(**limits: Any) -> dict:
    return {"requests": {"cpu": 3, "memory": "12Gi"}, "limits": {"cpu": 4, "memory": "14Gi", **limits}}


def mig(platform: dict, **more: Any) -> None:
    platform["hardware_profiles"]["gpu-vllm"] = {
        "instance_type": "p4de.24xlarge",
        "gpu_resource": MIG,
        "gpus": 56,
        "gpu_memory_gib": 9.5,
        "taints": [{"key": GPU, "value": "mig", "effect": "NoSchedule"}],
        **more,
    }


def test_slices_are_counted_by_their_name(vllm: Any, platform: dict) -> None:
    mig(platform)
    server, lines = vllm(resources=asked(**{MIG: 1}), max_model_len=1024)
    assert lines == []
    assert server["resources"]["limits"][MIG] == "1"
    assert server["strategy"]["rollingUpdate"]["maxSurge"] == 1
    assert server["tolerations"] == [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    assert server["node_selector"] == {"workload": "gpu-vllm"}
    assert instances.completed({"instance_type": "g5.xlarge"})["labels"] == {
        "node.kubernetes.io/instance-type": "g5.xlarge"
    }


def test_a_gpu_by_another_name_is_led_to_the_profiles(vllm: Any, platform: dict) -> None:
    mig(platform)
    wrong = "counts its GPUs as nvidia.com/mig-1g.10gb: ask for that, or set platform_hardware_profiles.gpu-vllm.gpu_resource"
    assert any(wrong in line for line in vllm(resources=asked(**{GPU: 1}))[1])
    platform["hardware_profiles"]["gpu-vllm"] = {"instance_type": "g5.xlarge"}
    told = vllm(resources=asked(**{MIG: 1}))[1]
    assert any("counts its GPUs as nvidia.com/gpu: ask for that" in line for line in told)
    assert not any("did you mean" in line for line in told)


@pytest.mark.parametrize(
    ("pool", "limit", "told"),
    [
        ({"gpu_resource": MIG, "gpus": 8, "gpu_memory_gib": 20}, MIG, "is a slice of a GPU (MIG)"),
        ({"gpu_resource": SHARED, "gpus": 8, "gpu_memory_gib": 20}, SHARED, "is a share of a GPU in time"),
        ({}, GPU, ""),
    ],
)
def test_no_model_is_split_over_parts_of_gpus(vllm: Any, platform: dict, pool: dict, limit: str, told: str) -> None:
    platform["hardware_profiles"]["gpu-vllm"] = {"instance_type": "g5.12xlarge", **pool}
    two = {"resources": asked(**{limit: 2}), "tensor_parallel_size": 2, "shm_size": "2Gi"}
    lines = [line for line in vllm(**two)[1] if "can't be split here" in line]
    assert [told in line for line in lines] == ([True] if told else [])
    if told:
        off = vllm(**two, skip_checks={"parallel": "tried"})
        assert not any("can't be split here" in line for line in off[1])


def test_more_gpus_than_there_are_is_a_warning(vllm: Any, platform: dict) -> None:
    platform["hardware_profiles"]["gpu-vllm"] = {"instance_type": "g5.xlarge", "gpus": 4}
    server, lines = vllm()
    assert lines == []
    assert any("a g5.xlarge has 1 GPUs, and the hardware profile counts 4" in line for line in server["notices"])


@pytest.mark.parametrize(
    ("limits", "requests", "told"),
    [
        ({"vpc.amazonaws.com/efa": 1.5}, {}, "must be a whole number"),
        ({}, {"vpc.amazonaws.com/efa": 1}, "it is asked for by a limit, vllm_resources.limits.vpc.amazonaws.com/efa"),
        ({"hugepages-2Mi": "4Gi"}, {"hugepages-2Mi": "2Gi"}, "must equal the limit, 4Gi"),
        ({"hugepages-2Mi": "3000Ki"}, {}, "must be a multiple of 2Mi"),
        ({"hugepages-big": "2Mi"}, {}, "must be called by a size of pages"),
        ({"memroy": "2Mi"}, {}, "unknown, did you mean 'memory'?"),
    ],
    ids=str,
)
def test_devices_and_pages_by_kubernetes_rules(vllm: Any, limits: dict, requests: dict, told: str) -> None:
    given = asked(**{GPU: 1}, **limits)
    given["requests"] |= requests
    lines = vllm(resources=given)[1]
    assert any(told in line for line in lines), lines


def test_pages_need_cpu_or_memory_beside_them(vllm: Any) -> None:
    adapters = {"enable_lora": True, "init_resources": {"limits": {"hugepages-2Mi": "2Mi"}}}
    lines = vllm(**adapters)[1]
    assert any("needs a request of cpu or memory beside it" in line for line in lines), lines


def test_devices_beside_the_gpus(vllm: Any, platform: dict) -> None:
    pages = asked(**{GPU: 1, "hugepages-2Mi": "1Gi", instances.EFA: 1})
    server, lines = vllm(resources=pages)
    assert lines == []
    assert [line.partition(": ")[2] for line in server["misfits"]] == [
        f"a node of hardware profile 'gpu-vllm' has 0 to give: where it has them, say so in platform_hardware_profiles.gpu-vllm.{key}"
        for key in ("allocatable", "allocatable")
    ]
    pool = {"instance_type": "g5.12xlarge", "allocatable": {"hugepages-2Mi": "2Gi"}}
    platform["hardware_profiles"]["gpu-vllm"] = pool
    assert vllm(resources=pages)[0]["misfits"] == []


def test_what_daemonsets_take_is_not_a_servers(vllm: Any, platform: dict) -> None:
    full = asked(**{GPU: 1})
    full["requests"]["cpu"] = "3920m"
    (line,) = vllm(resources=full)[0]["misfits"]
    assert "has 3920m to give, and DaemonSets take 180m of it (platform_daemonset_requests)" in line
    platform["daemonset_requests"] = {}
    assert vllm(resources=full)[0]["misfits"] == []


def test_the_default_profiles_have_what_they_always_had() -> None:
    built_in = load(["platform"])["platform"].options["hardware_profiles"]["builtin"]
    found = {name: instances.completed(profile) for name, profile in built_in.items()}
    assert {
        name: (one["gpus"], one.get("gpu_memory_gib"), one["allocatable"]["cpu"]) for name, one in found.items()
    } == {
        "cpu-compute": (0, None, "7910m"),
        "gpu": (1, 14.6, "7910m"),
        "gpu-vllm": (1, 22.0, "3920m"),
        "gpu-vllm-large": (4, 22.0, "47810m"),
    }
