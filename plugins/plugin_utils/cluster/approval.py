"""Holds what a run would do against what was approved (``apply_approved``); never asks a cluster, and never writes.

A run in check mode hands on a digest of its plan, and a run that is given one does exactly that or nothing. The digest covers what the
inventory asks of each object that changes, and what the cluster has of the fields that would change: so a change of either counts, and
nothing that differs from run to run, as the number of pods that an autoscaler keeps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import fields
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import describe
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.plan import Change, shown
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused, problem

VARIABLE = "apply_approved"
ALGORITHM = "sha256"
# Characters of the digest of one change, which only tells what differs: the digest of all decides.
SHORT = 12
FORM = "must be what a run in check mode has handed on, {CLUSTER: {digest: sha256:...}}, as a dictionary or as JSON"
NOT_HELD = f"{VARIABLE} is what a deploy was approved to do: it is not held against"


def of(rendered: Mapping, changes: Sequence[Change]) -> dict:
    """Give what is approved, of a run in check mode.

    Args:
        rendered: the structure of ``servers.render``.
        changes: all that the plan does.

    Returns:
        ``digest``; ``changes``, by action and object a short digest of each; ``rollback_to``, where a release comes back.
    """
    found = sorted((_name(change), _text(change)) for change in changes)
    back = {"rollback_to": rendered["rollback_to"]} if rendered.get("rollback_to") else {}
    return {
        "digest": f"{ALGORITHM}:{_digest(json.dumps(found))}",
        "changes": {name: _digest(text)[:SHORT] for name, text in found},
        **back,
    }


def small(approved: dict, size: float) -> dict:
    """Give it in at most so many bytes of JSON, with ``more`` for the changes that it leaves out; nothing where not even the digest has room."""
    kept, names = dict(approved), list(approved["changes"])
    while len(json.dumps(kept)) > size:
        if not names:
            return {}
        names = names[: len(names) * 3 // 4]
        left_out = len(approved["changes"]) - len(names)
        kept |= {"changes": {name: approved["changes"][name] for name in names}, "more": left_out}
    return kept


def check(rendered: Mapping, changes: Sequence[Change]) -> str:
    """Refuse a run that would not do what was approved.

    Args:
        rendered: the structure of ``servers.render``; its setting ``apply_approved`` says what was, or is empty.
        changes: all that the plan does.

    Returns:
        what the operator should know, or ``""``.

    Raises:
        Refused: something else was approved, or nothing for this cluster; with what differs.
    """
    given = rendered["settings"]["apply"]["approved"]
    if given in ("", None):
        return ""
    found, name, release = _read(given), rendered["cluster"]["name"], rendered.get("rollback_to") or 0
    if rendered.get("recovers"):
        return f"{NOT_HELD} a switch"
    if release and not any(one.get("rollback_to") for one in found.values()):
        return f"{NOT_HELD} a rollback"
    if not changes:
        return "nothing is left to do of what was approved"
    if name not in found:
        there = ", ".join(found) or "none"
        raise Refused([f"apply_approved has nothing of cluster {name} (it has: {there}), and there are changes"])
    approved, now = found[name], of(rendered, changes)
    if approved.get("rollback_to", 0) != release:
        meant = [
            f"a rollback to release {number}" if number else "a deploy"
            for number in (approved.get("rollback_to", 0), release)
        ]
        raise Refused([f"apply_approved: what was approved is {meant[0]}, and this run is {meant[1]}"])
    if approved["digest"] != now["digest"]:
        raise Refused(["\n  ".join(_told(approved, now, changes))])
    return f"as approved: {len(changes)} change{'s'[: len(changes) != 1]}"


def _told(approved: Mapping, now: Mapping, changes: Sequence[Change]) -> list[str]:
    """Word what differs."""
    before, more = approved.get("changes", {}), approved.get("more", 0)
    lines = [
        "apply_approved: what this run would do is not what was approved. Run it in check mode again, and have that approved:"
    ]
    for change in changes:
        name = _name(change)
        if name not in before and more:
            lines.append(f"new, or not named in the approval: {change.summary()}")
        elif name not in before:
            lines.append(f"new: {change.summary()}")
        elif before[name] != now["changes"][name]:
            lines.append(f"other than approved: {change.summary()}")
    lines += [f"approved, and no longer to be done: {name}" for name in before if name not in now["changes"]]
    if more:
        lines.append(
            f"the approval names {len(before)} of {len(before) + more} changes, so not all that differs can be told"
        )
    return lines


def _read(given: Any) -> dict[str, dict]:
    try:
        found = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        found = None
    if not isinstance(found, Mapping) or not all(map(_right, found.values())):
        raise Refused([problem(VARIABLE, given, FORM)])
    return {name: dict(one) for name, one in found.items()}


def _right(one: Any) -> bool:
    kinds = {"digest": str, "changes": dict, "more": int, "rollback_to": int}
    return (
        isinstance(one, Mapping)
        and "digest" in one
        and all(isinstance(one.get(key, kind()), kind) for key, kind in kinds.items())
    )


def _name(change: Change) -> str:
    return f"{change.action} {describe(change.item)}"


def _text(change: Change) -> str:
    """Write all of a change that is approved, so that the same change gives the same text."""
    item, live = change.item, change.before
    facts: dict[str, Any] = {"name": _name(change), "api": item.get("apiVersion", ""), "cascade": change.cascade}
    if change.action in ("create", "update"):
        facts |= {"wanted": item, "takeover": change.takeover}
    if change.action == "update":
        differing = fields.changes(shown(live), shown(change.after))
        facts["there"] = sorted([fields.dotted(path), json.dumps(old, sort_keys=True)] for path, old, _ in differing)
    elif live:
        # What goes is this object, and no other that has its name by then.
        facts["uid"] = live["metadata"]["uid"]
    return json.dumps(facts, sort_keys=True)


def _digest(text: str) -> str:
    return hashlib.new(ALGORITHM, text.encode(), usedforsecurity=False).hexdigest()
