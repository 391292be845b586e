"""Action ``modelyard.core.awx_unread``: see plugins/modules/awx_unread.py for its arguments."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from ansible_collections.modelyard.core.plugins.plugin_utils.awx import api, updates
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure


class ActionModule(Action):
    """Fail, with why AWX could not read projects or sources."""

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        awx = api.Awx(api.connection(options["awx"]))
        raise Failure("\n".join(self._told(awx, one, options["organization"]) for one in options["objects"]))

    def _told(self, awx: api.Awx, one: dict, organization: str) -> str:
        name = one["name"]
        if one.get("inventory"):
            of = {"inventory__name": one["inventory"], "inventory__organization__name": organization}
            reason = updates.why(awx, "inventory_sources/", name=name, **of)
            what = f"has not read the source {name} of the inventory {one['inventory']} (awx_inventories)"
        else:
            reason = updates.why(awx, "projects/", name=name, organization__name=organization)
            what = f"has not fetched the project {name} (awx_projects)"
        return f"AWX {what}: {reason}"
