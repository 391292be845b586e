"""Takes the objects that a user brings, and says which can't be one of a run's; never changes one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import (
    CLUSTER,
    CLUSTER_KINDS,
    COMPONENT,
    MANAGED_BY,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.check import check_labels
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.formats import format_error
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import HIDDEN
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import exposure, scaling
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.workload import is_credential, listed

KEY = "extra_objects"
# The part, and the folder, of those that belong to no server.
PART = "extra"
# What no run may bring, by group and kind (a star is any group), and what to do instead.
_REFUSED = {
    (
        "",
        "Secret",
    ): "a Secret's values would be in the inventory and in the rendered files: bring it to the cluster another way, and "
    "name it here (an ExternalSecret or a SealedSecret may be here)",
    (
        "",
        "Endpoints",
    ): "Kubernetes gives every Service's the Service's labels, so a run can't tell its own: use an EndpointSlice",
    ("argoproj.io", "Application"): "Argo CD's own objects come from argocd_apps_extra",
    ("argoproj.io", "ApplicationSet"): "Argo CD's own objects come from argocd_apps_extra",
    ("argoproj.io", "AppProject"): "Argo CD's own objects come from the role argocd_apps",
    ("coordination.k8s.io", "Lease"): "a Lease belongs to the program that holds it",
}


def objects(settings: Settings, namespace: str) -> list[dict]:
    """Read the objects that a user adds to a server, or to the platform.

    Args:
        settings: with ``extra_objects``.
        namespace: the one that they must be in.

    Returns:
        those in which nothing is wrong; the rest is noted.
    """
    found: list[dict] = []
    for index, item in enumerate(listed(settings, KEY)):
        before = settings.problems.found
        for value, allowed, keys in _errors(item, namespace):
            settings.wrong(value, allowed, KEY, index, *keys)
        for part, values_too in (("labels", True), ("annotations", False)):
            given = (item.get("metadata") or {}).get(part) if isinstance(item.get("metadata"), Mapping) else None
            if isinstance(given, Mapping):
                path = settings.path(KEY, index, "metadata", part)
                lines = check_labels(path, given, values_too=values_too)
                settings.problems.lines += lines
                settings.problems.found += len(lines)
        if settings.problems.found == before:
            found.append(copy.deepcopy({**item, "metadata": dict(item["metadata"])}))
    return found


def _errors(item: Mapping, namespace: str) -> Iterator[tuple[Any, str, tuple]]:
    """Find what is wrong with an object: the value, what is allowed, and the keys that lead to it."""
    for key, word in (("apiVersion", "api_version"), ("kind", "kind")):
        wrong = format_error(item.get(key), word)
        if wrong:
            yield item.get(key), wrong, (key,)
            return
    kind, group = item["kind"], item["apiVersion"].rpartition("/")[0]
    metadata = item.get("metadata")
    if "items" in item or kind.endswith("List"):
        yield kind, "is a list: give its objects one by one", ("kind",)
        return
    if (group, kind) in _REFUSED:
        yield kind, _REFUSED[group, kind], ("kind",)
    elif kind in CLUSTER_KINDS:
        yield kind, "belongs to no namespace, and a run writes to its own alone", ("kind",)
    elif not isinstance(metadata, Mapping) or format_error(metadata.get("name"), "rbac"):
        name = metadata.get("name") if isinstance(metadata, Mapping) else None
        yield name, "must be the object's name: a later run finds it by that", ("metadata", "name")
    else:
        yield from _metadata_errors(metadata, namespace)
    for keys in _credentials(item, ()):
        yield HIDDEN, "must come from a Secret that is named here: a value would be in the rendered files", keys


def _metadata_errors(metadata: Mapping, namespace: str) -> Iterator[tuple[Any, str, tuple]]:
    if metadata.get("namespace") not in (None, namespace):
        allowed = f"must be {namespace} (platform_namespace), or be left out: a run writes to its own namespace alone"
        yield metadata["namespace"], allowed, ("metadata", "namespace")
    for label in (MANAGED_BY, COMPONENT, CLUSTER):
        if isinstance(metadata.get("labels"), Mapping) and label in metadata["labels"]:
            yield metadata["labels"][label], "is set by every run: leave it out", ("metadata", "labels", label)


def _credentials(value: Any, keys: tuple) -> Iterator[tuple]:
    """Find credentials by their names: of variables in a pod's environment, and of a ConfigMap's keys."""
    if isinstance(value, Mapping):
        if is_credential(value.get("name"), value.get("value")):
            yield (*keys, "value")
        if value.get("kind") == "ConfigMap" and isinstance(value.get("data"), Mapping):
            yield from ((*keys, "data", key) for key, text in value["data"].items() if is_credential(key, text))
        for key, inner in value.items():
            yield from _credentials(inner, (*keys, key))
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _credentials(inner, (*keys, index))


def kinds_of(settings: Settings) -> list[tuple[str, str]]:
    """Give group and kind of the objects that a server has only because the inventory asks for them."""
    found = [
        (group, kind)
        for ways in (exposure.WAYS, scaling.SCALERS)
        for key, (_, group, kind) in ways.items()
        if settings.get(key)
    ]
    found += [("batch", "CronJob")] if settings.get("schedule") else []
    items = [item for item in settings.get(KEY) or [] if isinstance(item, Mapping)]
    found += [(str(item.get("apiVersion")).rpartition("/")[0], str(item.get("kind"))) for item in items]
    return list(dict.fromkeys(found))
