"""Brings an object into the form in which a person would write it: without defaults and status; never changes what is passed to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import defaults

# Of these an empty one says nothing.
EMPTY = ("securityContext", "resources", "labels", "annotations", "env", "volumeMounts", "nodeSelector", "affinity")
# Set by the server alone, or for no one but kubectl, Helm and Argo CD.
SERVED = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "ownerReferences")
TOOLS = ("helm.sh/", "meta.helm.sh/", "argocd.argoproj.io/", "kubectl.kubernetes.io/", "deployment.kubernetes.io/")
TOOLS_LABELS = ("app.kubernetes.io/managed-by", "heritage", "chart", "pod-template-hash", "argocd.argoproj.io/instance")


def plain(value: Any, path: tuple[str, ...] = ()) -> Any:
    """Leave out what the API server filled in.

    Args:
        value: an object, or a part of one.
        path: the keys that lead to it.
    """
    if isinstance(value, Mapping):
        found = {}
        for key, inner in value.items():
            below = (*path, key)
            inside = plain(inner, below)
            if defaults.filled(below, inner):
                continue
            if key in EMPTY and not inside:
                continue
            if key == "serviceAccount" or inside is None:
                continue
            found[key] = inside
        return found
    if isinstance(value, (list, tuple)):
        return [plain(item, path) for item in value]
    return value


def manifest(item: Mapping) -> dict:
    """Give an object as one would write it into an inventory, without namespace and the marks of other tools."""
    metadata = {
        key: inner for key, inner in item["metadata"].items() if key not in (*SERVED, "namespace", "finalizers")
    }
    for part in ("labels", "annotations"):
        kept = told(metadata.get(part) or {})
        metadata.pop(part, None)
        if kept:
            metadata[part] = kept
    rest = {key: inner for key, inner in item.items() if key not in ("metadata", "status", "apiVersion", "kind")}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": metadata, **plain(rest)}


def told(names: Mapping) -> dict:
    """Leave out the labels or annotations by which other tools know an object."""
    return {key: text for key, text in names.items() if not key.startswith(TOOLS) and key not in TOOLS_LABELS}
