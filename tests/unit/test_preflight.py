"""What the preflight says of each server: its nodes, its price, its verdict; and how that is laid out."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import GIB
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import preflight
from rendering import rendered


def rows(**variables: Any) -> dict[str, dict]:
    """Give the row of each server, by its name."""
    return {row["server"]: row for row in preflight.servers(rendered(**variables))}


def needs(pods: int = 1, cpu: float = 0, gpus: int = 0, room: dict | None = None) -> dict:
    """What a server asks of nodes with eight CPUs and four GPUs."""
    room = {"cpu": 8, "gpu": 4} if room is None else room
    return {"pods": pods, "requests": {"cpu": cpu, "gpu": gpus, "memory": 1}, "room": room}


@pytest.mark.parametrize(
    ("servers", "nodes"),
    [
        # Alone
        ([needs(0, 2)], 0),
        ([needs(4, 2)], 1),
        ([needs(5, 2)], 2),
        ([needs(3, 1, 3)], 3),
        # What one leaves, others use; the largest is placed first.
        ([needs(1, 1, 1), needs(1, 1, 3)], 1),
        ([needs(1, 4), needs(1, 6), needs(1, 2)], 2),
        # Too large for any: told elsewhere, and one node.
        ([needs(2, 9)], 2),
        # Nothing that a node is known to give is asked for.
        ([needs(200)], 2),
        # As many as a Deployment can have.
        ([needs(2147483647, 4)], 1073741824),
        ([needs(room={})], None),
    ],
)
def test_the_nodes_that_pods_fill(servers: list[dict], nodes: int | None) -> None:
    assert preflight.needed(servers) == nodes


def test_a_row_says_what_a_server_needs() -> None:
    found = rows(vllm_enabled_profiles=["vllm"], vllm_replicas=2, triton_models_gib=2)
    vllm, triton = found["vllm"], found["triton-inference"]
    assert (vllm["verdict"], vllm["why"], vllm["pods"], vllm["gpus"], vllm["nodes"]) == ("fits", "", 2, 2, 2)
    assert (vllm["profile"], vllm["instance_type"], vllm["disk"]) == ("gpu-vllm", "g5.xlarge", "13Gi")
    assert vllm["weights_bytes"] == pytest.approx(3.88 * GIB, rel=0.01)
    assert vllm["start_seconds"] > 0
    assert (triton["verdict"], triton["weights_bytes"], triton["tokens"]) == ("not checked", 2 * GIB, None)
    assert "depends on them" in triton["why"]


@pytest.mark.parametrize(
    ("variables", "verdict", "why"),
    [
        ({"vllm_gpu_memory_utilization": 0.3}, "too close to tell", "It would fit with"),
        ({"vllm_gpu_memory_utilization": 0.2}, "does not fit", "It would fit with"),
        ({"vllm_gpu_memory_utilization": 0.2, "vllm_skip_checks": {"memory": "runs"}}, "not checked", "turned this check off"),
        ({"vllm_max_model_len": 40000}, "refused", "see the problems"),
        ({"vllm_hardware_profile": "gpu", "vllm_resources": {"requests": {"cpu": 9}}}, "does not fit", "has 7910m to give"),
        ({"vllm_model": "org/unknown", "vllm_startup_seconds": 900}, "not checked", "nothing is known of org/unknown"),
    ],
)  # fmt: skip
def test_a_verdict_and_why(variables: dict, verdict: str, why: str) -> None:
    if "vllm_resources" in variables:
        limits = {"memory": "12Gi", "nvidia.com/gpu": 1}
        variables["vllm_resources"] = {"requests": {"cpu": 9, "memory": "8Gi"}, "limits": limits}
    row = rows(**variables)["vllm"]
    assert row["verdict"] == verdict
    assert why in row["why"]


def test_pods_that_an_autoscaler_counts_are_the_fewest_and_a_parked_judge_costs_nothing() -> None:
    scaled = rows(vllm_autoscaling={"minReplicas": 3, "maxReplicas": 9})["vllm"]
    assert (scaled["pods"], scaled["nodes"]) == (3, 3)
    judge = rows(vllm_judge_variant="judge", vllm_judge_parked=True)["judge-vllm"]
    assert (judge["pods"], judge["nodes"], judge["cost_per_hour"]) == (0, 0, 0)


def test_a_claim_and_a_node_that_nobody_chose() -> None:
    cache = {"type": "claim", "size": "40Gi", "access_mode": "ReadWriteMany"}
    kept = rows(vllm_cache=cache)["vllm"]
    assert (kept["claims"], kept["disk"]) == ({"vllm-cache": "40Gi"}, "5Gi")
    cache = {"type": "claim", "size": "40Gi", "claim_name": "theirs", "create": False}
    assert rows(vllm_cache=cache)["vllm"]["claims"] == {"theirs": ""}
    anywhere = rows(triton_profiles={"cpu": {"hardware_profile": ""}})["triton-inference"]
    assert (anywhere["profile"], anywhere["nodes"], anywhere["cost_per_hour"]) == ("", None, None)


def test_the_cost_is_that_of_whole_nodes() -> None:
    profiles = {
        "gpu-vllm": {"price_per_hour": 1.0},
        "cpu-compute": {"price_per_hour": 0.5},
        # Whose price changes all the time.
        "gpu": {"capacity_type": "spot"},
    }
    found = rendered(vllm_replicas=3, triton_profiles={"cpu": {"replicas": 5}}, platform_hardware_profiles=profiles)
    costs = {row["server"]: row["cost_per_hour"] for row in preflight.servers(found)}
    assert costs == {"vllm": 3.0, "triton-inference": 1.0, "triton-inference-gpu": None}
    all_pools = preflight.pools(found)
    assert {pool["profile"]: (pool["nodes"], pool["cost_per_hour"]) for pool in all_pools} == {
        "gpu-vllm": (3, 3.0),
        "cpu-compute": (2, 1.0),
        "gpu": (1, None),
    }
    total = preflight.lines(preflight.servers(found), all_pools)[-1]
    assert "2 x m6i.2xlarge" in total
    assert total.endswith("; $4.00 per hour, and g4dn.2xlarge, whose price is not known")


def test_a_node_takes_so_many_pods() -> None:
    few = {"cpu-compute": {"max_pods": 2}}
    found = rows(triton_profiles={"cpu": {"replicas": 3}}, platform_hardware_profiles=few)
    assert found["triton-inference"]["nodes"] == 2


def test_servers_of_a_pool_share_its_nodes() -> None:
    """Two that take one GPU of four are on one node, which costs once."""
    own = {"hardware_profile": "gpu-vllm-large", "tensor_parallel_size": 1}
    found = rendered(vllm_enabled_profiles=["vllm", "chat"], vllm_profiles={"vllm": own, "chat": own})
    large = next(pool for pool in preflight.pools(found) if pool["profile"] == "gpu-vllm-large")
    assert large["nodes"] == 1
    assert [row["nodes"] for row in preflight.servers(found) if row["role"] == "vllm"] == [1, 1]


def test_the_tables_fit_a_terminal() -> None:
    found = rendered(vllm_gpu_memory_utilization=0.3, triton_replicas=3)
    told = (preflight.servers(found), preflight.pools(found))
    wide, narrow = preflight.lines(*told), preflight.lines(*told, width=78)
    assert (
        " ".join(wide[0].split()) == "SERVER GPUS WEIGHTS KV CACHE TOKENS REQUESTS NODE VOLUMES START PER HOUR VERDICT"
    )
    headings = [line for line in narrow if line.startswith("SERVER")]
    assert len(headings) == 2
    assert all(len(line) <= 78 for line in narrow[:-2])
    # No verdict is cut.
    assert any(line.endswith("too close to tell") for line in narrow)
    assert preflight.lines([], []) == ["no server is on"]
