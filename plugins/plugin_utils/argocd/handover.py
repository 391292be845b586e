"""Hands objects over to Argo CD: lets go of the fields that it has applied, and never of others."""

from __future__ import annotations

import time
from collections.abc import Callable

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import fields
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    JSON_PATCH,
    ApiError,
    Cluster,
    describe,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import (
    CLUSTER,
    COMPONENT,
    GITOPS,
    MANAGED_BY,
    PROJECT,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.syncing import ARGOCD
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure

# Argo CD's field managers, under which it applies.
APPLIERS = ["argocd-*"]
INTERVAL = 2


class Stuck(Failure):
    """Argo CD does not have what is to be handed over; our fields are as they were."""


def await_sync(cluster: Cluster, options: dict, tell: Callable[[str], None]) -> list[str]:
    """Wait until Argo CD has synced this cluster's Applications.

    Args:
        cluster: where they are.
        options: ``cluster_name``, ``argocd_namespace``, and ``timeout`` in seconds.
        tell: says how far it is, whenever that changes.

    Returns:
        their names.

    Raises:
        Stuck: there are none, or they are not synced in time; with what Argo CD says of each.
    """
    selector = f"{MANAGED_BY}={PROJECT},{CLUSTER}={options['cluster_name']},{COMPONENT}={GITOPS}"
    namespace, end, told = options["argocd_namespace"], time.monotonic() + options["timeout"], None
    while True:
        found = cluster.list(ARGOCD, "Application", namespace, selector)
        if not found:
            raise Stuck(f"there are no Applications of this cluster in namespace {namespace}: nothing to hand over to")
        late = {item["metadata"]["name"]: text for item in found if (text := unsynced(item))}
        if not late:
            return [item["metadata"]["name"] for item in found]
        if time.monotonic() > end:
            raise Stuck(
                f"Argo CD has not synced {', '.join(late)} after {options['timeout']} s: "
                + "; ".join(f"{name}: {text}" for name, text in late.items())
                + ". Until it has, the fields stay ours too, which does no harm: put it right and run this again"
            )
        if late != told:
            tell(f"waiting for Argo CD: {', '.join(late)}")
            told = late
        time.sleep(INTERVAL)


def unsynced(application: dict) -> str:
    """Say what an Application waits for, or nothing when it is synced."""
    status = application.get("status") or {}
    state = (status.get("sync") or {}).get("status")
    if state == "Synced":
        return ""
    conditions = "; ".join(
        f"{item.get('type')}: {item.get('message')}" for item in status.get("conditions") or [] if item.get("message")
    )
    running = status.get("operationState") or {}
    failed = running.get("message", "") if running.get("phase") in ("Failed", "Error") else ""
    return ", ".join(text for text in (state or "not looked at yet", conditions, failed) if text)


def let_go(cluster: Cluster, item: dict, manager: str) -> tuple[str, str]:
    """Give up our ownership of one object's fields, where Argo CD owns each of them.

    Args:
        cluster: where it is.
        item: the object.
        manager: our field manager.

    Returns:
        what became of it: ``released``, ``not ours`` (nothing to do), ``unclaimed`` (no Application applies it) or
        ``differs``; and for the last, the fields that Git does not set.
    """
    while True:
        live = cluster.get(item)
        if not live:
            return "not ours", ""
        own, argo, _ = fields.split(live, manager, APPLIERS)
        if not own:
            return "not ours", ""
        if not argo:
            return "unclaimed", ""
        theirs: dict = {}
        for entry in argo:
            theirs = fields.union(theirs, entry["fieldsV1"])
        if rest := fields.difference(own, theirs):
            return "differs", ", ".join(fields.leaves(rest))
        kept = [
            entry
            for entry in live["metadata"]["managedFields"]
            if not (entry["manager"] == manager and entry["operation"] == "Apply" and not entry.get("subresource"))
        ]
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
            {"op": "replace", "path": "/metadata/managedFields", "value": kept},
        ]
        try:
            cluster.request("PATCH", cluster.object_path(item), {"fieldManager": manager}, patch, JSON_PATCH)
        except ApiError as error:
            if error.status not in (409, 422):
                raise
            continue  # It changed meanwhile: look again.
        return "released", ""


def run(cluster: Cluster, options: dict, tell: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """Wait for Argo CD, then let go of every object that it has.

    Returns:
        the names of the objects that were let go of, and of those that no Application applies.

    Raises:
        Stuck: Argo CD has not synced, or Git does not set what we set; what was let go of by then is Argo CD's.
    """
    await_sync(cluster, options, tell)
    found = cluster.parallel(
        lambda item: (describe(item), *let_go(cluster, item, options["field_manager"])), options["objects"]
    )
    differs = [f"{name}: {text}" for name, state, text in found if state == "differs"]
    if differs:
        raise Stuck(
            "Git does not set everything that the direct delivery set. Render the tree from this inventory, push it, and run "
            "this again: " + "; ".join(differs)
        )
    return tuple([name for name, state, _ in found if state == wanted] for wanted in ("released", "unclaimed"))
