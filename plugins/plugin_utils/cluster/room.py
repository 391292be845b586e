"""Looks whether a cluster has GPUs left for the pods that a run starts; never writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import outage
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster, describe, readable
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.fit import amount_of, pod_requests
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.names import GPU

# No pod is put on a node with one of these taints unless it tolerates it.
REPELLING = ("NoSchedule", "NoExecute")
ALIVE = "status.phase!=Succeeded,status.phase!=Failed"
ADVICE = (
    "It waits for a node (apply_capacity_timeout): free a GPU, or add one; where an autoscaler does, say so (autoscaled in "
    "the hardware profile)"
)
ADVICE_BESIDE = (
    f"{ADVICE}; or let the old pod go first (spare_nodes: 0 in the hardware profile, or maxSurge: 0 in the strategy)"
)


class Starting(NamedTuple):
    """Pods that a run starts.

    Attributes:
        item: their Deployment, as it is to be.
        count: how many of them are needed at a time.
        beside: whether an old pod stays until one of them is ready.
    """

    item: dict
    count: int
    beside: bool


def warnings(cluster: Cluster, nodes: list[dict], changes: list, gone: list) -> list[str]:
    """Tell which pods of a run will find no node with free GPUs.

    Args:
        cluster: where to look; pods are listed only if a Deployment with GPUs gets new ones.
        nodes: the cluster's nodes.
        changes: the ``Change``s to be applied, without those whose pool an autoscaler enlarges.
        gone: those that are pruned.

    Returns:
        a line for each Deployment whose pods would wait.
    """
    starting = _all(changes, nodes)
    if not starting:
        return []
    pools = {node["metadata"]["name"] for one in starting for node in _pool(one.item, nodes)}
    pods, seen = _running(cluster, sorted(pools), starting[0].item["metadata"]["namespace"])
    return expected(nodes, pods, changes, gone, seen)


def expected(nodes: list[dict], pods: list[dict], changes: list, gone: list, seen: str) -> list[str]:
    """Place the pods of a run on the nodes as they are, and tell which find none.

    Args:
        nodes: the cluster's nodes.
        pods: what runs on them.
        changes: as of ``warnings``.
        gone: as of ``warnings``.
        seen: what is to be said of how ``pods`` were found.

    Returns:
        as of ``warnings``.
    """
    staying = _staying(pods, [*changes, *gone])
    room = {node["metadata"]["name"]: _free(node, staying) for node in nodes}
    lines = []
    # The largest first, as whoever packs does; and what one takes is not there for the next.
    for one in sorted(_all(changes, nodes), key=lambda one: max(_extended(_pod(one.item)).values()), reverse=True):
        pool = _pool(one.item, nodes)
        names = [node["metadata"]["name"] for node in pool]
        missing = one.count - sum(_place(_pod(one.item), names, room) for _ in range(one.count))
        if missing:
            lines.append(f"{_told(one, missing, pool, room, staying, seen)}. {ADVICE_BESIDE if one.beside else ADVICE}")
    return lines


def _staying(pods: list[dict], changes: list) -> list[dict]:
    """Leave out the pods that a run ends."""
    staying = list(pods)
    for change in changes:
        if change.before and change.item["kind"] == "Deployment":
            mine = [pod for pod in staying if _is_of(pod, change.before)]
            left = 0 if not change.after or _replaced(change) else change.after["spec"].get("replicas", 1)
            ended = mine[: max(0, len(mine) - left)]
            staying = [pod for pod in staying if pod not in ended]
    return staying


def _all(changes: list, nodes: list[dict]) -> list[Starting]:
    """Find what starts pods with GPUs on nodes that are there."""
    found = [one for one in map(_starting, changes) if one]
    return [one for one in found if _extended(_pod(one.item)) and _pool(one.item, nodes)]


def _pod(item: Mapping) -> dict:
    return item["spec"]["template"]["spec"]


def _extended(pod: Mapping) -> dict[str, Decimal]:
    """What a pod asks for of devices, GPUs first: resources with a domain, such as nvidia.com/gpu."""
    found = [(name, value) for name, value in pod_requests(pod).items() if "/" in name and value]
    return dict(sorted(found, key=lambda pair: not GPU.search(pair[0])))


def _starting(change: Any) -> Starting | None:
    """Count the pods that a change starts while others of it are there."""
    if change.item["kind"] != "Deployment":
        return None
    after, before = change.after, change.before
    replicas = after["spec"].get("replicas", 1)
    old = before["spec"].get("replicas", 1) if before else 0
    if not before or _replaced(change):
        return Starting(after, replicas, False) if replicas else None
    surge = before["spec"]["template"] != after["spec"]["template"] and replicas and old and not outage.lacking(after)
    more = max(0, replicas - old)
    return Starting(after, more + bool(surge), bool(surge)) if more or surge else None


def _replaced(change: Any) -> bool:
    """Tell whether the old pods of a Deployment make room for its new ones."""
    differs = change.before["spec"]["template"] != change.after["spec"]["template"]
    return differs and outage.lacking(change.after) > 0


def _pool(item: Mapping, nodes: list[dict]) -> list[dict]:
    """Find the nodes that a Deployment's pods may be put on, full or not."""
    pod = _pod(item)
    labels = (pod.get("nodeSelector") or {}).items()
    return [
        node
        for node in nodes
        if labels <= (node["metadata"].get("labels") or {}).items()
        and not node["spec"].get("unschedulable")
        and all(
            any(_tolerates(one, taint) for one in pod.get("tolerations") or [])
            for taint in node["spec"].get("taints") or []
            if taint["effect"] in REPELLING
        )
    ]


def _tolerates(toleration: Mapping, taint: Mapping) -> bool:
    same = toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")
    return (
        toleration.get("key") in (None, "", taint["key"])
        and toleration.get("effect") in (None, "", taint["effect"])
        and same
    )


def _running(cluster: Cluster, names: list[str], namespace: str) -> tuple[list[dict], str]:
    """List the pods of nodes; where this credential sees those of one namespace alone, that is said in the second part."""

    def on(name: str) -> list[dict]:
        return cluster.list("v1", "Pod", None, fieldSelector=f"spec.nodeName={name},{ALIVE}")

    everywhere = readable(cluster.parallel, on, names)
    if everywhere is not None:
        return [pod for pods in everywhere for pod in pods], ""
    here = readable(cluster.list, "v1", "Pod", namespace, fieldSelector=ALIVE)
    return ([], "") if here is None else (here, f" (pods outside {namespace} are not seen)")


def _is_of(pod: Mapping, deployment: Mapping) -> bool:
    wanted = deployment["spec"]["selector"].get("matchLabels") or {}
    same = pod["metadata"]["namespace"] == deployment["metadata"]["namespace"]
    return bool(same and wanted and wanted.items() <= (pod["metadata"].get("labels") or {}).items())


def _free(node: Mapping, pods: list[dict]) -> Counter:
    """What a node has left."""
    here = [pod["spec"] for pod in pods if pod["spec"].get("nodeName") == node["metadata"]["name"]]
    room = Counter({name: quantity.parse(value) for name, value in node["status"].get("allocatable", {}).items()})
    for pod in here:
        room.subtract(pod_requests(pod))
    return room


def _place(pod: Mapping, pool: list[str], room: dict[str, Counter]) -> bool:
    """Take a pod's requests from the node that has the least left of those that have enough; tell whether there is one."""
    wanted = pod_requests(pod)
    fitting = [name for name in pool if all(room[name][key] >= value for key, value in wanted.items())]
    if not fitting:
        return False
    device = next(iter(_extended(pod)))
    room[min(fitting, key=lambda name: room[name][device])].subtract(wanted)
    return True


def _told(one: Starting, missing: int, pool: list[dict], room: dict[str, Counter], pods: list[dict], seen: str) -> str:
    """Say how many pods find no node, and who has what they ask for."""
    asked, names = pod_requests(_pod(one.item)), [node["metadata"]["name"] for node in pool]
    device = next(iter(_extended(_pod(one.item))))
    there = sum(quantity.parse(node["status"].get("allocatable", {}).get(device, 0)) for node in pool)
    free = sum(max(Decimal(0), room[name][device]) for name in names)
    holders = [
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']} {_extended(pod['spec'])[device]}"
        for pod in pods
        if pod["spec"].get("nodeName") in names and device in _extended(pod["spec"])
    ]
    who = f"{missing} of the {one.count} pods" if one.count > 1 else "the pod"
    place = f"the {len(pool)} nodes of its pool" if len(pool) > 1 else f"the one node of its pool, {names[0]},"
    rest = ", ".join(f"{amount_of(name, value)} {name}" for name, value in asked.items())
    held = f"; taken by {', '.join(sorted(holders))}{seen}" if holders else seen
    return (
        f"{describe(one.item)}: {who} that this run starts{' beside the old' if one.beside else ''} will find no room on {place} "
        f"now: {'each asks' if one.count > 1 else 'it asks'} for {rest}, and {free:f} of {there:f} {device} are free{held}"
    )
