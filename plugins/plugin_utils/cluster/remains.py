"""Says what a teardown leaves behind, and what of it still costs money; never removes anything but a namespace that was asked for.

A namespace goes only if a run made it, and nothing is in it but what every namespace has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import owned
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    ApiError,
    Cluster,
    describe,
    readable,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import (
    CLUSTER,
    MANAGED_BY,
    PROJECT,
    controlled,
)

# An answer without what objects hold: Secrets are looked for, and never read.
NAMES_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
# What Kubernetes itself puts into a namespace, or writes of what happens in it.
EVERYWHERE = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
PASSING = {"Event", "Endpoints", "EndpointSlice", "PodMetrics", "ControllerRevision"}


def claims(cluster: Cluster, kept: Iterable[dict], removed: Iterable[dict]) -> list[dict]:
    """Say which volumes are still paid for: those of claims that stay, and those that outlive their claim.

    Args:
        cluster: where they are.
        kept: claims, projects and credentials for Git that stay.
        removed: what a teardown removes.

    Returns:
        rows: ``what`` and ``why``. What a volume costs its storage class does not tell.
    """
    rows = []
    for item in kept:
        if item["kind"] == "PersistentVolumeClaim":
            rows.append(_row(describe(item), f"{_size(item)}; paid for until it goes (teardown_claims=true)"))
        else:
            how = "may read Git with it" if item["kind"] == "Secret" else "are in it"
            rows.append(_row(describe(item), f"Applications of other clusters {how}"))
    for item in removed:
        volume = item["spec"].get("volumeName") if item["kind"] == "PersistentVolumeClaim" else ""
        if not volume:
            continue
        named = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}}
        live = readable(cluster.get, named)
        if live and live["spec"].get("persistentVolumeReclaimPolicy") == "Retain":
            rows.append(_row(f"PersistentVolume {volume}", f"{_size(item)}; its reclaim policy is Retain"))
    return rows


def _size(claim: Mapping) -> str:
    spec = claim["spec"]
    size = (claim.get("status") or {}).get("capacity", {}).get("storage") or spec["resources"]["requests"]["storage"]
    return f"{size}, class {spec.get('storageClassName') or '(none)'}"


def nodes(cluster: Cluster, rendered: Mapping) -> list[dict]:
    """Say which nodes of the hardware profiles are there, at which price.

    Returns:
        rows, with ``cost_per_hour`` in US dollars for all of a profile's nodes, None where the price is not known.
    """
    live = readable(cluster.list, "v1", "Node", None, denied=None)
    rows = []
    for profile, (needs, selector) in sorted(_pools(rendered).items()):
        price = needs["price_per_hour"]
        each = f"{needs['instance_type'] or 'unknown type'}, " + (
            f"${price:g} per hour each" if price is not None else "price not known"
        )
        if live is None:
            why = f"{each}; how many are there is not known: this credential may not list nodes"
            rows.append(_row(f"nodes of hardware profile {profile}", why))
            continue
        there = [node for node in live if selector.items() <= (node["metadata"].get("labels") or {}).items()]
        if there:
            cost = None if price is None else price * len(there)
            told = f"{each}; remove them, or let an autoscaler do it"
            rows.append(
                _row(f"{len(there)} node{'s'[: len(there) > 1]} of hardware profile {profile}", told)
                | {"cost_per_hour": cost}
            )
    return rows


def _pools(rendered: Mapping) -> dict[str, tuple[Mapping, Mapping]]:
    """Give of each hardware profile that a server uses what is known of it, and the labels of its nodes."""
    found = {}
    for part in rendered["parts"]:
        pods = [item["spec"]["template"]["spec"] for item in part["objects"] if item["kind"] == "Deployment"]
        profile = (part.get("needs") or {}).get("profile")
        if profile and pods and pods[0].get("nodeSelector"):
            found[profile] = part["needs"], pods[0]["nodeSelector"]
    return found


def aws(rendered: Mapping) -> list[dict]:
    """Say what the inventory names in AWS, with the command that removes it; AWS is not asked."""
    cluster, settings = rendered["cluster"], rendered["settings"]["irsa"]
    roles = [arn.rpartition("/")[2] for arn in rendered["role_arns"]]
    buckets = [f"bucket {name}" for name in settings.get("buckets") or {}]
    if not roles and not buckets:
        return []
    command = f"ansible-playbook -i INVENTORY playbooks/aws.yml --limit {cluster['host']} -e irsa_state=absent"
    if job.number():
        command = f"{job.playbook('aws', 'irsa_state', 'absent')}, and the limit {cluster['host']}"
    what = ", ".join([*(f"IAM role {name}" for name in roles), *buckets])
    return [_row(what, f"if they are there, what of them is this cluster's alone goes with: {command}")]


def balancers(items: Iterable[dict]) -> list[dict]:
    """Say which objects in the namespaces, of others, have a load balancer."""
    return [
        _row(describe(item), "has a load balancer, and is not ours")
        for item in items
        if item["kind"] == "Service" and item["spec"].get("type") == "LoadBalancer"
    ]


def namespace(cluster: Cluster, name: str, cluster_name: str, going: Iterable[dict]) -> tuple[dict | None, str]:
    """Tell whether a namespace may go with all that is in it.

    Args:
        cluster: where it is.
        name: the namespace.
        cluster_name: whose objects in it are ours.
        going: those that a teardown removes first.

    Returns:
        the namespace, and why it stays; an empty text where it may go, and None where there is none.
    """
    live = readable(cluster.get, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, denied={})
    if live is None:
        return None, ""
    if not live:
        return {"metadata": {"name": name}}, "this credential may not read it"
    if (live["metadata"].get("labels") or {}).get(MANAGED_BY) != PROJECT:
        return live, "no run made it"
    denied = cluster.denied([("delete", "", "namespaces", "")])
    if denied:
        return live, "this credential may not delete namespaces (docs/rbac.yaml has no such right)"
    gone = {item["metadata"]["uid"] for item in going}
    found, unseen = _contents(cluster, name)
    labels = [(item, item["metadata"].get("labels") or {}) for item in found if item["metadata"]["uid"] not in gone]
    kept = [item for item, own in labels if own.get(MANAGED_BY) == PROJECT and own.get(CLUSTER) == cluster_name]
    foreign = [item for item, _ in labels if item not in kept]
    if unseen:
        return live, f"this credential may not list in it: {', '.join(unseen)}"
    if foreign:
        return live, f"others have something in it: {owned.named(foreign[:5])}" + (", ..." if len(foreign) > 5 else "")
    return live, f"it has what stays: {owned.named(kept)}" if kept else ""


def _contents(cluster: Cluster, name: str) -> tuple[list[dict], list[str]]:
    """List the names of all that is in a namespace, and the kinds that this credential may not list."""
    groups = [group["preferredVersion"]["groupVersion"] for group in cluster.request("GET", "/apis")["groups"]]
    kinds = []
    for version in ("v1", *groups):
        root = f"/api/{version}" if version == "v1" else f"/apis/{version}"
        try:
            resources = cluster.request("GET", root)["resources"]
        except ApiError as error:
            if error.status not in (404, 503):
                raise
            continue
        kinds += [
            (version, item["kind"], f"{root}/namespaces/{name}/{item['name']}")
            for item in resources
            if item["namespaced"]
            and "list" in item["verbs"]
            and "/" not in item["name"]
            and item["kind"] not in PASSING
        ]

    def read(kind: tuple[str, str, str]) -> list[dict] | None:
        answer = readable(cluster.request, "GET", kind[2], accept=NAMES_ONLY)
        return None if answer is None else answer["items"] or []

    found, unseen = [], []
    for (version, kind, _), items in zip(kinds, cluster.parallel(read, kinds), strict=True):
        if items is None:
            unseen.append(kind)
        for item in items or []:
            whole = {**item, "apiVersion": version, "kind": kind}
            lock = kind == "Lease" and item["metadata"]["name"] == PROJECT
            if (kind, item["metadata"]["name"]) not in EVERYWHERE and not controlled(whole) and not lock:
                found.append(whole)
    return found, unseen


def _row(what: str, why: str) -> dict:
    return {"what": what, "why": why}
