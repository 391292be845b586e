"""What a team may do, as grants of roles on objects; never asks AWX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Options of awx.awx.role, and the kinds of what they name.
FIELDS = {
    "job_templates": "job_template",
    "workflows": "workflow",
    "projects": "project",
    "inventories": "inventory",
}
# What is granted, and what a team that may less loses. Other roles are AWX's.
ROLES = ("read", "execute", "approval")


def grants(
    team: str, entry: Mapping[str, Any], everything: Mapping[str, list[str]], open_to_all: list[str]
) -> list[dict]:
    """Compute the grants of a team.

    Args:
        team: its name.
        entry: of ``awx_teams``.
        everything: names of all projects, inventories, job templates and workflows, by kind.
        open_to_all: names of the job templates that are not guarded.

    Returns:
        for each its ``team``, ``role``, and names of objects, by the options of the module awx.awx.role.
    """
    seen = {field: everything[kind] for field, kind in FIELDS.items()}
    found = [{"team": team, "role": "read", **seen}]
    # An empty list is none, not all.
    flows = everything["workflow"] if entry.get("workflows") is None else entry["workflows"]
    if entry["role"] == "operator":
        launched = open_to_all if entry.get("templates") is None else entry["templates"]
        found.append({"team": team, "role": "execute", "job_templates": launched, "workflows": flows})
    elif entry["role"] == "approver":
        found.append({"team": team, "role": "approval", "workflows": flows})
    return found
