"""Computes where a server's pod is put and what it takes of a node, and checks it against the hardware profile; knows no kind of server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import names, quantity
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import nearest, problem, where
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import present
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import instances
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.reading import (
    amount,
    dictionary,
    labels,
    listed,
    text,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

# Kubernetes' own; all others have a domain, or are pages of memory.
NATIVE = ("cpu", "memory", "ephemeral-storage")
HUGE_PAGES = "hugepages-"


def hardware(settings: Settings, platform: Mapping) -> Mapping:
    """Find the hardware profile, completed by its instance type; empty for none."""
    name = settings["hardware_profile"]
    if not name:
        return {}
    profiles = platform["hardware_profiles"]
    if name not in profiles:
        settings.wrong(name, nearest(name, profiles), "hardware_profile")
        return {}
    return instances.completed(profiles[name])


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
        if taint.get("value") and not names.GPU.search(taint["key"]):
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


def room(pool: Mapping) -> dict:
    """Say what a node of a hardware profile gives away: resource to quantity."""
    gpus_there = {pool["gpu_resource"]: pool["gpus"]} if pool.get("gpus") is not None else {}
    return {**(pool.get("allocatable") or {}), **gpus_there}


def gpu_resource(resources: Mapping, pool: Mapping) -> str:
    """Name what the GPUs of a container are counted as: by its hardware profile, or without one by what it asks for."""
    asked = (name for name in resources.get("limits") or {} if names.GPU.search(str(name)))
    return str(pool.get("gpu_resource") or next(asked, instances.GPU))


def gpus(resources: Mapping, pool: Mapping) -> int:
    """Count the GPUs of a container."""
    value = (resources.get("limits") or {}).get(gpu_resource(resources, pool)) or 0
    return int(quantity.parse(value)) if is_quantity(value) else 0


def resources(
    settings: Settings,
    platform: Mapping,
    pool: Mapping,
    ephemeral: Iterable[str] = (),
    memory: Iterable[str] = (),
    key: str = "resources",
) -> dict:
    """Read requests and limits, and check them against each other and the node.

    Args:
        settings: with ``hardware_profile`` and the resources.
        platform: ``daemonset_requests``.
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
    _check_names(settings, pool, given, key)
    _check_limits(settings, given, parsed, key)
    _check_huge_pages(settings, given, parsed, key)
    _check_allocatable(settings, platform, pool, given, parsed, key)
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
        exact = is_extended(name)
        if request is not None and limit is not None and (request > limit or (exact and request != limit)):
            rule = "must equal" if exact else "must not be above"
            settings.wrong(given["requests"][name], f"{rule} the limit, {given['limits'][name]}", key, "requests", name)
        if exact and name not in given["limits"]:
            what = "GPUs are" if names.GPU.search(name) else "it is"
            allowed = f"{what} asked for by a limit, {settings.path(key, 'limits', name)}"
            settings.wrong(given["requests"][name], allowed, key, "requests", name)
    for part, values in parsed.items():
        for name, count in values.items():
            if "/" in name and count is not None and count != int(count):
                what = " of GPUs" if names.GPU.search(name) else ""
                settings.wrong(given[part][name], f"must be a whole number{what}", key, part, name)


def is_extended(name: str) -> bool:
    """Tell whether Kubernetes gives a resource away whole, so that request and limit are one: devices, and huge pages."""
    return "/" in name or name.startswith(HUGE_PAGES)


def _check_names(settings: Settings, pool: Mapping, given: dict, key: str) -> None:
    """Note resources that do not exist, and GPUs by another name than the hardware profile counts them by."""
    counted = pool.get("gpu_resource")
    for part, values in given.items():
        for name, value in values.items():
            if not is_extended(name) and name not in NATIVE:
                settings.wrong(value, f"{nearest(name, NATIVE)}, hugepages-SIZE, DOMAIN/NAME", key, part, name)
            elif counted and name != counted and names.GPU.search(name) and name not in (pool["allocatable"] or {}):
                profile = str(settings["hardware_profile"])
                allowed = (
                    f"hardware profile {profile!r} counts its GPUs as {counted}: ask for that, or set "
                    f"platform_hardware_profiles.{profile}.gpu_resource"
                )
                settings.wrong(value, allowed, key, part, name)


def _check_huge_pages(settings: Settings, given: dict, parsed: dict, key: str) -> None:
    """Check what the API server refuses (k8s.io/kubernetes/pkg/apis/core/validation: ValidateResourceRequirements)."""
    asked = {name: size for name, size in parsed["limits"].items() if name.startswith(HUGE_PAGES)}
    for name, size in asked.items():
        page = name.removeprefix(HUGE_PAGES)
        if not is_quantity(page) or quantity.parse(page) <= 0:
            settings.wrong(
                given["limits"][name], "must be called by a size of pages, as hugepages-2Mi", key, "limits", name
            )
        elif size is not None and size % quantity.parse(page):
            settings.wrong(given["limits"][name], f"must be a multiple of {page}", key, "limits", name)
        if not {"cpu", "memory"} & {*given["requests"], *given["limits"]}:
            settings.wrong(given["limits"][name], "needs a request of cpu or memory beside it", key, "limits", name)


def is_quantity(value: object) -> bool:
    """Tell whether a value is a Kubernetes quantity."""
    try:
        quantity.parse(value)
    except ValueError:
        return False
    return True


def _check_allocatable(
    settings: Settings, platform: Mapping, pool: Mapping, given: dict, parsed: dict, key: str
) -> None:
    if not pool:
        return
    profile = settings["hardware_profile"]
    there = room(pool)
    # Of a device that a profile does not name it has none.
    devices = {name for name in parsed["limits"] if is_extended(name) and not names.GPU.search(name)}
    shared = platform["daemonset_requests"]
    for name, available in {**dict.fromkeys(sorted(devices), 0), **there}.items():
        part = "limits" if is_extended(name) else "requests"
        wanted = parsed[part].get(name)
        taken = quantity.parse(shared.get(name) or 0)
        if wanted is not None and is_quantity(available) and wanted > quantity.parse(available) - taken:
            allowed = f"a node of hardware profile {str(profile)!r} has {available} to give"
            # Whichever of the two the inventory sets is where to change it.
            allowed += f" (set at {where(available)})" if where(available) else ""
            if wanted <= quantity.parse(available):
                allowed += f", and DaemonSets take {shared[name]} of it (platform_daemonset_requests)"
            elif name in devices and name not in there:
                allowed += f": where it has them, say so in platform_hardware_profiles.{profile}.allocatable"
            place = settings.place(key, part, name)
            settings.misfits.append(problem(settings.path(key, part, name), given[part][name], allowed, place))


def _check_memory_volumes(settings: Settings, limit: Any, memory: Iterable[str]) -> None:
    for key in memory:
        size = amount(settings, key)
        if size is not None and limit is not None and size >= limit:
            settings.wrong(settings[key], "is memory of the container and must be below its memory limit", key)
