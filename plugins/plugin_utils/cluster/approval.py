"""Holds what a run would do against what was approved (``apply_approved``); never asks a cluster, and never writes.

A run in check mode hands on a digest of its plan, and a run that is given one does exactly that or nothing. The digest covers what the
inventory asks of each object that changes, what the cluster has of the fields that would change, which cluster it is, and whether a run
that fails takes itself back: so a change of these counts, and nothing that differs from run to run, as an autoscaler's number of pods.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import fields
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.change import Change, shown
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import describe
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused, problem

VARIABLE = "apply_approved"
ALGORITHM = "sha256"
# Characters of the digest of one change. A part of what was approved is held against these, so they are more than a person needs.
SHORT = 32
FORM = "must be what a run in check mode has handed on, {HOST: {digest: sha256:...}}, as a dictionary or as JSON"
NOT_HELD = f"{VARIABLE} is what a deploy was approved to do: it is not held against"
OTHER = "apply_approved: what this run would do is not what was approved. Run it in check mode again, and have that approved:"
ELSEWHERE = "other than approved: the cluster (the host, platform_kube_system_uid, or without one platform_api_server) or apply_rollback_on_failure"
ANEW = f"this check differs from what was approved ({VARIABLE}), as told above: what it hands on is to be approved anew"


class Differs(Refused):
    """A run would not do what was approved.

    Attributes:
        lines: what differs.
    """

    def __init__(self, text: str, lines: Sequence[str] = ()) -> None:
        super().__init__(["\n  ".join([text, *lines])])
        self.lines = list(lines) or [text]


def of(rendered: Mapping, changes: Sequence[Change]) -> dict:
    """Give what is approved, of a run in check mode.

    Args:
        rendered: the structure of ``servers.render``.
        changes: all that the plan does.

    Returns:
        ``digest``; ``where``, a short one of the cluster and of what becomes of a run that fails; ``changes``, by action and object a short
        digest of each; ``rollback_to``, where a release comes back.
    """
    found, where = sorted((_name(change), _text(change)) for change in changes), _where(rendered)
    back = {"rollback_to": rendered["rollback_to"]} if rendered.get("rollback_to") else {}
    return {
        "digest": f"{ALGORITHM}:{_digest(json.dumps([where, found]))}",
        "where": _digest(where)[:SHORT],
        "changes": {name: _digest(text)[:SHORT] for name, text in found},
        **back,
    }


def small(approved: dict, size: float) -> dict:
    """Give it in at most so many bytes of JSON, with ``more`` for the changes that it leaves out.

    Where not even the digest has room, an empty one stays, which no plan has: without any, a deploy would not be held against one.
    """
    kept, names = dict(approved), list(approved["changes"])
    while len(json.dumps(kept)) > size:
        if not names:
            return {"digest": "", **{key: kept[key] for key in ("rollback_to",) if key in kept}}
        names = names[: len(names) * 3 // 4]
        left_out = len(approved["changes"]) - len(names)
        kept |= {"changes": {name: approved["changes"][name] for name in names}, "more": left_out}
    return kept


def check(rendered: Mapping, changes: Sequence[Change], check_mode: bool = False) -> str:
    """Refuse a run that would not do what was approved.

    Args:
        rendered: the structure of ``servers.render``; its setting ``apply_approved`` says what was, or is empty.
        changes: all that the plan does.
        check_mode: the run writes nothing, so nothing has to be approved for it.

    Returns:
        what the operator should know, or ``""``.

    Raises:
        Differs: something else was approved, or nothing for this host; with what differs.
        Refused: what is given is no approval.
    """
    settings, host, release = rendered["settings"]["apply"], rendered["cluster"]["host"], rendered.get("rollback_to")
    given, required = settings["approved"], settings["approval_required"] and not check_mode
    none = given in ("", None)
    found = {} if none else _read(given)
    if none and (not required or not changes or rendered.get("recovers")):
        return ""
    if rendered.get("recovers"):
        return f"{NOT_HELD} a switch"
    if release and not required and not any(one.get("rollback_to") for one in found.values()):
        return f"{NOT_HELD} a rollback"
    if not changes:
        return "nothing is left to do of what was approved"
    if host not in found:
        there = ", ".join(found) or "none"
        why = ", and apply_approval_required is true" if required else ""
        raise Differs(f"apply_approved has nothing of host {host} (it has: {there}){why}, and there are changes")
    return _held(found[host], of(rendered, changes), changes, host)


def _held(approved: Mapping, now: Mapping, changes: Sequence[Change], host: str) -> str:
    if not approved["digest"]:
        raise Differs(
            f"apply_approved has no digest of host {host}: the check had too many clusters for it. Check fewer in one run (--limit, or waves)"
        )
    if approved.get("rollback_to", 0) != now.get("rollback_to", 0):
        meant = [
            f"a rollback to release {number}" if number else "a deploy"
            for number in (approved.get("rollback_to", 0), now.get("rollback_to", 0))
        ]
        raise Differs(f"apply_approved: what was approved is {meant[0]}, and this run is {meant[1]}")
    count = f"{len(changes)} change{'s'[: len(changes) != 1]}"
    if approved["digest"] == now["digest"]:
        return f"as approved: {count}"
    before = approved.get("changes", {})
    gone = [name for name in before if name not in now["changes"]]
    known = all(before.get(name) == digest for name, digest in now["changes"].items())
    # Two objects of one name, as of two groups of APIs, are one in the list.
    whole = approved.get("where") == now["where"] and not approved.get("more") and len(now["changes"]) == len(changes)
    if gone and known and whole:
        return f"as approved: {count} of {len(before)}; no longer to be done: {', '.join(gone)}"
    raise Differs(OTHER, _told(approved, now, changes))


def _told(approved: Mapping, now: Mapping, changes: Sequence[Change]) -> list[str]:
    """Word what differs."""
    before, more = approved.get("changes", {}), approved.get("more", 0)
    lines = [ELSEWHERE] if approved.get("where", now["where"]) != now["where"] else []
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
    kinds = {"digest": str, "where": str, "changes": dict, "more": int, "rollback_to": int}
    return (
        isinstance(one, Mapping)
        and "digest" in one
        and all(isinstance(one.get(key, kind()), kind) for key, kind in kinds.items())
    )


def _where(rendered: Mapping) -> str:
    """Write which cluster is meant, and what becomes of a run there that fails."""
    cluster = rendered["cluster"]
    back = rendered["settings"]["apply"]["rollback_on_failure"]
    return json.dumps([cluster["host"], cluster["name"], cluster["kube_system_uid"] or cluster["api_server"], back])


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
