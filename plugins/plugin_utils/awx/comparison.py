"""What a run has to do: what is missing, what differs and in which fields, what nobody wants any more; never writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.awx import nodes
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.forms import Forms, There, differing, named
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.objects import Wanted, key
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.surroundings import KINDS, mark
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.teams import FIELDS

WORDS = {"workflow": "workflow job template", "node": "workflow node"}
# What is removed, and in which order: what refers to something goes before it. AWX removes no label, and a grant with its team; nodes are
# a part of their workflow. An
# instance group has no description, so nobody knows whose it is, and the organization is never removed.
REMOVED = (
    *("schedule", "workflow", "job_template", "inventory_source", "inventory", "project", "team"),
    *("notification_template", "execution_environment", "credential", "credential_type"),
)
# What of a project or a source shows that AWX does not have its files: nothing that needs them can start.
NOT_READ = ("failed", "error", "canceled", "never updated")
# What the modules of awx.awx can't empty: without a name they look up no object, and leave what is there.
NOT_EMPTIED = ("credential", "default_environment", "execution_environment")
NAMES = ("name", "inventory", "unified_job_template", "credential_type")


@dataclass
class Comparison:
    """What a run has to do.

    Attributes:
        calls: kind to the objects that differ, for which the modules are called; of a project or a source, ``unread`` says whether
            AWX is to try again to read it. Of nodes also those that are removed or lose links before (``nodes.changes``).
        lines: what is to be created, updated and granted, one object a line.
        by_hand: what the inventory no longer says of an object and the modules can't empty, one object a line.
        dropped: kind to what is there, made by the role, and no longer wanted, by what names it.
    """

    calls: dict[str, list[dict]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    lines: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)
    dropped: dict[str, list[dict]] = field(default_factory=dict)


def compare(wanted: Wanted, there: There, forms: Forms) -> Comparison:
    """Compare what is wanted with what is there.

    Args:
        wanted: what AWX is to have.
        there: from ``state.read``.
        forms: of what is there.

    Raises:
        Failure: AWX does not answer, or refuses.
    """
    ours = mark(wanted.organization)
    found = Comparison(dropped=_dropped(wanted.found, there, ours))
    granted: dict[str, set[int]] = {}
    for kind, items in wanted.found.items():
        if kind == "node":
            lines, calls = nodes.changes(items, there, forms)
            found.lines += lines
            found.calls |= calls
            continue
        for item in items:
            name = key(kind, item)
            has = there[kind].get(name)
            if kind == "grant":
                line = _grant(item, there, forms, granted)
            elif has is None:
                line = f"create {word(kind)} {name}"
            else:
                fields = _differing(kind, item, has, forms, wanted.secrets.get((kind, name), {}))
                stay = (
                    [] if kind == "instance_group" else [one for one in NOT_EMPTIED if one in fields and not item[one]]
                )
                found.by_hand += [f"{word(kind)} {name}: {', '.join(stay)}"] if stay else []
                fields = [one for one in fields if one not in stay]
                fields += [f"last update {has['status']}"] if _unread(kind, has) else []
                line = f"update {word(kind)} {name}: {', '.join(fields)}" if fields else ""
                if fields and "description" in item and ours not in (has.get("description") or ""):
                    line += " (this role has not made it)"
            if line:
                found.lines.append(line)
                found.calls[kind].append({name: value for name, value in item.items() if name != "needs"})
                found.calls[kind][-1] |= (
                    {"unread": _unread(kind, has)} if kind in ("project", "inventory_source") else {}
                )
    return found


def word(kind: str) -> str:
    """Name a kind as AWX does."""
    return WORDS.get(kind, kind.replace("_", " "))


def _unread(kind: str, has: Mapping[str, Any] | None) -> bool:
    return kind in ("project", "inventory_source") and has is not None and has.get("status") in NOT_READ


def _differing(kind: str, item: dict, has: Mapping[str, Any], forms: Forms, secret: Mapping[str, Any]) -> list[str]:
    return differing(item, forms.form(kind, has), secret)


def _grant(item: Mapping[str, Any], there: There, forms: Forms, granted: dict[str, set[int]]) -> str:
    """Word a grant of which something is missing, or give an empty text."""
    team = there["team"].get(item["team"])
    if team and item["team"] not in granted:
        granted[item["team"]] = forms.grants(team)
    has = granted.get(item["team"], set())
    missing = []
    for option, kind in FIELDS.items():
        for name in item.get(option, ()):
            object_roles = there[kind].get(name, {}).get("summary_fields", {}).get("object_roles", {})
            if object_roles.get(f"{item['role']}_role", {}).get("id") not in has:
                missing.append(f"{word(kind)} {name}")
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    return f"grant {item['role']} to {item['team']}: {shown}" if missing else ""


def _dropped(wanted: Mapping[str, list[dict]], there: There, ours: str) -> dict[str, list]:
    kept = {kind: {key(kind, item) for item in wanted[kind]} for kind in KINDS}
    found: dict[str, list[dict]] = {}
    for kind in REMOVED:
        found[kind] = [
            {name: named(item, name) for name in NAMES if name in item}
            for name, item in there[kind].items()
            if name not in kept[kind] and ours in (item.get("description") or "")
        ]
    return found
