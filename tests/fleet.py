"""Clusters as the report finds them, without a cluster: what the inventory renders, with a state of its own for each server."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.modelyard.core.plugins.action import report as action
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import parking
from ansible_collections.modelyard.core.plugins.plugin_utils.report import findings
from ansible_collections.modelyard.core.plugins.plugin_utils.report.live import Live
from rendering import rendered

NOW = datetime(2026, 11, 29, 10, 0, tzinfo=UTC)
CLUSTERS, SERVERS = 64, 6
# Six servers, three of which take all GPUs of a node with eight or four.
SIX = {
    "triton_enabled_profiles": ["cpu", "gpu"],
    "vllm_enabled_profiles": ["vllm", "large"],
    "vllm_profiles": {
        "large": {
            "model": "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4",
            "hardware_profile": "eight",
            "tensor_parallel_size": 8,
            "max_model_len": 32768,
            "shm_size": "8Gi",
            "lora_enabled": False,
            "cache": {"size": "60Gi"},
            "resources": {
                "requests": {"cpu": 160, "memory": "300Gi"},
                "limits": {"cpu": 160, "memory": "320Gi", "nvidia.com/gpu": 8},
            },
        }
    },
    "vllm_judge_variant": "judge",
    "mlserver_enabled_profiles": ["mlserver"],
    "mlserver_models": {"iris": {"registered_model": "iris", "alias": "live"}},
    "platform_hardware_profiles": {"eight": {"instance_type": "g6e.48xlarge"}},
}


def ago(**time: float) -> str:
    """A time before NOW, as Kubernetes writes it."""
    return (NOW - timedelta(**time)).strftime("%Y-%m-%dT%H:%M:%SZ")


def deployment(
    found: dict, server: str, replicas: int | None = None, ready: int | None = None, note: Any = None
) -> dict:
    """A server's Deployment as the cluster would have it: rolled out, unless fewer are ready."""
    (item,) = (
        item for part in found["parts"] if part["name"] == server for item in part["objects"] if item["kind"] == "Deployment"
    )  # fmt: skip
    item = copy.deepcopy(item)
    wanted = item["spec"].get("replicas", 1) if replicas is None else replicas
    count = wanted if ready is None else ready
    item["spec"]["replicas"] = wanted
    item["metadata"] |= {"generation": 1, "creationTimestamp": ago(days=40)}
    item["status"] = {"observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted}
    item["status"] |= {"readyReplicas": count, "availableReplicas": count}
    if note:
        item["metadata"]["annotations"] |= {parking.NOTE: note if isinstance(note, str) else parking.write(note)}
    return item


def pod(
    server: str, number: int = 0, since: str | None = None, waiting: str = "", restarts: int = 0, ended: str = ""
) -> dict:
    """A pod of a server; `waiting` is why its container does not run, `ended` why it ended before."""
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    last = {"terminated": {"reason": ended}} if ended else {}
    container = {"name": server, "ready": not waiting, "restartCount": restarts, "state": state, "lastState": last}
    return {
        "metadata": {"name": f"{server}-{number}", "uid": f"{server}-{number}", "labels": {"app": server}, "creationTimestamp": since or ago(days=3)},
        "spec": {"nodeName": f"{server}-node-{number}.eu-central-1.compute.internal"},
        "status": {"phase": "Running", "containerStatuses": [container]},
    }  # fmt: skip


def live(
    found: dict, deployments: dict[str, dict] | None = None, pods: dict[str, list[dict]] | None = None, **more: Any
) -> Live:
    """A cluster on which all servers run as rendered, but for those that are given."""
    names = [part["name"] for part in found["parts"] if part["enabled"] and "needs" in part]
    there = {name: deployment(found, name) for name in names} | (deployments or {})
    there = {name: item for name, item in there.items() if item}
    run = {name: [pod(name, number) for number in range(item["spec"]["replicas"])] for name, item in there.items()}
    return Live(now=NOW, deployments=there, pods={**run, **(pods or {})}, **more)


def report(found: dict, seen: Live | None = None, why: str = "", host: str = "", **more: Any) -> dict:
    """What modelyard.core.report gives of a cluster, or of one that does not answer."""
    made = {**action._empty(found, host or found["cluster"]["name"]), "at": NOW.isoformat(), "why": why}
    made |= {**action._looked_at(found, seen), **more} if seen else more
    return made | {"findings": findings.of(made, NOW)}


def fleet(clusters: int = CLUSTERS) -> list[dict]:
    """Many clusters with six servers each: most well, some not, the last without an answer."""
    found = rendered(platform_cluster_name="name", **SIX)
    assert found["problems"] == []
    judge = {
        "judge-vllm": deployment(
            found,
            "judge-vllm",
            0,
            note={
                "by": "anna",
                "since": ago(days=2),
                "until": ago(hours=-20),
                "reason": "no evaluation before Monday",
                "replicas": 1,
            },
        )
    }
    releases = [
        {
            "number": number,
            "time": ago(days=10 - number),
            "by": "anna",
            "commit": "4f2d9c81aa07e3",
            "clean": "yes",
            "result": result,
            "reason": "",
            "rollback_to": 0,
            "changes": number % 4 + 1,
            "inventory": "inventories/eks",
        }
        for number, result in ((9, "succeeded"), (8, "rolled back"), (7, "succeeded"))
    ]
    slots = [
        {"event": "loaded", "slot": "aws-rag-qa-live", "version": "14"},
        {"event": "refused", "slot": "aws-rag-qa-candidate", "reason": "a rank of 128"},
    ]
    states = {
        1: live(found, {"vllm": deployment(found, "vllm", 1, 0), **judge}, {"vllm": [pod("vllm", waiting="CrashLoopBackOff", restarts=7, ended="OOMKilled")], "judge-vllm": []}),
        2: live(found, loaded={"vllm": slots}),
        3: live(found, {"triton-inference": None, **judge}, {"triton-inference": [], "judge-vllm": []}),
        5: live(found, {"vllm-large": deployment(found, "vllm-large", 1, 0), **judge}, {"vllm-large": [pod("vllm-large", since=ago(minutes=2), waiting="ContainerCreating")], "judge-vllm": []}),
    }  # fmt: skip
    scaled = {
        "server": "triton-inference",
        "kind": "Deployment",
        "name": "triton-inference",
        "what": "changed",
        "text": "changed spec.replicas: the inventory says 2, the cluster 3 (kubectl-scale, 28 Nov)",
    }
    well = live(found, judge, {"judge-vllm": []}, loaded={"vllm": slots})
    made = []
    for number in range(clusters):
        region = ("eu-central-1", "us-east-1", "ap-southeast-2", "eu-west-1")[number % 4]
        named = {
            **found,
            "cluster": {
                **found["cluster"],
                "name": f"{region}-{('prod', 'stage')[number % 2]}-{number:02}",
                "region": region,
            },
        }
        away = number == clusters - 1
        seen = None if away else states.get(number % 16, well)
        why = "https://10.0.12.7:6443 does not answer: connect timeout=5" if away else ""
        more = {} if away else {"releases": releases, "drift": [scaled] if number % 16 == 4 else []}
        made.append(report(named, seen, why, **more))
    return made
