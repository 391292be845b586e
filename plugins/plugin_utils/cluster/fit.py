"""Compares a pod with the nodes of its pool as the scheduler will; never asks a cluster."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity


def pod_requests(pod: dict) -> dict[str, Decimal]:
    """What the scheduler looks for on a node: of each resource the containers' sum, or an init container's if that is more.

    Rules: https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers

    Args:
        pod: a pod's spec.

    Returns:
        resource name to amount in base units. A limit without a request counts as the request, as the API server has it.
    """
    found, aside = _asked(pod.get("containers") or []), Counter()
    most: dict[str, Decimal] = {}
    for container in pod.get("initContainers") or []:
        # One that is restarted goes on beside all that come after it.
        alone = _asked([container]) + aside
        most = {name: max(most.get(name, Decimal(0)), value) for name, value in {**most, **alone}.items()}
        aside = alone if container.get("restartPolicy") == "Always" else aside
    found += aside
    found = {name: max(found[name], most.get(name, Decimal(0))) for name in {**found, **most}}
    return found | _asked([pod])


def _asked(of: list[dict]) -> Counter:
    """Sum what containers ask for, or a pod itself (its resources stand for those of its containers)."""
    total: Counter = Counter()
    for one in of:
        resources = one.get("resources") or {}
        total.update(
            {
                name: quantity.parse(value)
                for name, value in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items()
            }
        )
    return total


def amount_of(name: str, value: Decimal) -> str:
    """Write an amount of a resource for people."""
    return quantity.mebibytes(value) if name in ("memory", "ephemeral-storage", "storage") else f"{value:f}"


def too_large(name: str, pod: dict, pool: list[dict]) -> list[str]:
    """Say what a pod asks for that no node of its pool has.

    Args:
        name: of the Deployment.
        pod: its pod's spec.
        pool: the nodes that the pod's node selector finds, at least one.

    Returns:
        one line about the node that comes nearest, or none when the pod fits.
    """
    wanted = pod_requests(pod)

    def lacking(node):
        room = node["status"].get("allocatable", {})
        return [
            f"{amount_of(key, value)} {key}, it has {room.get(key, 0)}"
            for key, value in wanted.items()
            if value > quantity.parse(room.get(key, 0))
        ]

    shortest = min(((lacking(node), node["metadata"]["name"]) for node in pool), key=lambda found: len(found[0]))
    if not shortest[0]:
        return []
    return [
        f"Deployment {name} fits on none of the {len(pool)} nodes that its node selector finds; {shortest[1]} comes nearest: the pod asks for {'; '.join(shortest[0])}"
    ]
