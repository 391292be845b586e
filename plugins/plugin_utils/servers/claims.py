"""Decides where the pods of a server that share one claim can run; knows no kind, and never asks a cluster."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import parse
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import node
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

POD_ONLY = "ReadWriteOncePod"
HOSTNAME = "kubernetes.io/hostname"


def pods_of_a_node(pool: Mapping, resources: Mapping) -> int | None:
    """Count the pods for which a node of a pool has room; None where the pool does not say.

    Args:
        pool: the hardware profile: ``gpus``, ``allocatable``.
        resources: requests and limits of one pod.
    """
    counts = []
    for name, there in node.room(pool).items():
        wanted = resources["limits" if node.is_extended(name) else "requests"].get(name)
        try:
            if wanted is not None and parse(wanted) > 0:
                counts.append(int(parse(there) // parse(wanted)))
        except ValueError:  # told elsewhere
            continue
    return min(counts, default=None)


def surges(strategy: Mapping) -> bool:
    """Tell whether a strategy of the inventory starts a new pod beside the old one."""
    if not strategy or strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return False
    return str((strategy.get("rollingUpdate") or {}).get("maxSurge", "25%")) not in ("0", "0%")


def check(settings: Settings, mode: str, count: int | None, pool: Mapping, resources: Mapping) -> bool:
    """Check that all pods of a server, and a surge, can mount its claim.

    ReadWriteOnce is one node, which any number of its pods may share; ReadWriteOncePod is one pod
    (https://kubernetes.io/docs/concepts/storage/persistent-volumes/#access-modes).

    Args:
        settings: ``strategy``; where what is wrong is noted.
        mode: the claim's access mode.
        count: of pods; None for as many as an autoscaler wants.
        pool: the hardware profile.
        resources: requests and limits of one pod.

    Returns:
        whether its pods must be kept on one node.
    """
    strategy = settings["strategy"] or {}
    surge = surges(strategy)
    if mode == POD_ONLY:
        if count is None or count > 1:
            allowed = f"{mode} serves one pod, and there are {_many(count)}; use ReadWriteOnce on one node, ReadWriteMany or an empty_dir"
            settings.wrong(mode, allowed, "cache", "access_mode")
        if surge:
            settings.wrong(
                strategy, f"a surge can't mount the {mode} claim that the old pod holds; set maxSurge to 0", "strategy"
            )
        return False
    room = pods_of_a_node(pool, resources)
    # Of an autoscaler's pods two are the fewest that share.
    least = 2 if count is None else count
    if room is not None and least > max(room, 1):
        allowed = (
            f"{mode} is one node's: one of hardware profile {str(settings['hardware_profile'])!r} has room for {room} of its pods, "
            f"and there are {_many(count)}; use ReadWriteMany or an empty_dir"
        )
        settings.foresee("volumes", mode, allowed, "cache", "access_mode")
    elif room is not None and surge and least + 1 > room and (count is not None or room < 2):
        allowed = f"a surge can't mount the {mode} claim that the old pod's node holds: that has room for {room} of its pods; set maxSurge to 0"
        settings.foresee("volumes", strategy, allowed, "strategy")
    return count is None or count > 1 or surge


def _many(count: int | None) -> str:
    return "as many as an autoscaler wants" if count is None else str(count)


def affinity(given: Mapping, name: str) -> dict:
    """Keep a server's pods on one node: that of the claim, which the first pod chooses; an inventory's own podAffinity stays.

    Args:
        given: the inventory's affinity.
        name: of the server, the pods' label ``app``.
    """
    term = {"labelSelector": {"matchLabels": {"app": name}}, "topologyKey": HOSTNAME}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}, **given}
