"""Who delivers this cluster's objects beside a run: Argo CD's Applications, of which some sync by themselves. It never writes."""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Collection

from ansible_collections.modelyard.core.plugins.plugin_utils.argocd import applications as argocd
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster, describe, readable
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import (
    CLUSTER,
    COMPONENT,
    GITOPS,
    MANAGED_BY,
    PROJECT,
    identity,
)

ARGOCD = "argoproj.io/v1alpha1"
APPLICATIONS = ("Application", "ApplicationSet")
INSTANCE = "app.kubernetes.io/instance"
TRACKING_ID = "argocd.argoproj.io/tracking-id"


class Syncing:
    """Finds the Applications that would fight with a run over an object."""

    def __init__(self, cluster: Cluster, options: dict):
        """Hold the inputs.

        Args:
            cluster: where to look.
            options: the arguments of the action ``modelyard.core.plan``.
        """
        self.cluster = cluster
        self.options = options
        # The Applications that objects name, and who asks for one: all at once, for the same.
        self.known: dict[tuple, dict | None] = {}
        self.asking = threading.Lock()

    def keeps(self, live: dict, released: Collection[str]) -> list[str]:
        """Refuse an object that a living Argo CD Application still keeps in sync: two tools would fight over it.

        Args:
            live: the object as it is.
            released: names of this cluster's Applications that the run removes.

        Returns:
            the problem, or nothing.
        """
        # Argo CD marks what it applies with an annotation, or (before its version 3) with a label.
        metadata = live["metadata"]
        tracking = (metadata.get("annotations") or {}).get(TRACKING_ID) or (metadata.get("labels") or {}).get(INSTANCE)
        if not tracking or not self.cluster.resource(ARGOCD, "Application"):
            return []
        namespace, _, name = tracking.partition(":")[0].rpartition("_")
        namespace = namespace or self.options["argocd_namespace"]
        if name in released and namespace == self.options["argocd_namespace"]:
            return []
        named = {"apiVersion": ARGOCD, "kind": "Application", "metadata": {"namespace": namespace, "name": name}}
        with self.asking:
            if (namespace, name) not in self.known:
                self.known[namespace, name] = readable(self.cluster.get, named)
        application = self.known[namespace, name]
        if not application or not _syncs(application):
            return []
        return [
            f"{describe(live)} is kept in sync by Argo CD's Application {namespace}/{name}: turn that off first (delete the Application without cascading), or deliver this cluster by GitOps (platform_delivery: gitops)"
        ]

    def fights(self, released: Collection[str]) -> list[str]:
        """Refuse to deliver directly what Applications of ours for this cluster would sync from Git.

        Args:
            released: UIDs of the objects that the run removes first.

        Returns:
            the problem, or nothing.
        """
        if GITOPS in self.options["components"] or not self.cluster.resource(ARGOCD, "Application"):
            return []
        selector = f"{MANAGED_BY}={PROJECT},{CLUSTER}={self.options['cluster_name']},{COMPONENT}={GITOPS}"
        namespace = self.options["argocd_namespace"]
        found = readable(self.cluster.list, ARGOCD, "Application", namespace, selector, denied=[])
        found = [item for item in found if item["metadata"]["uid"] not in released]
        names = [item["metadata"]["name"] for item in found if _syncs(item)]
        if not names:
            return []
        return [
            f"Applications of this cluster sync by themselves, and would fight over what is applied here: {', '.join(names)}. "
            "Move back with playbooks/handover.yml, which removes them and not what they deployed; "
            f"or delete them (without a finalizer what they deployed stays): kubectl -n {namespace} delete applications {' '.join(names)}; "
            "or deliver this cluster by GitOps (platform_delivery: gitops)"
        ]


def generated(item: dict) -> list[tuple]:
    """Name the Applications that Argo CD makes from a list of ours."""
    if item["kind"] != "ApplicationSet":
        return []
    lists = [generator["list"]["elements"] for generator in item["spec"]["generators"] if "list" in generator]
    group, _, namespace, _ = identity(item)
    return [(group, "Application", namespace, element["application"]) for elements in lists for element in elements]


def cascades(item: dict, options: dict) -> bool | None:
    """Tell whether what an Application deployed goes with it: not what this inventory still wants.

    Args:
        item: the object that goes.
        options: ``cascade``, and ``parts``: the names of what the inventory has.

    Returns:
        whether it does; ``None`` of what is no Application.
    """
    if item["kind"] != "Application":
        return None
    # One that Argo CD has never looked at has deployed nothing, and no one would answer its finalizer.
    if not item.get("status"):
        return False
    part = (item["metadata"].get("annotations") or {}).get(argocd.PART)
    asked = options["cascade"] or argocd.FINALIZER in item["metadata"].get("finalizers", [])
    return bool(asked and part and part not in options["parts"])


def notices(live: dict) -> list[str]:
    """Say of an Application what Argo CD could not sync, and of a Service's port that was changed by hand the way out."""
    if live["kind"] != "Application":
        return []
    operation = (live.get("status") or {}).get("operationState") or {}
    message = operation.get("message", "")
    # While it tries again, it is running.
    if operation.get("phase") not in ("Failed", "Error") and not re.search(r"\bfailed\b", message):
        return []
    told = f"Argo CD could not sync {describe(live)}: {message}"
    service = re.search(r'Service "([^"]+)" is invalid: spec\.ports.*Duplicate value', message)
    if service:
        namespace, own = live["spec"]["destination"]["namespace"], live["metadata"]
        # Argo CD does not try a commit again that it could not sync; an operation has no options but its own.
        sync = {"operation": {"sync": {"syncOptions": live["spec"].get("syncPolicy", {}).get("syncOptions", [])}}}
        told += (
            ". Server-side apply takes a port whose number was changed by hand for another one. Have Argo CD make the Service "
            f"anew: kubectl -n {namespace} delete service {service[1]}; "
            f"kubectl -n {own['namespace']} patch application {own['name']} --type merge --patch {shlex.quote(json.dumps(sync))}"
        )
    return [told]


def _syncs(application: dict) -> bool:
    """Tell whether Argo CD syncs an Application by itself. An empty dictionary does, without prune and self-heal."""
    automated = (application["spec"].get("syncPolicy") or {}).get("automated")
    return automated is not None and automated.get("enabled") is not False
