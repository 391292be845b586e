"""Finds everything that runs made for one cluster, wherever it is and whatever the inventory has by now; never writes.

By the labels of ownership, in the namespace of the servers, that of Argo CD, and those that the rendering names; of the kinds that runs
make, those that they noted on the lock, and those of the rendering.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.modelyard.core.plugins.plugin_utils.argocd.applications import PART
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, kinds
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster, describe
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import recorded
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.leftovers import Leftovers
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import (
    CLUSTER,
    MANAGED_BY,
    PROJECT,
    controlled,
)

CLAIM = {"api_version": "v1", "kind": "PersistentVolumeClaim"}
CONFIG_MAP = {"api_version": "v1", "kind": "ConfigMap"}
# Kinds that only some inventories have: a run with GitOps notes nothing of what Argo CD makes.
SOMETIMES = [
    CLAIM,
    {"api_version": "batch/v1", "kind": "CronJob"},
    {"api_version": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"},
    {"api_version": "keda.sh/v1alpha1", "kind": "ScaledObject"},
    {"api_version": "networking.k8s.io/v1", "kind": "Ingress"},
    {"api_version": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"},
]


@dataclass
class Found:
    """What there is of a cluster.

    Attributes:
        items: its objects, those that are on their way out among them.
        strangers: objects of the project in the same namespaces under other clusters' names.
        blind: kinds of which there may be something and that this credential may not list, each with its ``namespace``.
    """

    items: list[dict] = field(default_factory=list)
    strangers: list[dict] = field(default_factory=list)
    blind: list[dict] = field(default_factory=list)


def look(cluster: Cluster, rendered: Mapping, leases: Mapping[str, dict | None]) -> Found:
    """Find what there is of the rendered cluster.

    Args:
        cluster: where to look.
        rendered: the structure of ``servers.render``.
        leases: namespace to the lock's Lease there, or None.

    Raises:
        ApiError: the API server refuses a list for another reason than a missing right.
    """
    found, name = Found(), rendered["cluster"]["name"]
    for item in _listed(cluster, _places(cluster, rendered, leases), found):
        (found.items if belongs(item, name) else found.strangers).append(item)
    return found


def belongs(item: Mapping, name: str) -> bool:
    """Tell whether an object is of the cluster of this name. A set's Applications carry the name of the one that has the set."""
    if _labels(item).get(CLUSTER) != name:
        return False
    part = (item["metadata"].get("annotations") or {}).get(PART, "") if item["kind"] == "Application" else ""
    return "/" not in part or part.partition("/")[0] == name


def _places(cluster: Cluster, rendered: Mapping, leases: Mapping[str, dict | None]) -> list[dict]:
    """Give the kinds to look for that the cluster serves, each with its ``namespace``, and whether it is ``likely`` there."""
    gitops, settings = delivery.is_gitops(rendered), rendered["settings"]["apply"]
    own, argocd = rendered["cluster"]["namespace"], rendered["cluster"]["argocd_namespace"]
    wanted = [item for part in rendered["parts"] for item in part["objects"]]
    likely = {own: [*delivery.KINDS, *settings["prune_kinds"]], argocd: [*delivery.GITOPS_KINDS, CONFIG_MAP]}
    if gitops:
        likely[own] = [] if own != argocd else likely[argocd]
    elif own != argocd:
        likely[argocd] = []
    for namespace in {item["metadata"].get("namespace") for item in wanted} - {None}:
        there = kinds.of(item for item in wanted if item["metadata"].get("namespace") == namespace)
        likely[namespace] = kinds.union(likely.get(namespace, []), there)
    secrets = [{"api_version": "v1", "kind": "Secret", "name": item["name"]} for item in rendered["secrets"]]
    perhaps = {own: [*delivery.KINDS, *SOMETIMES], argocd: [*delivery.GITOPS_KINDS, CONFIG_MAP]}
    places: dict[tuple, dict] = {}
    for namespace, known in likely.items():
        noted = recorded(leases.get(namespace))
        first = [{**kind, "namespace": namespace} for kind in kinds.union(perhaps.get(namespace, []), known)]
        first += [{**kind, "namespace": namespace} for kind in secrets if namespace == argocd]
        options = {"prune": first, "recorded": noted, "objects": [], "lock_namespace": namespace}
        leftovers = Leftovers(cluster, options)
        sure = {kinds.key(kind) for kind in (*known, *noted)}
        for kind in (*leftovers.pruned(), *leftovers.remembered):
            place = (namespace, *kinds.key(kind), kind.get("name"))
            places.setdefault(place, {**kind, "likely": kinds.key(kind) in sure})
    return list(places.values())


def _listed(cluster: Cluster, places: list[dict], found: Found) -> Iterable[dict]:
    """List each kind by its label; one with a ``name`` is read, not listed."""

    def read(kind: dict) -> list[dict] | None:
        try:
            if "name" not in kind:
                selector = f"{MANAGED_BY}={PROJECT}"
                return cluster.list(kind["api_version"], kind["kind"], kind["namespace"], selector)
            metadata = {"namespace": kind["namespace"], "name": kind["name"]}
            live = cluster.get({"apiVersion": kind["api_version"], "kind": kind["kind"], "metadata": metadata})
            return [live] if live and _labels(live).get(MANAGED_BY) == PROJECT else []
        except ApiError as error:
            if error.status != 403:
                raise
            # Whoever may not read a Secret by its name did not write it.
            return None if kind["likely"] and "name" not in kind else []

    for kind, items in zip(places, cluster.parallel(read, places), strict=True):
        if items is None:
            found.blind.append(kind)
        yield from (item for item in items or [] if not controlled(item))


def _labels(item: Mapping) -> Mapping:
    return item["metadata"].get("labels") or {}


def named(items: Iterable[dict]) -> str:
    """Name objects for people, in one line."""
    return ", ".join(describe(item) for item in items)
