"""Action ``modelyard.core.aws``: see plugins/modules/aws.py for its arguments."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping

from ansible.errors import AnsibleError
from ansible_collections.modelyard.core.plugins.plugin_utils import worker
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import checks, summary
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import options as asked
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.plan import Plan
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.planner import Planner
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.writes import Interrupted, written
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import summary as closing
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs, variables
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused


class ActionModule(Action):
    """Plan a cluster's AWS side, and make it so."""

    untouched = "Nothing was changed in AWS."

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        settings = asked.of(checked(options["rendered"]))
        twins = checks.twins(options["rendered"]["cluster"], _clusters(task_vars.get("hostvars") or {}))
        if twins:
            raise Refused(twins)
        account = Account(settings["profile"], settings["region"])
        plan = Planner(account, settings).make()
        changes = [write.summary for write in plan.writes]
        for line in changes:
            self.tell_change([line])
        check = self._task.check_mode
        if not check:
            self._write(account, plan)
        counted = closing.counted(len(changes), check)
        self.tell(counted if self.cluster else f"cluster {settings['cluster_name']}: {counted}")
        for line in summary.closing(settings, account.id, changes, check, self.width):
            self.tell(line)
        handed = {"check": check, "changed": len(changes), "account": account.id, "changes": changes}
        self.hand_on(aws={**handed, "notices": plan.notices})
        return {
            "changed": bool(changes),
            "changes": changes,
            "warnings": plan.notices,
            "diff": [write.diff() for write in plan.writes],
        }

    def _write(self, account: Account, plan: Plan) -> None:
        try:
            with worker.outliving():
                written(account, plan.writes)
        except Interrupted as error:
            self.tell(str(error))
            # Ansible's own handler ends this process: nobody reads a result any more, and a long one would be waited for for ever.
            signal.raise_signal(error.signal)
            raise


def _clusters(hosts: Mapping) -> Iterator[tuple[str, dict[str, str]]]:
    """Give what tells the cluster of each host of the inventory from others."""
    brought = variables.written(specs.load({"platform"}))
    for host in hosts:
        defaults = {**brought, "platform_cluster_name": host}
        try:
            found = {
                key: str(hosts[host].get(f"platform_{key}", defaults[f"platform_{key}"])) for key in checks.IDENTITY
            }
        except AnsibleError:  # of another host's variables; its own run says so
            continue
        yield host, found
