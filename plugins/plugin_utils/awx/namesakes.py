"""Names that the modules of awx.awx would not find, or find twice, or that another organization has; never writes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.awx.api import Awx
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.forms import There, named
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.objects import UNIFIED, key, word
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.state import MANAGED
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.check import nearest

MARK = re.compile(r"\(managed by modelyard for (.+?)\)")
# Those that a job template names, by their list.
BY_NAME_ALONE = {
    "inventory": "inventories",
    "credential": "credentials",
    "notification_template": "notification_templates",
}


def namesakes(awx: Awx, wanted: Mapping[str, list[dict]], organization: str) -> list[str]:
    """Find what is wanted and has a namesake elsewhere: the modules of awx.awx would find two, and fail.

    A credential may have one in its own organization, of another type.

    Args:
        awx: where to look.
        wanted: ``Wanted.found``.
        organization: the one that is to have it.

    Returns:
        a line for each.

    Raises:
        Failure: AWX does not answer, or refuses.
    """
    found = []
    types = {item["name"]: item["credential_type"] for item in wanted["credential"]}
    for kind, path in BY_NAME_ALONE.items():
        names = {item["name"] for item in wanted[kind]}
        for item in awx.list(f"{path}/") if names else []:
            owner = item.get("summary_fields", {}).get("organization", {}).get("name")
            if item["name"] in names and item.get("pending_deletion"):
                found.append(
                    f"inventory {item['name']}: AWX is still removing the one of that name: run this again when it has"
                )
            elif item["name"] in names and owner != organization:
                whose = f"the organization {owner}" if owner else "AWX itself" if item.get("managed") else "a user"
                found.append(
                    f"{kind.replace('_', ' ')} {item['name']}: {whose} has one of that name, and the modules of awx.awx look it up "
                    "by its name alone: rename one of the two"
                )
            elif (
                kind == "credential" and item["name"] in names and named(item, "credential_type") != types[item["name"]]
            ):
                found.append(
                    f"credential {item['name']}: AWX has one of that name of the type {named(item, 'credential_type')}, and would keep "
                    f"it beside that of the type {types[item['name']]}: remove it in AWX first, or take another name"
                )
    return found


def _twins(there: There, wanted: Mapping[str, list[dict]]) -> list[str]:
    """Find what nobody wants and has the name of what a node or a schedule starts: the modules look up all kinds of templates at once."""
    started = {item.get("template") for item in wanted["node"]}
    started |= {item["unified_job_template"] for item in wanted["schedule"]}
    return [
        f"{word(kind)} {item['name']}: a workflow or a schedule starts another template of that name, and the modules of awx.awx would find "
        "both: remove or rename the one in AWX"
        for kind in UNIFIED
        for name, item in there[kind].items()
        if item["name"] in started and name not in {key(kind, one) for one in wanted[kind]}
    ]


def shared(there: There, wanted: Mapping[str, list[dict]], organization: str) -> list[str]:
    """Find what is wanted by a name that is one in all of AWX, or among all templates of the organization, and that another has.

    Args:
        there: from ``state.read``.
        wanted: ``Wanted.found``.
        organization: the one that is to have it.

    Returns:
        a line for each.
    """
    hints = {
        "execution_environment": "give yours another one in awx_execution_environment.name",
        "credential_type": "give yours another one (in awx_clusters it is the name of the host)",
    }
    found = []
    for kind, hint in hints.items():
        for item in wanted[kind]:
            what = f"{kind.replace('_', ' ')} {item['name']}"
            if f"{kind} {item['name']}" in there[MANAGED]:
                found.append(f"{what}: AWX has one of that name of its own, which it lets nobody change: {hint}")
            has = there[kind].get(item["name"])
            if has is None:
                continue
            if kind == "execution_environment" and not has.get("organization"):
                found.append(f"{what}: it is of no organization, and AWX gives it none later: {hint}")
                continue
            marked = MARK.search(has.get("description") or "")
            owner = named(has, "organization") if has.get("organization") else marked[1] if marked else organization
            if owner != organization:
                found.append(f"{what}: the organization {owner} has it, and all of AWX has one of that name: {hint}")
    return found + _twins(there, wanted)


def lost(there: There, wanted: Mapping[str, list[dict]]) -> list[str]:
    """Find the instance groups that job templates name, and that neither AWX nor the inventory has.

    Args:
        there: from ``state.read``.
        wanted: ``Wanted.found``.

    Returns:
        a line for each.
    """
    known = [*there["instance_group"], *(item["name"] for item in wanted["instance_group"])]
    found = []
    for item in wanted["job_template"]:
        for name in item["instance_groups"]:
            if name not in known:
                hint = nearest(name, known)
                meant = f"did you mean {hint}?" if hint else f"it has {', '.join(sorted(known))}"
                found.append(
                    f"awx_job_templates.{item['name']}.instance_groups has {name!r}: AWX has no instance group of that name, {meant}"
                )
    return found
