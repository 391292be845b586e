"""Action ``modelyard.core.awx_unread``: see plugins/modules/awx_unread.py for its arguments."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from ansible_collections.modelyard.core.plugins.plugin_utils.awx import api, updates
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure


class ActionModule(Action):
    """Fail if AWX has not read projects or sources, with why."""

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        awx = api.Awx(api.connection(options["awx"]))
        if lines := updates.unread(awx, options["objects"], options["organization"], options["timeout"]):
            raise Failure("\n".join(lines))
        return {"changed": False}
