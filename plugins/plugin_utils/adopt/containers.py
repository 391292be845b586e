"""Turns the containers beside a server's into sidecars and init containers, and names what a pod refers to; knows no kind of server."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.normal import plain
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.result import Adopted
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.workload import is_credential


def image(reference: str) -> str:
    """Give an image's reference with the tag that Kubernetes takes where there is none."""
    last = reference.rpartition("/")[2]
    return reference if ":" in last or "@" in last else f"{reference}:latest"


def fill(found: Adopted, pod: Mapping, main: Mapping) -> None:
    """Give the other containers, by the names that the pod's volumes have now; credentials in them are left out and told."""
    beside = [item for item in pod["containers"] if item["name"] != main["name"]]
    first = list(pod.get("initContainers") or [])
    found.settings["sidecars"] = [_other(found, item) for item in (*beside, *(one for one in first if _native(one)))]
    found.settings["extra_init_containers"] = [_other(found, item) for item in first if not _native(item)]


def named(pod: Mapping) -> list[str]:
    """Name what a pod refers to; a claim is told with the cache, or as a volume, too."""
    found = []
    for volume in pod.get("volumes") or []:
        for source, kind, key in (
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
            ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
        ):
            if source in volume:
                found.append(f"{kind} {volume[source].get(key)}")
    for container in (*pod["containers"], *(pod.get("initContainers") or [])):
        given = [
            *(container.get("envFrom") or []),
            *((item.get("valueFrom") or {}) for item in container.get("env") or []),
        ]
        for source in given:
            for key, kind in (
                ("configMapRef", "ConfigMap"),
                ("secretRef", "Secret"),
                ("configMapKeyRef", "ConfigMap"),
                ("secretKeyRef", "Secret"),
            ):
                if key in source:
                    found.append(f"{kind} {source[key].get('name')}")
    return list(dict.fromkeys(found))


def _native(item: Mapping) -> bool:
    return item.get("restartPolicy") == "Always"


def _other(found: Adopted, item: Mapping) -> dict:
    container = plain(item, ("containers",))
    container["image"] = image(container["image"])
    container.setdefault("securityContext", {})
    env = []
    for variable in container.get("env") or []:
        if is_credential(variable["name"], variable.get("value")):
            found.lost.append(
                f"{item['name']}: env.{variable['name']} is a credential: put it into a Secret, and name that"
            )
        else:
            env.append(variable)
    if env:
        container["env"] = env
    else:
        container.pop("env", None)
    for mount in container.get("volumeMounts") or []:
        mount["name"] = found.renamed.get(mount["name"], mount["name"])
    return container
