"""Filters of modelyard.core: thin wrappers of what plugin_utils computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.argocd import applications
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import names


def secrets(rendered: Mapping, repository: Mapping) -> list[dict]:
    """Make the Secrets that a run keeps: the only place where a credential becomes part of an object.

    Args:
        rendered: what modelyard.core.render returned.
        repository: ``argocd_apps_repository``.
    """
    settings = rendered["settings"]["argocd_apps"]
    found = applications.credentials(repository, settings["repo_url"], settings["repository_name"])["data"]
    scope = delivery.scope(rendered)
    return [
        applications.secret(item, found, scope, rendered["cluster"]["name"])
        for item in rendered["secrets"]
        if item["kept"]
    ]


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable]:
        """Name the filters."""
        return {"ecr_registry": names.ecr_registry, "secrets": secrets}
