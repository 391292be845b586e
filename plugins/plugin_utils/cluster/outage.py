"""Says what a change takes away from those who use a server, and for how long; never asks a cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def notes(change: Any, start_seconds: int | None = None) -> list[str]:
    """Say whether a server goes on answering while a change is rolled out.

    Args:
        change: a ``Change`` of any object.
        start_seconds: what the start of one of its pods may take once its image is there; None when it is not known.

    Returns:
        a line, or none where there is nothing to say: nothing serves now, or no pod is replaced.
    """
    before, after = change.before, change.after
    if change.item["kind"] != "Deployment" or not before or not (before.get("status") or {}).get("availableReplicas"):
        return []
    replicas = after["spec"].get("replicas", 1) if after else 0
    if not replicas and before["spec"].get("replicas") == 0:
        # Parked already; its last pods are on their way out.
        return []
    if not replicas:
        return ["stops serving"]
    if before["spec"]["template"] == after["spec"]["template"]:
        return []
    gone = lacking(after)
    if not gone:
        if replicas == 1:
            return ["replaces the only pod, which serves until the new one is ready"]
        return [f"replaces its {replicas} pods, which serve until new ones are ready"]
    if gone < replicas:
        return [f"replaces {gone} of its {replicas} pods at a time: {replicas - gone} serve on"]
    seconds = _down(before, after, start_seconds)
    if replicas == 1:
        return [f"replaces the only pod: down for up to {seconds}"]
    return [f"replaces all {replicas} pods at once: down for up to {seconds}"]


def lacking(deployment: Mapping) -> int:
    """Tell how many of its pods a Deployment may lack while they are replaced; with none, a new one starts beside the old.

    Rules: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-update-deployment
    """
    replicas, strategy = deployment["spec"].get("replicas", 1), deployment["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return replicas
    given = strategy.get("rollingUpdate") or {}
    gone = _count(given.get("maxUnavailable", "25%"), replicas, math.floor)
    # Neither more nor fewer would be no way on.
    if not gone and not _count(given.get("maxSurge", "25%"), replicas, math.ceil):
        gone = 1
    return min(gone, replicas)


def _count(value: int | str, replicas: int, rounded) -> int:
    text = str(value)
    return rounded(replicas * int(text[:-1]) / 100) if text.endswith("%") else int(text)


def _down(before: Mapping, after: Mapping, start_seconds: int | None) -> str:
    """Say how long it takes from the end of the last old pod to the first new one that is ready."""
    old, new = (item["spec"]["template"]["spec"] for item in (before, after))
    # The new pod waits for what the old one holds, and that one may drain for as long.
    drain = old.get("terminationGracePeriodSeconds", 30)
    deadline = drain + after["spec"].get("progressDeadlineSeconds", 600)
    if start_seconds is None or _images(old) != _images(new) or old.get("nodeSelector") != new.get("nodeSelector"):
        return f"{deadline} s"
    return f"{drain + start_seconds} s, {deadline} s if a node or the image has to come first"


def _images(pod: Mapping) -> set[str]:
    return {container["image"] for container in [*(pod.get("initContainers") or []), *pod["containers"]]}
