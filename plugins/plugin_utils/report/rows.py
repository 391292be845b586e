"""Joins what the inventory says of a server with what lives into one row of the report; never asks a cluster, and never judges.

Sizes are in bytes, times RFC 3339, ages in seconds, money in US dollars; None stands for what is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import parking, rollout
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.volumes import unschedulable
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity
from ansible_collections.modelyard.core.plugins.plugin_utils.report import live as reading
from ansible_collections.modelyard.core.plugins.plugin_utils.report.live import Live
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import preflight

# The states of a server. ELSEWHERE: Argo CD deploys it to a cluster that was not looked at.
READY, STARTING, BROKEN, PARKED, OFF, ABSENT, ELSEWHERE = (
    "ready",
    "starting",
    "not rolled out",
    "parked",
    "no replicas",
    "not deployed",
    "elsewhere",
)
# As AWS counts a month.
MONTH_HOURS = 730
IN_CLUSTER = "https://kubernetes.default.svc"


def rows(rendered: Mapping, live: Live) -> list[dict]:
    """Give a row for each server that is on.

    Args:
        rendered: the structure of ``servers.render``.
        live: what its cluster has.

    Returns:
        ``server``, ``role``, ``profile`` (of hardware), ``instance_type``, ``model``, ``image`` (that runs), ``state``, ``why``, ``ready``, ``wanted``,
        ``parked`` (the note of ``cluster.parking``), ``nodes``, ``since`` and ``age`` (of its oldest pod), ``restarts``, ``killed`` (containers that ran out of
        memory), ``gpus`` (of one pod), ``memory`` (of one GPU: ``total``, ``weights``, ``kv``, ``lora``, ``reserve``, ``free``), ``tokens``, ``requests``,
        ``verdict``, ``verdict_why``, ``shares`` (of its node: ``cpu``, ``memory``, ``gpu``, each 0 to 1), ``cost`` (an hour: ``now``, ``parked``, ``awake``;
        and ``month``, and ``saved`` since it is parked), ``adapters`` (:func:`loaded`), ``account`` (``name``, ``role_arn``).
    """
    return [_row(part, rendered, live) for part in rendered["parts"] if part["enabled"] and "needs" in part]


def _wanted(deployment: Mapping | None) -> int:
    return deployment["spec"].get("replicas", 1) if deployment else 0


def _row(part: Mapping, rendered: Mapping, live: Live) -> dict:
    name, needs = part["name"], part["needs"]
    deployment, pods = live.deployments.get(name), live.pods.get(name, [])
    template = (deployment or _rendered(part) or {"spec": {"template": {"spec": {}}}})["spec"]["template"]["spec"]
    notes = (deployment or _rendered(part) or {"metadata": {}})["metadata"].get("annotations") or {}
    note = parking.read(deployment)
    state, why = _state(part, rendered, live)
    started = min((pod["metadata"]["creationTimestamp"] for pod in pods), default=None)
    states = [state for pod in pods for state in rollout.container_states(pod)]
    sizing = needs["sizing"]
    return {
        "server": name,
        "role": part["role"],
        "profile": needs["profile"],
        "instance_type": needs["instance_type"],
        "model": notes.get("modelyard/model", ""),
        "image": next((one["image"] for one in template.get("containers") or []), part.get("image", "")),
        "state": state,
        "why": why,
        "ready": (deployment or {}).get("status", {}).get("readyReplicas", 0),
        "wanted": _wanted(deployment),
        "parked": note if state == PARKED else {},
        "nodes": sorted({pod["spec"].get("nodeName", "") for pod in pods} - {""}),
        "since": started,
        "age": age(started, live.now),
        "restarts": sum(state.get("restartCount", 0) for state in states),
        "killed": sorted({state["name"] for state in states if _killed(state)}),
        "gpus": needs["gpus"],
        "memory": memory(needs),
        "tokens": sizing.get("tokens"),
        "requests": sizing.get("requests"),
        "verdict": sizing["verdict"],
        "verdict_why": sizing["why"],
        "shares": _shares(needs, [live.nodes.get(pod["spec"].get("nodeName", "")) for pod in pods]),
        "cost": _cost(name, part, live, note),
        "adapters": loaded(deployment, live.loaded.get(name)) if deployment else [],
        "account": {key: part["account"][key] for key in ("namespace", "name", "role_arn")} if part["account"] else {},
    }


def _rendered(part: Mapping) -> dict | None:
    return next((item for item in part["objects"] if item["kind"] == "Deployment"), None)


def age(since: str | None, now: datetime) -> float | None:
    """Give the seconds since a time (RFC 3339), not below 0; None where there is none, or it is no time."""
    try:
        return max(0.0, (now - datetime.fromisoformat(since)).total_seconds()) if since else None
    except (ValueError, TypeError):
        return None


def _killed(state: Mapping) -> bool:
    ended = [(state.get(when) or {}).get("terminated") or {} for when in ("state", "lastState")]
    return any(one.get("reason") == "OOMKilled" for one in ended)


def _state(part: Mapping, rendered: Mapping, live: Live) -> tuple[str, str]:
    """Say how a server is, and why where that is not as it should be."""
    deployment, pods = live.deployments.get(part["name"]), live.pods.get(part["name"], [])
    if deployment is None:
        target = rendered["settings"]["argocd_apps"]
        there = target.get("destination_name") or target.get("destination_server") or IN_CLUSTER
        if live.applications is not None and there != IN_CLUSTER:
            return ELSEWHERE, f"Argo CD deploys it to {there}, which was not looked at"
        return ABSENT, "the cluster has no Deployment of this name"
    if _wanted(deployment) == 0:
        return (PARKED, "") if parking.read(deployment) else (OFF, "")
    if rollout.is_complete(deployment):
        return READY, ""
    faults = [(pod, *found) for pod in pods if (found := rollout.fault(pod)) != ("", "")]
    if faults:
        pod, container, reason = faults[0]
        where = f"container {container}" if container else "its pod"
        return BROKEN, f"{where} of {pod['metadata']['name']}: {reason}"
    refused, progress = (rollout.condition(deployment, kind) for kind in ("ReplicaFailure", "Progressing"))
    if refused.get("status") == "True":
        return BROKEN, rollout.redact(f"its pods are refused: {refused.get('message') or refused.get('reason')}")
    pending = next((text for text in map(unschedulable, pods) if text), "")
    youngest = max((pod["metadata"]["creationTimestamp"] for pod in pods), default=None)
    waited = age(youngest or deployment["metadata"]["creationTimestamp"], live.now) or 0.0
    late = progress.get("reason") == "ProgressDeadlineExceeded" or waited > part["start_seconds"]
    if pending and (late or not part["autoscaled_pool"]):
        return BROKEN, f"no node takes its pod: {pending}"
    if late:
        return BROKEN, f"a start may take {part['start_seconds']} s, and the newest pod is {waited:.0f} s old"
    return STARTING, f"no node yet: {pending}" if pending else f"a start may take {part['start_seconds']} s"


def memory(needs: Mapping) -> dict:
    """Divide the memory of one GPU of a server; empty where it is not known what is in it.

    Args:
        needs: of ``servers.needs``.
    """
    sizing, total = needs["sizing"], needs["gpu_bytes"]
    if not needs["gpus"] or not total or sizing.get("weights_bytes") is None:
        return {}
    keys = {"weights": "weights_bytes", "kv": "kv_bytes", "lora": "lora_bytes", "reserve": "reserve_bytes"}
    parts = {name: float(sizing.get(key) or 0) for name, key in keys.items()}
    return {"total": total, **parts, "free": max(0.0, total - sum(parts.values()))}


def _shares(needs: Mapping, nodes: Iterable[Mapping | None]) -> dict[str, float]:
    """Say which share of its node a pod asks for: of the smallest that it is on, else of what the hardware profile says."""
    rooms = [_room(node, needs["gpu_resource"]) for node in nodes if node] or [needs["room"]]
    names = {"cpu": "cpu", "memory": "memory", "gpu": needs["gpu_resource"]}
    found = {}
    for name, resource in names.items():
        asked = needs["requests"].get(resource) or 0
        shares = [asked / float(room[resource]) for room in rooms if room.get(resource)]
        if asked and shares:
            found[name] = max(shares)
    return found


def _room(node: Mapping, gpu: str) -> dict[str, float]:
    room = node.get("status", {}).get("allocatable") or {}
    return {name: float(quantity.parse(room[name])) for name in ("cpu", "memory", gpu) if name in room}


def _cost(name: str, part: Mapping, live: Live, note: Mapping) -> dict[str, float | None]:
    """Price the nodes that a server's pods are on, those of them that others use too and that stay when it is parked, and what it would fill."""
    needs = part["needs"]
    price, awake = needs["price_per_hour"], note.get("replicas") or needs["awake"] or 1
    if price is None or not needs["profile"]:
        return dict.fromkeys(("now", "month", "parked", "awake", "saved"))
    own = _nodes(live, [name])
    shared = own & _nodes(live, live.pods.keys() - {name})
    filled = preflight.needed([needs | {"pods": awake}])
    waited = age(note.get("since"), live.now)
    return {
        "now": len(own) * price,
        "month": len(own) * price * MONTH_HOURS,
        "parked": len(shared) * price,
        "awake": None if filled is None else filled * price,
        "saved": None if filled is None or waited is None else filled * price * waited / 3600,
    }


def _nodes(live: Live, servers: Iterable[str]) -> set[str]:
    return {pod["spec"].get("nodeName", "") for name in servers for pod in live.pods.get(name, [])} - {""}


def cost_per_hour(rendered: Mapping, live: Live) -> tuple[float, list[str]]:
    """Price the nodes that the pods of all servers of a cluster are on, each once.

    Returns:
        US dollars an hour, and the hardware profiles whose price is not known.
    """
    prices: dict[str, float] = {}
    unpriced = set()
    for part in rendered["parts"]:
        nodes = _nodes(live, [part["name"]]) if part["enabled"] and "needs" in part else set()
        price = part["needs"]["price_per_hour"] if nodes else None
        if nodes and price is None:
            unpriced.add(part["needs"]["profile"] or "any node")
        prices |= dict.fromkeys(nodes, price or 0.0)
    return sum(prices.values()), sorted(unpriced)


def loaded(deployment: Mapping, events: list[dict] | None) -> list[dict]:
    """Say what is in each slot of a server's loader.

    Args:
        deployment: the live Deployment.
        events: of the loader's log; None where it can't be read.

    Returns:
        of each slot ``slot``, ``source`` (a model and its alias, or a URI), ``version`` (``""`` for none known) and ``state``: ``loaded``, ``version not known``, or why not.
    """
    _, wanted, model = reading.slots(deployment)
    sources = {slot: _source(source, model) for slot, source in wanted.items()}
    return [{"slot": slot, "source": source, **_content(slot, source, events)} for slot, source in sources.items()]


def _source(source: Any, model: str) -> str:
    if not isinstance(source, Mapping):
        return f"{model}@{source}"
    return str(source.get("uri") or f"{source.get('model')}@{source.get('alias')}")


def _content(slot: str, source: str, events: list[dict] | None) -> dict[str, str]:
    found = {"version": "", "state": "version not known"}
    for event in events or []:
        kind = event.get("event")
        if kind == "alias_missing" and f"{event.get('model')}@{event.get('alias')}" == source:
            found = {"version": "", "state": "MLflow has no such alias"}
        if slot not in (event.get("slot"), *(event.get("slots") or [])):
            continue
        if kind in ("loaded", "kept"):
            found = {"version": str(event.get("version") or ""), "state": "loaded"}
        elif kind in ("removed", "refused", "unavailable"):
            found = {"version": "", "state": rollout.redact(f"{kind}: {event.get('reason') or 'see the log'}")}
    return found
