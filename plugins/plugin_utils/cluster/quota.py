"""Compares what a run adds to a namespace with its ResourceQuotas; never asks a cluster.

A dry run takes nothing from a quota, so each object passes by itself, and only the sum does not; and of a Deployment's pods no
dry run says anything. Names and rules: https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.fit import amount_of, pod_requests
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.outage import lacking
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity

# Quotas know these by their plural, too; everything else only as count/PLURAL.GROUP.
PLAIN = ("configmaps", "persistentvolumeclaims", "pods", "secrets", "services")
KINDS = ("containers", "initContainers")
# Pods without a value for these are refused where a quota counts them.
ASKED = ("requests.cpu", "requests.memory", "limits.cpu", "limits.memory")


def exceeded(quotas: list[dict], ranges: list[dict], changes: Iterable, gone: Iterable, plural) -> list[str]:
    """Tell which quotas of a namespace a run can't keep within.

    Args:
        quotas: the namespace's ResourceQuotas.
        ranges: its LimitRanges, whose defaults the pods get.
        changes: the ``Change``s to be applied there.
        gone: those that are pruned after it: their pods make room, since a controller tries again.
        plural: gives the resource of an object as quotas name it: ``configmaps``, ``deployments.apps``.

    Returns:
        a line for each resource of a quota that is exceeded, with what asks for it.
    """
    # What a dry run answers has the status of before it.
    changes = [replace(change, after={**change.after, "status": None}) for change in changes]
    found = []
    for quota in quotas:
        hard = quota.get("status", {}).get("hard") or quota["spec"].get("hard") or {}
        used = quota.get("status", {}).get("used") or {}
        for resource, limit in hard.items():
            asked, starting = {}, []
            for change in changes:
                name = f"{change.item['kind']} {change.item['metadata']['name']}"
                needed = _needed(change, resource, quota, ranges, plural)
                if needed is None:
                    found.append(
                        f"ResourceQuota {_name(quota)} counts {resource}, and the pods of {name} say nothing of it: they would be refused"
                    )
                    continue
                if needed:
                    asked[name] = needed
                if needed > 0 or _starts(change, resource, quota, ranges):
                    starting.append(name)
            freed = sum(_of_pods(change.before, resource, quota, ranges) or 0 for change in gone)
            room = quantity.parse(limit) - quantity.parse(used.get(resource, 0)) + freed
            needed = sum(asked.values())
            if needed <= room or not starting:
                continue
            if needed <= 0:
                found.append(
                    f"ResourceQuota {_name(quota)} is exceeded already ({used.get(resource, 0)} of {limit} {resource} used), "
                    f"and this run needs other pods, which would be refused: {', '.join(starting)}"
                )
            else:
                who = ", ".join(f"{name} {_shown(resource, value)}" for name, value in asked.items())
                found.append(
                    f"ResourceQuota {_name(quota)} has room for {_shown(resource, max(room, Decimal(0)))} {resource} "
                    f"({used.get(resource, 0)} of {limit} used), and this run needs {_shown(resource, needed)}: {who}"
                )
    return found


def _name(quota: Mapping) -> str:
    return f"{quota['metadata']['namespace']}/{quota['metadata']['name']}"


def _shown(resource: str, value: Decimal) -> str:
    return amount_of(resource.rpartition("/")[2].removeprefix("requests.").removeprefix("limits."), value)


def _needed(change, resource: str, quota: Mapping, ranges: list[dict], plural) -> Decimal | None:
    """How much more a change takes of a resource; None where its pods must say and do not."""
    before, after = change.before, change.after
    if after["kind"] == "Deployment":
        pods, old = _of_pods(after, resource, quota, ranges), _of_pods(before, resource, quota, ranges)
        if pods is None:
            return None
        more, replicas = pods - (old or 0), after["spec"].get("replicas", 1)
        if before and old and replicas and _surges(before, after):
            # The old ones are brought to the new number first, and one new pod has to start before one of them goes.
            more = max(more, pods / replicas + old / _replicas(before) * (replicas - _replicas(before)))
        if more:
            return more
    if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
        return Decimal(0)
    return _of_object(after, resource, plural) - (_of_object(before, resource, plural) if before else 0)


def _starts(change, resource: str, quota: Mapping, ranges: list[dict]) -> bool:
    """Tell whether a change makes new pods in the place of old ones that take of a resource."""
    before, after = change.before, change.after
    same = before and after["kind"] == "Deployment" and before["spec"]["template"] == after["spec"]["template"]
    return bool(before and not same and _of_pods(after, resource, quota, ranges))


def _replicas(item: Mapping) -> int:
    """Count a Deployment's pods: of what runs, those that there are, since some may have been refused."""
    return item["status"].get("replicas", 0) if item.get("status") else item["spec"].get("replicas", 1)


def _of_object(item: Mapping, resource: str, plural) -> Decimal:
    """What an object itself takes, without its pods."""
    spec, kind = item.get("spec") or {}, plural(item)
    taken = Counter({f"count/{kind}": 1})
    if kind in PLAIN:
        taken[kind] = 1
    if item["kind"] == "Service":
        exposed = spec.get("type") in ("NodePort", "LoadBalancer")
        taken["services.loadbalancers"] = int(spec.get("type") == "LoadBalancer")
        taken["services.nodeports"] = len(spec["ports"]) if exposed else 0
    if item["kind"] == "PersistentVolumeClaim":
        size = quantity.parse(spec["resources"]["requests"]["storage"])
        taken["requests.storage"] = size
        if spec.get("storageClassName"):
            of_class = f"{spec['storageClassName']}.storageclass.storage.k8s.io"
            taken[f"{of_class}/requests.storage"], taken[f"{of_class}/persistentvolumeclaims"] = size, 1
    return Decimal(taken[resource])


def _surges(before: Mapping, after: Mapping) -> bool:
    """Tell whether a rollout follows that keeps all old pods until a new one is ready."""
    return before["spec"]["template"] != after["spec"]["template"] and not lacking(after)


def _of_pods(item: Mapping | None, resource: str, quota: Mapping, ranges: list[dict]) -> Decimal | None:
    """What a Deployment's pods take of a resource; None where each must say and does not."""
    if not item or item["kind"] != "Deployment":
        return Decimal(0)
    pod = _defaulted(item["spec"]["template"]["spec"], ranges)
    replicas = _replicas(item)
    if not replicas or not _in_scope(pod, quota["spec"]):
        return Decimal(0)
    requests = {f"requests.{name}": value for name, value in pod_requests(pod).items()}
    bare = {name.removeprefix("requests."): value for name, value in requests.items()}
    limits = {f"limits.{name}": value for name, value in pod_requests(_limits_only(pod)).items()}
    one = {**bare, **requests, **limits, "pods": Decimal(1), "count/pods": Decimal(1)}
    asked = f"requests.{resource}" if resource in ("cpu", "memory") else resource
    if (
        asked in ASKED
        and not _says(pod, asked)
        and not all(_says(container, asked) for kind in KINDS for container in pod.get(kind) or [])
    ):
        return None
    return one.get(resource, Decimal(0)) * replicas


def _says(container: Mapping, asked: str) -> bool:
    sort, _, name = asked.partition(".")
    resources = container.get("resources") or {}
    # A limit counts as the request.
    return name in {**(resources.get(sort) or {}), **(resources.get("limits") or {})}


def _limits_only(pod: Mapping) -> dict:
    def limits(item: Mapping) -> dict:
        return {**item, "resources": {"limits": (item.get("resources") or {}).get("limits")}}

    return {**limits(pod), **{kind: [limits(item) for item in pod.get(kind) or []] for kind in KINDS}}


def _defaulted(pod: Mapping, ranges: list[dict]) -> dict:
    """Give a pod what a LimitRange gives containers that say nothing."""
    limits, requests = {}, {}
    for entry in (entry for item in ranges for entry in item["spec"]["limits"] if entry["type"] == "Container"):
        limits |= entry.get("default") or {}
        requests |= entry.get("defaultRequest") or {}

    def filled(container: Mapping) -> dict:
        own = container.get("resources") or {}
        given = {**limits, **(own.get("limits") or {})}
        found = {"limits": given, "requests": {**requests, **(own.get("limits") or {}), **(own.get("requests") or {})}}
        return {**container, "resources": found}

    return {**pod, **{kind: [filled(container) for container in pod.get(kind) or []] for kind in KINDS}}


def _in_scope(pod: Mapping, spec: Mapping) -> bool:
    """Tell whether a quota with scopes is about a pod."""
    terms = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or []]
    terms += (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    # Of quality of service only these two tell: https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
    said = [one.get("resources") or {} for one in (pod, *(item for kind in KINDS for item in pod.get(kind) or []))]
    best_effort = not any(
        {"cpu", "memory"} & set(values or {}) for one in said for values in (one.get("requests"), one.get("limits"))
    )
    name = pod.get("priorityClassName", "")
    holds = {
        "Terminating": "activeDeadlineSeconds" in pod,
        "NotTerminating": "activeDeadlineSeconds" not in pod,
        "BestEffort": best_effort,
        "NotBestEffort": not best_effort,
        "PriorityClass": bool(name),
        "CrossNamespacePodAffinity": "namespaceSelector" in json.dumps(pod.get("affinity") or {}),
    }

    def term(one: Mapping) -> bool:
        among = name in (one.get("values") or [])
        return {
            "In": among,
            "NotIn": not among,
            "Exists": holds.get(one["scopeName"], False),
            "DoesNotExist": not holds.get(one["scopeName"], False),
        }[one["operator"]]

    return all(term(one) for one in terms)
