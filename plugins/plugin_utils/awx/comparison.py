"""What a run has to do: what is missing, what differs and in which fields, what nobody wants any more; never writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.awx import nodes, rights
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.forms import Forms, There, differing, named
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.objects import Wanted, key, word
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.surroundings import KINDS, mark
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.updates import GOING

# What is removed, and in which order: what refers to something goes before it. AWX removes no label, and a grant with its team; nodes are
# a part of their workflow. An
# instance group has no description, so nobody knows whose it is, and the organization is never removed.
REMOVED = (
    *("schedule", "workflow", "job_template", "inventory_source", "inventory", "project", "team"),
    *("notification_template", "execution_environment", "credential", "credential_type"),
)
# What is more than an object and its fields.
PARTS = {"node": nodes.changes, "grant": rights.changes}
# What answers the prompts of templates.
ANSWERS = ("workflow", "schedule")
# What of a project or a source shows that AWX does not have its files: nothing that needs them can start.
NOT_READ = ("failed", "error", "canceled", "never updated")
# What the modules of awx.awx can't empty: without a name they look up no object, and leave what is there. Nor the limit of a workflow:
# they send no null.
NOT_EMPTIED = ("credential", "default_environment", "execution_environment", "inputs", "injectors")
NAMES = ("name", "inventory", "unified_job_template", "credential_type")
# A list of ``Comparison.calls``: schedules that are removed before they are made again.
REMADE = "schedule_removed"


@dataclass
class Comparison:
    """What a run has to do.

    Attributes:
        calls: kind to the objects that differ, for which the modules are called; of a project or a source, ``unread`` says whether
            AWX is to read it, or to try again. Of schedules also those that are removed before (``REMADE``), of nodes those that are
            removed or lose links before (``nodes.changes``), and of grants those that are taken back (``rights.changes``).
        lines: what is to be created, updated and granted, one object a line.
        by_hand: what the inventory no longer says of an object and the modules can't empty, or what they can't remove, one object a line.
        dropped: kind to what is there, made by the role, and no longer wanted, by what names it.
    """

    calls: dict[str, list[dict]] = field(default_factory=lambda: {kind: [] for kind in (*KINDS, REMADE)})
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
    for kind, items in wanted.found.items():
        if kind in PARTS:
            lines, calls = PARTS[kind](wanted.found, there, forms)
            found.lines += lines
            found.calls |= calls
            continue
        for item in items:
            _add(found, wanted, kind, item, there[kind].get(key(kind, item)), forms, ours)
    _stay(found, there, forms)
    return found


def _add(
    found: Comparison,
    wanted: Wanted,
    kind: str,
    item: dict,
    has: Mapping[str, Any] | None,
    forms: Forms,
    ours: str,
) -> None:
    """Add what is to become of one object."""
    name = key(kind, item)
    fields: list[str] = []
    absent: list[str] = []
    form = {} if has is None else forms.form(kind, has)
    if kind == "schedule" and has and (answers := _unwanted(item, has, form)):
        found.calls[REMADE].append({field: item[field] for field in ("name", "unified_job_template")})
        line = f"replace schedule {name}: {', '.join(answers)}"
    elif has is None:
        line = f"create {word(kind)} {name}"
    else:
        fields = differing(item, form, wanted.secrets.get((kind, name), {}))
        stay = _not_emptied(kind, item, has, fields)
        found.by_hand += [f"{word(kind)} {name}: {', '.join(stay)}"] if stay else []
        fields = [one for one in fields if one not in stay]
        if _unread(kind, has):
            fields.append(f"last update {has['status']}")
        elif kind == "project":
            absent = _absent(item, has, wanted, forms)
            fields += [f"no {playbook} yet" for playbook in absent[:1]]
        if not fields:
            return
        line = f"update {word(kind)} {name}: {', '.join(fields)}"
        if "description" in item and ours not in (has.get("description") or ""):
            line += " (this role has not made it)"
    found.lines.append(line)
    left = {"needs"}
    if kind in ANSWERS:
        # An empty text is sent only where there is another: AWX takes it for an answer, over the template's own.
        left |= {field for field, value in item.items() if value == "" and field not in fields}
    call = {field: value for field, value in item.items() if field not in left}
    if kind in ("project", "inventory_source"):
        # One that AWX fetches at the moment is only waited for.
        call["unread"] = _unread(kind, has) or bool(absent and has and has["status"] not in GOING)
    found.calls[kind].append(call)


def _not_emptied(kind: str, item: Mapping[str, Any], has: Mapping[str, Any], fields: list[str]) -> list[str]:
    """Name the fields that differ, and that the modules leave as they are."""
    if kind == "instance_group":
        return []
    stay = [one for one in NOT_EMPTIED if one in fields and not item.get(one, True)]
    if kind == "workflow" and has["limit"] is not None and not item["limit"]:
        # An empty limit is one, too: it stands for all hosts, over the limits of the nodes.
        stay.append("limit")
    return stay


def _unwanted(item: Mapping[str, Any], has: Mapping[str, Any], form: Mapping[str, Any]) -> list[str]:
    """Name what a schedule says at its launch, and is not to say: the module sends no null."""
    # An empty limit stands for all hosts, over the template's own.
    limit = has["limit"] is not None and not item["limit"]
    return form["answers"] + ["limit"] * limit


def _unread(kind: str, has: Mapping[str, Any] | None) -> bool:
    return kind in ("project", "inventory_source") and has is not None and has.get("status") in NOT_READ


def _absent(project: Mapping[str, Any], has: Mapping[str, Any], wanted: Wanted, forms: Forms) -> list[str]:
    """Name the playbooks that AWX has not found in a project: it refuses their job templates.

    Its first update has not ended, or the branch has moved on since the last one. Where jobs may take another branch, AWX does not look.
    """
    if has.get("allow_override"):
        return []
    needed = {item["playbook"] for item in wanted.found["job_template"] if item["project"] == project["name"]}
    return sorted(needed - set(forms.awx.get(f"projects/{has['id']}/playbooks/"))) if needed else []


def _stay(found: Comparison, there: There, forms: Forms) -> None:
    """Note what stays of what is dropped: AWX removes no type that has credentials, and with a source none of its hosts."""
    gone = {there["credential"][item["name"]]["id"] for item in found.dropped["credential"]}
    for item in list(found.dropped["credential_type"]):
        number = there["credential_type"][item["name"]]["id"]
        users = [one["name"] for one in forms.awx.list("credentials/", credential_type=number) if one["id"] not in gone]
        if users:
            found.dropped["credential_type"].remove(item)
            found.by_hand.append(
                f"credential type {item['name']}, since credentials of others are of it: {', '.join(users)}"
            )
    for item in found.dropped["inventory_source"]:
        if {"name": item["inventory"]} not in found.dropped["inventory"]:
            what = (
                f"the hosts and groups of the inventory {item['inventory']} that only its source {item['name']} brought"
            )
            found.by_hand.append(what)


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
