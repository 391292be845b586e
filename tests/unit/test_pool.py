"""All servers of a node pool, and its GPUs."""

from typing import Any

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import pool
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.pool import Demand
from rendering import rendered

GPU = "nvidia.com/gpu"
FOUR = {"gpus": 4}


@pytest.mark.parametrize(
    ("profile", "own", "others", "room"),
    [
        (FOUR, Demand("a", 1, 1), [], True),
        # The one node holds two pods of two GPUs, and no third.
        (FOUR, Demand("a", 2, 2), [], False),
        (FOUR, Demand("a", 2, 1), [], True),
        (FOUR, Demand("a", 2, 3), [], True),
        (FOUR, Demand("a", 2, 1), [Demand("b", 1, 2)], False),
        # Three GPUs are free, but not on one node.
        (FOUR, Demand("a", 3, 3), [], False),
        ({"gpus": 1}, Demand("a", 1, 1), [], False),
        ({"gpus": 1, "spare_nodes": 1}, Demand("a", 1, 1), [], True),
        ({"gpus": 1, "autoscaled": True}, Demand("a", 1, 9), [], True),
        ({"gpus": 1, "autoscaled": True, "max_nodes": 9}, Demand("a", 1, 9), [], False),
        ({"gpus": 1, "max_nodes": 3}, Demand("a", 1, 1), [Demand("b", 1, 1)], True),
        ({"gpus": 1, "max_nodes": 2}, Demand("a", 1, 1), [Demand("b", 1, 1)], False),
        (FOUR, Demand("a", 1, 0), [], True),
        ({}, Demand("a", 0, 5), [], True),
        ({}, Demand("a", 1, 1), [], False),
    ],
)
def test_room_for_a_surge(profile: dict, own: Demand, others: list, room: bool) -> None:
    assert pool.has_room(profile, own, others) is room


def host(profile: dict, replicas: int = 1, **more: Any) -> dict:
    chat = {"model": "TheBloke/Mistral-7B-v0.1-AWQ", "replicas": replicas}
    return rendered(
        ("vllm",),
        platform_api_server="https://api.example.org:6443",
        platform_aws_account_id="123456789012",
        platform_hardware_profiles={"gpu-vllm": profile},
        vllm_enabled_profiles=["vllm", "chat"],
        vllm_profiles={"chat": chat},
        **more,
    )


def surges(found: dict) -> dict[str, int]:
    deployments = [item for part in found["parts"] for item in part["objects"] if item["kind"] == "Deployment"]
    return {item["metadata"]["name"]: item["spec"]["strategy"]["rollingUpdate"]["maxSurge"] for item in deployments}


def test_the_servers_of_a_pool_share_its_gpus() -> None:
    four = {"instance_type": "g5.12xlarge"}
    assert surges(host(four, replicas=2)) == {"vllm": 1, "vllm-chat": 1}
    assert surges(host(four, replicas=3)) == {"vllm": 0, "vllm-chat": 0}
    assert surges(host({**four, "max_nodes": 2}, replicas=3)) == {"vllm": 1, "vllm-chat": 1}


def test_a_pool_that_is_too_small_names_its_servers() -> None:
    small = {"max_nodes": 2}
    (line,) = host(small, replicas=2)["problems"]
    told = (
        "vllm_hardware_profile is 'gpu-vllm': its servers ask for GPUs of 3 nodes of 1 (vllm 1 x 1, vllm-chat 2 x 1), and it has 2 "
        "(platform_hardware_profiles.gpu-vllm.max_nodes)"
    )
    assert told in line
    assert host(small)["problems"] == []
    off = host(small, replicas=2, vllm_skip_checks={"pool": "a node comes tomorrow"})
    assert off["problems"] == []
    assert any(told in warning for warning in off["warnings"])
