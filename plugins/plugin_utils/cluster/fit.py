"""Compares a pod with the nodes of its pool as the scheduler will; never asks a cluster."""

from __future__ import annotations

from decimal import Decimal

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity


def pod_requests(pod: dict) -> dict[str, Decimal]:
    """What the scheduler looks for on a node: of each resource the containers' sum, or an init container's if that is more.

    Args:
        pod: a pod's spec.

    Returns:
        resource name to amount in base units. A limit without a request counts as the request, as the API server has it.
    """
    found: dict[str, Decimal] = {}
    for kind in ("containers", "initContainers"):
        total: dict[str, Decimal] = {}
        for container in pod.get(kind, []):
            resources = container.get("resources") or {}
            for name, value in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
                amount = quantity.parse(value)
                total[name] = (
                    max(total.get(name, amount), amount) if kind == "initContainers" else total.get(name, 0) + amount
                )
        found = {name: max(found.get(name, Decimal(0)), total.get(name, Decimal(0))) for name in {**found, **total}}
    return found


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
