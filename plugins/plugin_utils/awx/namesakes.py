"""What another organization has by a name that is looked up without one: the modules of awx.awx would find two, and fail; never writes."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.awx.api import Awx

# Those that a job template names, by their list.
BY_NAME_ALONE = {
    "inventory": "inventories",
    "credential": "credentials",
    "notification_template": "notification_templates",
}


def namesakes(awx: Awx, wanted: Mapping[str, list[dict]], organization: str) -> list[str]:
    """Find what is wanted and has a namesake elsewhere.

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
    for kind, path in BY_NAME_ALONE.items():
        names = {item["name"] for item in wanted[kind]}
        for item in awx.list(f"{path}/") if names else []:
            owner = item.get("summary_fields", {}).get("organization", {}).get("name")
            if item["name"] in names and owner != organization:
                whose = f"the organization {owner}" if owner else "a user"
                found.append(
                    f"{kind.replace('_', ' ')} {item['name']}: {whose} has one of that name, and the modules of awx.awx look it up "
                    "by its name alone: rename one of the two"
                )
    return found
