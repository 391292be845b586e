"""What teams have to be granted, and what is taken back from a team that may do less than before; never writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.awx.forms import Forms, There
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.objects import word
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.teams import FIELDS, ROLES


def changes(wanted: Mapping[str, list[dict]], there: There, forms: Forms) -> tuple[list[str], dict[str, list[dict]]]:
    """Compare what teams are to have with what they have, on what the inventory has.

    Args:
        wanted: of ``objects.Wanted.found``.
        there: from ``state.read``.
        forms: of what is there.

    Returns:
        what is to be told; and the calls, those that grant (``grant``) and those that take back (``revocation``).

    Raises:
        Failure: AWX does not answer, or refuses.
    """
    has = {
        team["name"]: forms.grants(there["team"][team["name"]]) if team["name"] in there["team"] else set()
        for team in wanted["team"]
    }
    lines, calls = [], {"grant": [], "revocation": []}
    for item in wanted["grant"]:
        if line := _grant(item, there, has[item["team"]]):
            lines.append(line)
            calls["grant"].append({field: value for field, value in item.items() if field != "needs"})
    for team, roles in has.items():
        for taken in _surplus(team, wanted, there, roles):
            lines.append(f"revoke {taken['role']} from {team}: {_shown(taken)}")
            calls["revocation"].append(taken)
    return lines, calls


def _grant(item: Mapping[str, Any], there: There, has: set[int]) -> str:
    """Word a grant of which something is missing, or give an empty text."""
    missing = {
        option: [name for name in item.get(option, ()) if _role(there, kind, name, item["role"]) not in has]
        for option, kind in FIELDS.items()
    }
    return f"grant {item['role']} to {item['team']}: {_shown(missing)}" if any(missing.values()) else ""


def _surplus(team: str, wanted: Mapping[str, list[dict]], there: There, has: set[int]) -> list[dict]:
    """Give the grants on what the inventory has that a team has and is not to have."""
    grants = {item["role"]: item for item in wanted["grant"] if item["team"] == team}
    found = []
    for role in ROLES:
        names = {
            option: [
                item["name"]
                for item in wanted[kind]
                if item["name"] not in grants.get(role, {}).get(option, ())
                and _role(there, kind, item["name"], role) in has
            ]
            for option, kind in FIELDS.items()
        }
        if any(names.values()):
            found.append({"team": team, "role": role} | {option: some for option, some in names.items() if some})
    return found


def _role(there: There, kind: str, name: str, role: str) -> int | None:
    """Give the id of a role on an object."""
    object_roles = there[kind].get(name, {}).get("summary_fields", {}).get("object_roles", {})
    return object_roles.get(f"{role}_role", {}).get("id")


def _shown(names: Mapping[str, Any]) -> str:
    """Name the objects of a grant, the first ones of many."""
    found = [f"{word(kind)} {name}" for option, kind in FIELDS.items() for name in names.get(option, ())]
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
