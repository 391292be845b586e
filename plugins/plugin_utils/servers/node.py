"""Computes where a server's pod is put and what it takes of a node, and checks it against the hardware profile; knows no kind of server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import nearest, problem, where
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import present
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.reading import (
    amount,
    dictionary,
    labels,
    listed,
    text,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

GPU = "nvidia.com/gpu"


def hardware(settings: Settings, platform: Mapping) -> Mapping:
    """Find the hardware profile; empty for none."""
    name = settings["hardware_profile"]
    if not name:
        return {}
    profiles = platform["hardware_profiles"]
    if name not in profiles:
        settings.wrong(name, nearest(name, profiles), "hardware_profile")
        return {}
    return profiles[name]


def node_selector(settings: Settings, pool: Mapping) -> dict:
    """Labels of the pool, and the user's."""
    return {**present(pool.get("labels") or {}), **labels(settings, "node_selector")}


def tolerations(settings: Settings, pool: Mapping) -> list[dict]:
    """Tolerate the pool's taints, and what the user adds.

    A taint without a value, and a GPU taint with any, is tolerated by Exists: clusters differ in its value.
    """
    result = []
    for taint in pool.get("taints") or []:
        toleration = {"key": taint["key"], "operator": "Exists", "effect": taint["effect"]}
        if taint.get("value") and taint["key"] != GPU:
            toleration.update(operator="Equal", value=taint["value"])
        result.append(toleration)
    own = listed(settings, "tolerations")
    for index, item in enumerate(own):
        exists = item.get("operator") == "Exists"
        if not (item.get("key") or exists) or (exists and item.get("value")):
            # k8s.io/kubernetes/pkg/apis/core/validation: ValidateTolerations
            settings.wrong(dict(item), "needs a key, or operator Exists, which has no value", "tolerations", index)
        if item.get("tolerationSeconds") is not None and item.get("effect") != "NoExecute":
            settings.wrong(
                item["tolerationSeconds"], "needs effect NoExecute", "tolerations", index, "tolerationSeconds"
            )
    return result + [present(item) for item in own]


def gpus(resources: Mapping) -> int:
    """Count the GPUs of a container."""
    value = (resources.get("limits") or {}).get(GPU) or 0
    return int(quantity.parse(value)) if is_quantity(value) else 0


def resources(
    settings: Settings, pool: Mapping, ephemeral: Iterable[str] = (), memory: Iterable[str] = (), key: str = "resources"
) -> dict:
    """Read requests and limits, and check them against each other and the node.

    Args:
        settings: with ``hardware_profile`` and the resources.
        pool: the hardware profile.
        ephemeral: sizes of what the pod keeps on the node's disk, for the ``ephemeral-storage`` request.
        memory: settings with the size of a volume in memory, which counts in the container's memory limit.
        key: the setting; what must be set is so only for the main container's, ``resources``.

    Returns:
        ``requests`` and ``limits`` for the container.
    """
    parts = ("requests", "limits")
    for name in dictionary(settings, key):
        if name not in parts:
            settings.wrong(name, nearest(name, parts), key, name)
    given = {part: {k: v for k, v in dictionary(settings, key, part).items() if v is not None} for part in parts}
    parsed = {part: {name: amount(settings, key, part, name) for name in given[part]} for part in parts}
    _check_limits(settings, given, parsed, key)
    _check_allocatable(settings, pool, given, parsed, key)
    _check_memory_volumes(settings, parsed["limits"].get("memory"), memory)
    sizes = [size for size in ephemeral if is_quantity(size)]
    if sizes and "ephemeral-storage" not in given["requests"]:
        given["requests"]["ephemeral-storage"] = quantity.total(*sizes)
    return {part: {name: text(value) for name, value in values.items()} for part, values in given.items()}


def _check_limits(settings: Settings, given: dict, parsed: dict, key: str) -> None:
    if key == "resources":
        for part, name in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
            if name not in given[part]:
                settings.wrong(None, "must be set", key, part, name)
    for name, request in parsed["requests"].items():
        limit = parsed["limits"].get(name)
        if request is not None and limit is not None and (request > limit or (name == GPU and request != limit)):
            rule = "must equal" if name == GPU else "must not be above"
            settings.wrong(given["requests"][name], f"{rule} the limit, {given['limits'][name]}", key, "requests", name)
    if GPU in given["requests"] and GPU not in given["limits"]:
        allowed = f"GPUs are asked for by a limit, {settings.path(key, 'limits', GPU)}"
        settings.wrong(given["requests"][GPU], allowed, key, "requests", GPU)
    for part, values in parsed.items():
        count = values.get(GPU)
        if count is not None and count != int(count):
            settings.wrong(given[part][GPU], "must be a whole number of GPUs", key, part, GPU)


def is_quantity(value: object) -> bool:
    """Tell whether a value is a Kubernetes quantity."""
    try:
        quantity.parse(value)
    except ValueError:
        return False
    return True


def _check_allocatable(settings: Settings, pool: Mapping, given: dict, parsed: dict, key: str) -> None:
    if not pool:
        return
    profile = settings["hardware_profile"]
    room = dict(pool.get("allocatable") or {})
    if pool.get("gpus") is not None:
        room[GPU] = pool["gpus"]
    for name, available in room.items():
        part = "limits" if name == GPU else "requests"
        wanted = parsed[part].get(name)
        if wanted is not None and is_quantity(available) and wanted > quantity.parse(available):
            allowed = f"a node of hardware profile {str(profile)!r} has {available} to give"
            # Whichever of the two the inventory sets is where to change it.
            allowed += f" (set at {where(available)})" if where(available) else ""
            place = settings.place(key, part, name)
            settings.misfits.append(problem(settings.path(key, part, name), given[part][name], allowed, place))


def _check_memory_volumes(settings: Settings, limit: Any, memory: Iterable[str]) -> None:
    for key in memory:
        size = amount(settings, key)
        if size is not None and limit is not None and size >= limit:
            settings.wrong(settings[key], "is memory of the container and must be below its memory limit", key)


def takes_last_gpu(resources_: Mapping, pool: Mapping) -> bool:
    """Tell whether no second pod fits on the GPUs of a node."""
    wanted = gpus(resources_)
    return wanted > 0 and 2 * wanted > int(pool.get("gpus") or 0)


def has_spare_node(pool: Mapping) -> bool:
    """Tell whether a pool has a node beyond those that its servers fill, or gets one by itself."""
    return bool(pool.get("autoscaled") or pool.get("spare_nodes"))
