"""Shares the GPUs of a node pool out among all servers of a host that are on; never asks a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ansible_collections.modelyard.core.plugins.plugin_utils.servers import instances, node
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

# Of one server; more change nothing in the answers but the time that they take.
MANY = 1000


class Demand(NamedTuple):
    """What one server asks of a pool.

    Attributes:
        name: the server's.
        gpus: of one pod.
        pods: how many; the fewest, where an autoscaler counts them.
    """

    name: str
    gpus: int
    pods: int


def demands(servers: Iterable, platform: Mapping) -> dict[str, list[Demand]]:
    """Say what the servers that are on ask of each hardware profile.

    Args:
        servers: ``kinds.Server``s; those that are off ask for nothing.
        platform: ``hardware_profiles``.
    """
    found: dict[str, list[Demand]] = {}
    for server in servers:
        profile = server.settings.get("hardware_profile")
        if server.enabled and isinstance(profile, str) and profile in platform["hardware_profiles"]:
            found.setdefault(profile, []).append(_demand(server.settings, platform["hardware_profiles"][profile]))
    return found


def demands_of(settings: Settings, platform: Mapping, profile: Mapping) -> list[Demand]:
    """Give what is asked of a server's pool by all that are on, or by the server alone, where it is off or no others are known."""
    there = (platform.get("demands") or {}).get(str(settings["hardware_profile"])) or []
    own = _demand(settings, profile)
    return there if own.name in {one.name for one in there} else [own]


def _demand(settings: Settings, profile: Mapping) -> Demand:
    limits = settings.get("resources", "limits")
    asked = node.gpus({"limits": limits if isinstance(limits, Mapping) else {}}, instances.completed(profile))
    least = [settings.get("autoscaling", "minReplicas"), settings.get("scaled_object", "minReplicaCount")]
    counts = [settings.get("replicas"), *least] if not any(least) else least
    pods = next((int(str(count)) for count in counts if str(count).isdecimal()), 1)
    return Demand(str(settings.get("name")), asked, min(pods, MANY))


def has_room(profile: Mapping, own: Demand, others: Iterable[Demand]) -> bool:
    """Tell whether one pod more of a server finds GPUs while all others stay.

    A pool that does not say how many nodes it has, has those that its servers fill, and its spare ones.

    Args:
        profile: the hardware profile: ``gpus``, ``max_nodes``, ``spare_nodes``, ``autoscaled``.
        own: the server.
        others: the other servers of the pool.
    """
    limit = int(profile.get("max_nodes") or 0)
    if not own.gpus or (not limit and (profile.get("autoscaled") or profile.get("spare_nodes"))):
        return True
    each = int(profile.get("gpus") or 0)
    # A parked one keeps the strategy that it has when it runs.
    there = [own._replace(pods=max(1, own.pods)), *others]
    return filled([*there, own._replace(pods=1)], each) <= (limit or filled(there, each))


def filled(there: Iterable[Demand], each: int) -> int:
    """Count the nodes that pods fill by their GPUs, the largest pod first.

    Args:
        there: the servers.
        each: GPUs of a node; a pod that asks for more has a node of its own here, and is refused elsewhere.
    """
    nodes: list[int] = []
    for gpus in sorted((one.gpus for one in there if one.gpus for _ in range(one.pods)), reverse=True):
        place = next((index for index, free in enumerate(nodes) if free >= gpus), None)
        if place is None:
            nodes.append(each - gpus)
        else:
            nodes[place] -= gpus
    return len(nodes)


def check(settings: Settings, profile: Mapping, there: list[Demand]) -> None:
    """Note that the servers of a pool need more nodes than it can have.

    Args:
        settings: of the first of them.
        profile: the hardware profile, with ``max_nodes``.
        there: all of them.
    """
    most, each = int(profile.get("max_nodes") or 0), int(profile.get("gpus") or 0)
    needed = filled(there, each)
    if not most or needed <= most:
        return
    name = str(settings["hardware_profile"])
    who = ", ".join(f"{one.name} {one.pods} x {one.gpus}" for one in there if one.gpus)
    settings.foresee(
        "pool",
        name,
        f"its servers ask for GPUs of {needed} nodes of {each} ({who}), and it has {most} (platform_hardware_profiles.{name}.max_nodes)",
        "hardware_profile",
    )
