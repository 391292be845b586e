"""What AWX has of an organization, by kind and name as the role names it, one list a kind; never writes."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils.awx.api import Awx
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.objects import UNIFIED, key
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.surroundings import KINDS

# What belongs to an organization, by its list.
OWNED = {
    "label": "labels",
    "credential": "credentials",
    "notification_template": "notification_templates",
    "project": "projects",
    "inventory": "inventories",
    "job_template": "job_templates",
    "workflow": "workflow_job_templates",
    "team": "teams",
}
# What all organizations share.
SHARED = {
    "credential_type": "credential_types",
    "execution_environment": "execution_environments",
    "instance_group": "instance_groups",
}
MANAGED = "managed"


def read(awx: Awx, organization: str) -> dict[str, dict[str, dict]]:
    """Read what is there.

    Args:
        awx: where to.
        organization: its name.

    Returns:
        kind to the key of each object to what AWX says of it, with what names it among those of its kind: ``workflow`` of a node,
        ``inventory`` of a source and ``unified_job_template`` of a schedule are names. Grants are not read. Under ``MANAGED`` is what
        all organizations share and AWX keeps itself, by its kind and name.

    Raises:
        Failure: AWX does not answer, or refuses.
    """
    found: dict[str, dict[str, dict]] = {kind: {} for kind in (*KINDS, MANAGED)}
    for kind, path in SHARED.items():
        for item in awx.list(f"{path}/"):
            if item.get("managed"):
                found[MANAGED][f"{kind} {item['name']}"] = item
            else:
                found[kind][item["name"]] = item
    for item in awx.list("organizations/", name=organization):
        found["organization"][item["name"]] = item
        for kind, path in OWNED.items():
            of_it = awx.list(f"{path}/", organization=item["id"])
            # AWX removes an inventory some time after it was told to.
            found[kind] = {one["name"]: one for one in of_it if not one.get("pending_deletion")}
    for inventory in found["inventory"].values():
        for one in awx.list("inventory_sources/", inventory=inventory["id"]):
            _note(found, "inventory_source", one | {"inventory": inventory["name"]})
    for workflow in found["workflow"].values():
        for one in awx.list("workflow_job_template_nodes/", workflow_job_template=workflow["id"]):
            _note(found, "node", one | {"workflow": workflow["name"]})
    _schedules(awx, found)
    return found


def _schedules(awx: Awx, found: dict[str, dict[str, dict]]) -> None:
    """Note the schedules of what was found. AWX lists those of all organizations."""
    names = {item["id"]: item["name"] for kind in UNIFIED for item in found[kind].values()}
    for one in awx.list("schedules/") if names else []:
        if one["unified_job_template"] in names:
            _note(found, "schedule", one | {"unified_job_template": names[one["unified_job_template"]]})


def _note(found: dict[str, dict[str, dict]], kind: str, item: dict) -> None:
    found[kind][key(kind, item)] = item
