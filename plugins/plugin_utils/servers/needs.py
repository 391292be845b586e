"""What one server asks of its nodes, as plain data for those who add it up; never asks a cluster."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import fit
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import instances, node
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

DISK = "ephemeral-storage"
UNCHECKED = "not checked"


def of(server: Mapping, settings: Settings, platform: Mapping, objects: list[dict], wrong: bool) -> dict:
    """Say what a server asks of its nodes.

    Args:
        server: as its kind computed it.
        settings: its settings.
        platform: the platform's variables without their prefix.
        objects: its objects; none where something is wrong with it.
        wrong: whether something is.

    Returns:
        of its hardware profile ``profile``, ``instance_type``, ``capacity_type``, ``gpu_resource``, ``price_per_hour`` (None for unknown) and ``room``
        (what a node gives: resource to amount); ``gpu_bytes`` (memory of one GPU, None for unknown); ``pods`` (the fewest, where an autoscaler counts them), ``awake`` (also
        those of a server that the inventory parks, when it is woken), of one pod ``gpus``,
        ``requests`` (resource to amount), ``disk`` (a quantity, ``""`` for none) and ``claims`` (name to size, ``""`` for unknown);
        ``sizing`` as ``vllm_fit.check`` gives it, and ``wrong``.
    """
    name = str(settings["hardware_profile"] or "")
    pool = platform["hardware_profiles"].get(name) or {}
    pool = instances.completed(pool) if pool else {}
    most = {"pods": pool["max_pods"]} if pool.get("max_pods") else {}
    deployment = next((item for item in objects if item["kind"] == "Deployment"), None)
    pod = deployment["spec"]["template"]["spec"] if deployment else {"containers": [server]}
    requests = _amounts(fit.pod_requests, pod)
    return {
        "profile": name,
        "instance_type": pool.get("instance_type") or "",
        "capacity_type": pool.get("capacity_type") or "on-demand",
        "gpu_resource": node.gpu_resource(server["resources"], pool),
        "price_per_hour": pool.get("price_per_hour"),
        "room": _amounts(lambda given: _left(given, platform["daemonset_requests"]), {**node.room(pool), **most}),
        "gpu_bytes": _gpu_bytes(pool),
        "pods": pods(server),
        "awake": server.get("awake", pods(server)),
        "gpus": node.gpus(server["resources"], pool),
        "requests": requests,
        "disk": quantity.total(int(requests[DISK])) if requests.get(DISK) else "",
        "claims": _claims(server, objects),
        "sizing": server.get("sizing") or _unsized(server),
        "wrong": wrong,
    }


def _left(room: Mapping, shared: Mapping) -> dict:
    """Give what a node has for servers, beside its DaemonSets."""
    return {key: quantity.parse(value) - quantity.parse(shared.get(key) or 0) for key, value in room.items()}


def _amounts(read, given: Mapping) -> dict[str, float]:
    """Read amounts; none of those are known where one is no quantity, which is told elsewhere."""
    try:
        return {key: float(value) for key, value in read(given).items()}
    except ValueError:
        return {}


def _gpu_bytes(pool: Mapping) -> float | None:
    """Give the memory of one GPU; None where the profile does not say it, or not as a number, which is told elsewhere."""
    size = pool.get("gpu_memory_gib")
    return float(size) * quantity.GIB if isinstance(size, (int, float)) and size > 0 else None


def pods(server: Mapping) -> int:
    """Count the pods of a server as its kind computed it; the fewest, where an autoscaler counts them."""
    if server["replicas"] is not None:
        return server["replicas"]
    least = [
        (server[key] or {}).get(name)
        for key, name in (("autoscaling", "minReplicas"), ("scaled_object", "minReplicaCount"))
    ]
    return next((int(number) for number in least if number is not None), 1)


def _claims(server: Mapping, objects: list[dict]) -> dict[str, str]:
    sizes = {
        item["metadata"]["name"]: str(item["spec"]["resources"]["requests"]["storage"])
        for item in objects
        if item["kind"] == "PersistentVolumeClaim"
    }
    named = [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in server["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    return {name: sizes.get(name, "") for name in named}


def _unsized(server: Mapping) -> dict:
    """Give the sizing of a kind that does not compute what its models take."""
    size = server.get("models_gib")
    return {
        "weights_bytes": float(size) * quantity.GIB if isinstance(size, (int, float)) else None,
        "verdict": UNCHECKED,
        "why": "what its models take of memory depends on them and their backends",
    }
