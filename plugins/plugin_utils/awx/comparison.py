"""What a run has to do: which objects its modules are called for, what of them can only be told, what nobody wants any more; never asks AWX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.modelyard.core.plugins.plugin_utils.awx.objects import KINDS, key, mark

WORDS = {"workflow": "workflow job template", "node": "node of a workflow"}
# What is removed, and in which order: what refers to something goes before it. AWX removes no label, and a grant with its team. An
# instance group has no description, so nobody knows whose it is, and the organization is never removed.
REMOVED = (
    *("schedule", "node", "workflow", "job_template", "inventory_source", "inventory", "project", "team"),
    *("notification_template", "execution_environment", "credential", "credential_type"),
)
# How many of the objects that one waits for are named.
SHOWN = 3
NAMES = ("name", "identifier", "workflow", "inventory", "unified_job_template", "credential_type")


@dataclass(frozen=True)
class Comparison:
    """What a run has to do.

    Attributes:
        calls: kind to the objects that the modules are called for.
        lines: what only can be told, as changes that would be.
        taken: what is there, and that this role did not make.
        dropped: kind to what is there, made by the role, and no longer wanted, by what names it.
    """

    calls: dict[str, list[dict]]
    lines: list[str]
    taken: list[str]
    dropped: dict[str, list[dict]]


def compare(
    wanted: Mapping[str, list[dict]], there: Mapping[str, Mapping[str, dict]], organization: str, check: bool
) -> Comparison:
    """Compare what is wanted with what is there.

    Args:
        wanted: ``Wanted.found``.
        there: from ``state.read``.
        organization: its name.
        check: nothing is written. A module fails where something that its object refers to is missing, so it is not called then.
    """
    missing = {
        (kind, key(kind, item))
        for kind, items in wanted.items()
        for item in items
        if kind != "grant" and key(kind, item) not in there[kind]
    }
    ours = mark(organization)
    calls: dict[str, list[dict]] = {}
    lines, taken = [], []
    for kind, items in wanted.items():
        calls[kind] = []
        for item in items:
            name = f"{word(kind)} {key(kind, item)}"
            lacking = [f"{word(one)} {what}" for one, what in item["needs"] if (one, what) in missing]
            there_already = (kind, key(kind, item)) not in missing
            if (
                there_already
                and "description" in item
                and ours not in (there[kind][key(kind, item)].get("description") or "")
            ):
                taken.append(name)
            if check and not there_already:
                lines.append(f"create {name}")
            elif check and lacking:
                more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
                lines.append(f"{'' if kind == 'grant' else 'update '}{name}, for {', '.join(lacking[:SHOWN])}{more}")
            else:
                calls[kind].append({field: value for field, value in item.items() if field != "needs"})
    # An approval stands twice among the nodes.
    return Comparison(calls, list(dict.fromkeys(lines)), taken, _dropped(wanted, there, ours))


def word(kind: str) -> str:
    """Name a kind as AWX does."""
    return WORDS.get(kind, kind.replace("_", " "))


def _dropped(wanted: Mapping[str, list[dict]], there: Mapping[str, Mapping[str, dict]], ours: str) -> dict[str, list]:
    kept = {kind: {key(kind, item) for item in wanted[kind]} for kind in KINDS}
    found: dict[str, list[dict]] = {}
    for kind in REMOVED:
        # A node has no description: those of a workflow that we make are ours, and those of one that goes go with it.
        found[kind] = [
            {field: _named(item, field) for field in NAMES if field in item}
            for name, item in there[kind].items()
            if name not in kept[kind]
            and (item["workflow"] in kept["workflow"] if kind == "node" else ours in (item.get("description") or ""))
        ]
    return found


def _named(item: Mapping, field: str) -> str:
    """Give the name of what an object refers to; AWX has its id, and the name beside it."""
    if isinstance(item[field], int):
        return str(item.get("summary_fields", {}).get(field, {}).get("name", item[field]))
    return str(item[field])
