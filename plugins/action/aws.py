"""Action ``modelyard.core.aws``: see plugins/modules/aws.py for its arguments."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import options as asked
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.plan import written
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.planner import Planner


class ActionModule(Action):
    """Plan a cluster's AWS side, and make it so."""

    untouched = "Nothing was changed in AWS."

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        settings = asked.of(checked(options["rendered"]))
        account = Account(settings["profile"], settings["region"])
        plan = Planner(account, settings).make()
        changes = [write.summary for write in plan.writes]
        for line in changes:
            self.tell(line)
        if not self._task.check_mode:
            written(account, plan.writes)
        return {
            "changed": bool(changes),
            "changes": changes,
            "warnings": plan.notices,
            "diff": [write.diff() for write in plan.writes],
        }
