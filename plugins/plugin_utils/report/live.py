"""Reads from one cluster what the report shows: Deployments, pods, their nodes, quotas, Applications, loaders' logs; never writes.

One list for each kind, and then one request for each node and each log, several at a time. What the credential may not read is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster, Unreachable
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import (
    CLUSTER,
    COMPONENT,
    GITOPS,
    MANAGED_BY,
    PROJECT,
)

# No kubelet answers for these.
SIMULATED = "kwok.x-k8s.io/node"
LOG_LINES = 500
# The variables in which our loader is given its slots: of adapters, and of models.
SLOTS = ("ADAPTER_SLOTS", "MODEL_SLOTS")


@dataclass(frozen=True)
class Live:
    """What there is on a cluster.

    Attributes:
        now: by the API server's clock.
        deployments: those of the namespace, by name.
        pods: of each Deployment's name, those that are not going.
        nodes: by name; None for one that may not be read.
        quotas: the namespace's ResourceQuotas.
        applications: Argo CD's Applications of this cluster; None where it has none to look at, or they may not be read.
        loaded: of each Deployment's name, what its loader's log says, an event a dictionary; None where the log can't be read.
        unread: what may not be read, for people.
    """

    now: datetime
    deployments: Mapping[str, dict]
    pods: Mapping[str, list[dict]]
    nodes: Mapping[str, dict | None] = field(default_factory=dict)
    quotas: list[dict] = field(default_factory=list)
    applications: list[dict] | None = None
    loaded: Mapping[str, list[dict] | None] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)


def read(cluster: Cluster, rendered: Mapping) -> Live:
    """Read a cluster.

    Args:
        cluster: the one that is meant; that is checked before.
        rendered: the structure of ``servers.render``.

    Raises:
        ApiError: it refuses to say which Deployments and pods there are.
        Unreachable: no answer.
    """
    reader = _Reader(cluster)
    namespace = quote(rendered["cluster"]["namespace"])
    core, apps = f"/api/v1/namespaces/{namespace}", f"/apis/apps/v1/namespaces/{namespace}"
    wanted: dict[str, Callable[[], Any]] = {
        "deployments": lambda: reader.items(f"{apps}/deployments", needed=True),
        "pods": lambda: reader.items(f"{core}/pods", needed=True),
        "quotas": lambda: reader.items(f"{core}/resourcequotas"),
        "applications": lambda: _applications(reader, rendered),
    }
    found = dict(zip(wanted, cluster.parallel(lambda one: one(), list(wanted.values())), strict=True))
    names = {part["name"] for part in rendered["parts"] if part["enabled"] and "needs" in part}
    deployments = {item["metadata"]["name"]: item for item in found["deployments"]}
    pods = {name: _of(deployments[name], found["pods"]) for name in names if name in deployments}
    on = sorted({pod["spec"].get("nodeName", "") for some in pods.values() for pod in some} - {""})
    nodes = dict(zip(on, cluster.parallel(lambda name: reader.get(f"/api/v1/nodes/{quote(name)}"), on), strict=True))
    asked = {name: source for name in pods if (source := _loader(deployments[name], pods[name], nodes))}
    logs = cluster.parallel(lambda source: reader.log(core, *source), list(asked.values()))
    return Live(
        now=cluster.now or datetime.now(UTC),
        deployments=deployments,
        pods=pods,
        nodes=nodes,
        quotas=found["quotas"] or [],
        applications=found["applications"],
        loaded=dict(zip(asked, logs, strict=True)),
        unread=sorted(reader.unread),
    )


class _Reader:
    """Reads paths, and notes what may not be read."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.unread = cluster, set()

    def get(self, path: str, needed: bool = False, **query: Any) -> Any:
        """Read a path; None for what is absent, or may not be read and is not needed."""
        try:
            return self.cluster.request("GET", path, query, patient=False)
        except ApiError as error:
            if error.status == 403 and not needed:
                self.unread.add(str(error))
            if error.status == 404 or (error.status == 403 and not needed):
                return None
            raise

    def items(self, path: str, needed: bool = False, **query: Any) -> list[dict] | None:
        """Read a list; None where it may not be read, or the cluster has no such kind."""
        found = self.get(path, needed, **query)
        return None if found is None else found["items"]

    def log(self, namespace: str, pod: str, container: str) -> list[dict] | None:
        """Read the events of a loader's log, which has one JSON object a line."""
        try:
            text = self.get(f"{namespace}/pods/{quote(pod)}/log", container=container, tailLines=LOG_LINES)
        except (ApiError, Unreachable):
            return None
        return None if text is None else [event for line in str(text).splitlines() if (event := _event(line))]


def _event(line: str) -> dict:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _applications(reader: _Reader, rendered: Mapping) -> list[dict] | None:
    if not delivery.is_gitops(rendered):
        return None
    cluster = rendered["cluster"]
    path = f"/apis/argoproj.io/v1alpha1/namespaces/{quote(cluster['argocd_namespace'])}/applications"
    selector = f"{MANAGED_BY}={PROJECT},{CLUSTER}={cluster['name']},{COMPONENT}={GITOPS}"
    return reader.items(path, labelSelector=selector)


def _of(deployment: Mapping, pods: list[dict]) -> list[dict]:
    """Pick the pods of a Deployment by its selector, without those that are being deleted."""
    labels = (deployment["spec"]["selector"].get("matchLabels") or {}).items()
    return [
        pod
        for pod in pods
        if labels <= (pod["metadata"].get("labels") or {}).items() and not pod["metadata"].get("deletionTimestamp")
    ]


def slots(deployment: Mapping) -> tuple[str, dict, str]:
    """Say what the loader of a Deployment is told to load.

    Returns:
        the init container's name, slot to what fills it (an alias, or a model and its alias or URI), and the registered model of
        all slots; empty where nothing is loaded.
    """
    for container in deployment["spec"]["template"]["spec"].get("initContainers") or []:
        given = {entry["name"]: entry.get("value") or "" for entry in container.get("env") or []}
        for name in SLOTS:
            found = _event(given.get(name, ""))
            if found:
                return container["name"], found, given.get("ADAPTER_MODEL", "")
    return "", {}, ""


def _loader(deployment: Mapping, pods: list[dict], nodes: Mapping) -> tuple[str, str] | None:
    """Choose the pod, and its container, whose log says what is loaded: the newest that has started."""
    container, wanted, _ = slots(deployment)
    there = [pod for pod in pods if pod.get("status", {}).get("initContainerStatuses") and not _simulated(pod, nodes)]
    if not wanted or not there:
        return None
    newest = max(there, key=lambda pod: pod["metadata"]["creationTimestamp"])
    return newest["metadata"]["name"], container


def _simulated(pod: Mapping, nodes: Mapping) -> bool:
    node = nodes.get(pod["spec"].get("nodeName", "")) or {"metadata": {}}
    return SIMULATED in (node["metadata"].get("annotations") or {})
