"""Filters of modelyard.core for Argo CD: thin wrappers of what plugin_utils computes."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils.argocd import applications as argocd


class FilterModule:
    """modelyard.core.applications, modelyard.core.repository_credentials"""

    def filters(self) -> dict:
        """Name the filters."""
        return {"applications": argocd.applications, "repository_credentials": argocd.credentials}
