"""Lays out what a run would change for whoever approves it: action, object and what that does to those who use a server; never asks a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils import table
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import describe

HEADINGS = ("would", "object", "effect")
NONE = "-"


def row(change: Any) -> dict[str, str]:
    """Give the row of a change.

    Args:
        change: a ``Change``, with its notes.

    Returns:
        ``would`` (the action), ``kind``, ``object``, and ``effect``: ``-`` where nothing starts, ends or is lost.
    """
    return {
        "would": change.action,
        "kind": change.item["kind"],
        "object": describe(change.item),
        "effect": effect(change),
    }


def effect(change: Any) -> str:
    """Say what a change does beyond its object."""
    kind = change.item["kind"]
    if change.cascade is not None:
        return "Argo CD removes what it deployed" if change.cascade else "what it deployed stays"
    if kind == "PersistentVolumeClaim" and not change.after and change.before:
        return "its data goes with it"
    if kind != "Deployment":
        return NONE
    return "; ".join(change.notes) or _of_pods(change.before, change.after)


def _of_pods(before: Mapping | None, after: Mapping | None) -> str:
    """Say what becomes of the pods of a Deployment which no note is about: none of those that serve is replaced."""
    if not after:
        return "nothing of it serves now"
    pods = after["spec"].get("replicas", 1)
    if not before:
        return f"starts {_counted(pods)}" if pods else "starts no pod"
    was = before["spec"].get("replicas", 1)
    if before["spec"]["template"] != after["spec"]["template"]:
        return f"replaces {_counted(was)}, none of which serves now" if was else "its pods are parked"
    return f"restarts no pod, and there are {pods} instead of {was}" if pods != was else "restarts no pod"


def _counted(pods: int) -> str:
    return f"{pods} pod{'s'[: pods > 1]}"


def lines(rows: list[dict], width: int = 0) -> list[str]:
    """Lay the rows out.

    Args:
        rows: of :func:`row`, in the order of a run.
        width: characters that a line may have; 0 for any number.

    Returns:
        the table; those of one action and one kind that have no effect are one row. Where it is too wide, each effect stands below
        its object, so that nothing of it is cut; none for no rows.
    """
    groups: dict[tuple, list[dict]] = {}
    for one in rows:
        alone = one["object"] if one["effect"] != NONE else ""
        groups.setdefault((one["would"], one["kind"], alone), []).append(one)
    found = [
        (would, same[0]["object"] if len(same) == 1 else f"{len(same)} x {kind}", same[0]["effect"])
        for (would, kind, _), same in groups.items()
    ]
    if not found:
        return []
    together = table.columns(HEADINGS, found)
    if not width or max(map(len, together)) <= width:
        return together
    head, *rest = table.columns(HEADINGS[:2], [one[:2] for one in found])
    below = [[f"        {one[2]}"] if one[2] != NONE else [] for one in found]
    return [head, *(text for line, more in zip(rest, below, strict=True) for text in (line, *more))]
