"""Reads the containers that an inventory adds to a server's pods, in Kubernetes' own form; knows no kind of server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.fit import amount_of, pod_requests
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.formats import format_error
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import nearest, problem
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import present
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import node, workload
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

SIDECARS, INITS = "sidecars", "extra_init_containers"


def compute(settings: Settings, platform: Mapping, server: Mapping) -> dict[str, list[dict]]:
    """Read a server's further containers.

    Native sidecars (``restartPolicy: Always``) start first and stay, so that what starts after them can use them; then come the
    inventory's init containers; then the loader's, if there is one.

    Args:
        settings: ``sidecars`` and ``extra_init_containers``; where what is wrong is noted.
        platform: the platform's variables without their prefix.
        server: what else is computed of it; ``init`` where it has a loader.

    Returns:
        ``sidecars``, beside the main container, and ``init_containers``, before the loader's.
    """
    taken = {str(settings["container_name"]), *([server["init"]["name"]] if "init" in server else [])}
    volumes = {volume["name"] for volume in server["volumes"]}
    found: dict[str, list[dict]] = {}
    for key in (SIDECARS, INITS):
        found[key] = []
        for index, item in enumerate(workload.listed(settings, key)):
            _check_name(settings, item, taken, key, index)
            _check_parts(settings, item, volumes, key, index)
            found[key].append(_container(settings, platform, item, key, index))
    native = [item for item in found[SIDECARS] if item.get("restartPolicy") == "Always"]
    beside = [item for item in found[SIDECARS] if item.get("restartPolicy") != "Always"]
    computed = {SIDECARS: beside, "init_containers": [*native, *found[INITS]]}
    if any(computed.values()):
        _check_node(settings, node.hardware(settings, platform), server, computed)
    return computed


def _check_name(settings: Settings, item: Mapping, taken: set[str], *keys: object) -> None:
    name = item.get("name")
    if wrong := format_error(name, "label"):
        settings.wrong(name, wrong, *keys, "name")
    elif name in taken:
        settings.wrong(name, f"must be a name of its own; taken: {', '.join(sorted(taken))}", *keys, "name")
    taken.add(str(name))


def _check_parts(settings: Settings, item: Mapping, volumes: set[str], *keys: object) -> None:
    """Check what a dry run does not tell in the inventory's words: the restart policy, mounts and quantities."""
    if item.get("restartPolicy") not in (None, "Always"):
        settings.wrong(item["restartPolicy"], "must be Always, or left out", *keys, "restartPolicy")
    for index, mount in enumerate(item.get("volumeMounts") or []):
        name = mount.get("name") if isinstance(mount, Mapping) else mount
        if name not in volumes:
            settings.wrong(name, nearest(str(name), volumes), *keys, "volumeMounts", index, "name")
    for part in ("requests", "limits"):
        for resource, value in ((item.get("resources") or {}).get(part) or {}).items():
            if not node.is_quantity(value):
                allowed = "must be a Kubernetes quantity such as 500m, 4 or 14Gi"
                settings.wrong(value, allowed, *keys, "resources", part, resource)


def _container(settings: Settings, platform: Mapping, item: Mapping, *keys: object) -> dict:
    """Point a container at its image's mirror, and give it what it leaves out: it may no more than the server's own."""
    image = workload.mirrored(settings, platform, item.get("image"), *keys, "image")
    result: dict[str, Any] = {"imagePullPolicy": settings["image_pull_policy"], **item, "image": image}
    if item.get("env"):
        result["env"] = workload.variables(settings, item["env"], *keys, "env")
    context = {**workload.security_context(settings), **(item.get("securityContext") or {})}
    return {**result, "securityContext": present(context)}


def check_ports(settings: Settings, objects: list[dict]) -> None:
    """Refuse a sidecar's port on which the server itself listens: a pod's containers have one address.

    Args:
        settings: ``sidecars``; where what is wrong is noted.
        objects: what was rendered for the server.
    """
    pods = [item["spec"]["template"]["spec"] for item in objects if item["kind"] == "Deployment"]
    ours = {port["containerPort"] for pod in pods for port in pod["containers"][0].get("ports") or []}
    for index, item in enumerate(settings[SIDECARS] or []):
        for place, port in enumerate(item.get("ports") or []):
            number = port.get("containerPort") if isinstance(port, Mapping) else None
            if number in ours:
                allowed = "is the server's own, and the containers of a pod share their ports"
                settings.wrong(number, allowed, SIDECARS, index, "ports", place, "containerPort")


def _check_node(settings: Settings, pool: Mapping, server: Mapping, computed: Mapping) -> None:
    """Note that a node is too small for all containers together; the main one alone is told elsewhere."""
    main = {"resources": server["resources"]}
    loader = [{"resources": server["init"]["resources"]}] if "init" in server else []
    pod = {"containers": [main, *computed[SIDECARS]], "initContainers": [*computed["init_containers"], *loader]}
    try:
        alone, wanted = pod_requests({"containers": [main]}), pod_requests(pod)
    except (ValueError, AttributeError):  # told already
        return
    for name, there in node.room(pool).items():
        if not node.is_quantity(there):
            continue
        most = quantity.parse(there)
        if alone.get(name, 0) <= most < wanted.get(name, 0):
            key = SIDECARS if settings[SIDECARS] else INITS
            allowed = (
                f"a node of hardware profile {str(settings['hardware_profile'])!r} has {there} {name} to give, and all containers "
                f"together ask for {amount_of(name, wanted[name])}"
            )
            given = [item.get("name") for item in settings[key]]
            settings.misfits.append(problem(settings.path(key), given, allowed, settings.place(key)))
