"""Action ``modelyard.core.upgrade``: see plugins/modules/upgrade.py for its arguments."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.places import located
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import numbered
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import upgrade
from ansible_collections.modelyard.core.plugins.plugin_utils.table import columns


class ActionModule(Action):
    """Say what another version changes; never fails by what it finds."""

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered, upgraded = checked(options["rendered"]), options["upgraded"]
        found = upgrade.changes(rendered, upgraded)
        for one in found:
            told = f"{one['server']}: vLLM {one['from'] or 'of an unknown version'} to {one['to'] or 'an unknown one'}"
            self.tell(told if one["lines"] else f"{told}, nothing is known to change")
            for line in columns(["what", "name", "change"], one["lines"]) if one["lines"] else []:
                self.tell(f"  {line}")
        problems = [located(text, upgraded["places"]) for text in upgraded["problems"]]
        servers = [
            {key: one[key] for key in ("server", "from", "to")} | {"changes": len(one["lines"])} for one in found
        ]
        lines = [f"{one['server']}: {': '.join(line)}" for one in found for line in one["lines"]]
        handed = {"starts": not problems, "servers": servers, "lines": lines, "problems": problems}
        self.hand_on(upgrade=handed)
        stopped = f"cluster {rendered['cluster']['name']}: {numbered(problems)}" if problems else ""
        return {"changed": False, "servers": found, "problems": problems, "msg": stopped}
