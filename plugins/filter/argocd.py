"""Filters of modelyard.core for Argo CD: thin wrappers of what module_utils computes."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.module_utils import argocd


class FilterModule:
    """modelyard.core.applications, modelyard.core.repository_credentials"""

    def filters(self) -> dict:
        """Name the filters."""
        return {"applications": argocd.applications, "repository_credentials": argocd.credentials}
