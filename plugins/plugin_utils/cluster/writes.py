"""Writes to a cluster what a plan calls for, beyond the one apply: namespaces, adopted fields, deletions; never decides anything."""

from __future__ import annotations

import time

from ansible_collections.modelyard.core.plugins.plugin_utils.argocd import applications as argocd
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import fields
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.change import Change, Plan
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    JSON_PATCH,
    MERGE_PATCH,
    ApiError,
    Cluster,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import MANAGED_BY, PROJECT
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.syncing import generated

# For one object, a tenth of a second apart.
TRIES = 20


def create_namespace(cluster: Cluster, namespace: dict) -> bool:
    """Create a namespace; ``False`` for one that exists meanwhile, which is left as it is."""
    labels = {MANAGED_BY: PROJECT, **(namespace.get("labels") or {})}
    try:
        cluster.request(
            "POST",
            "/api/v1/namespaces",
            body={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace["name"], "labels": labels}},
        )
    except ApiError as error:
        if error.status != 409:
            raise
        return False
    return True


def adopt(cluster: Cluster, change: Change, manager: str) -> None:
    """Make the fields of adoptable managers ours, so that applying the object removes what it does not set; let go of replicas.

    Raises:
        ApiError: 409 or 422 when the object changes again and again.
    """
    for tries_left in reversed(range(TRIES)):
        live = cluster.get(change.item)
        if not live:
            return
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
            {
                "op": "replace",
                "path": "/metadata/managedFields",
                "value": fields.absorbed(live, change.item, manager, change.adoptable),
            },
        ]
        try:
            cluster.request("PATCH", cluster.object_path(change.item), {"fieldManager": manager}, patch, JSON_PATCH)
        except ApiError as error:
            # Its controller writes its status: often while pods come and go, as after what a person has just changed.
            if error.status not in (409, 422) or not tries_left:
                raise
            time.sleep(0.1)
        else:
            return


def remove(cluster: Cluster, item: dict, cascade: bool | None = None, foreground: bool = False) -> bool:
    """Delete exactly the object that the plan saw.

    Args:
        cluster: where it is.
        item: the object, with its UID.
        cascade: of an Application, whether Argo CD is to remove what it deployed.
        foreground: whether it stays until what it made is gone.

    Returns:
        ``False`` when it is gone or is another one by now.
    """
    options = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        # The Applications of a set outlive it: what becomes of each is for the plan to say.
        "propagationPolicy": "Orphan" if generated(item) else "Foreground" if foreground else "Background",
        "preconditions": {"uid": item["metadata"]["uid"]},
    }
    path = cluster.object_path(item)
    try:
        if cascade or (cascade is False and item["metadata"].get("finalizers")):
            metadata = {"uid": item["metadata"]["uid"], "finalizers": [argocd.FINALIZER] if cascade else None}
            cluster.request("PATCH", path, {}, {"metadata": metadata}, MERGE_PATCH)
        cluster.request("DELETE", path, body=options)
    except ApiError as error:
        if error.status not in (404, 409):
            raise
        return False
    return True


def carry_out(cluster: Cluster, plan: Plan, settings: dict) -> None:
    """Carry out a whole plan, as the role apply does in its tasks; no namespace is made.

    Args:
        cluster: where; the caller holds the lock.
        plan: what to do.
        settings: of the role apply.

    Raises:
        ApiError: the rest is not written.
    """
    for change in plan.release:
        remove(cluster, change.item, change.cascade)
    for change in plan.changes:
        if change.takeover:
            adopt(cluster, change, settings["field_manager"])
        cluster.apply(change.item, settings["field_manager"], settings["force"], dry_run=False)
    for change in plan.prune:
        remove(cluster, change.item, change.cascade)
