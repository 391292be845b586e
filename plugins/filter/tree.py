"""Filter ``modelyard.core.application_folders``: where Argo CD's Applications stand in the tree."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils.files.tree import application_folders


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict:
        """Name it."""
        return {"application_folders": application_folders}
