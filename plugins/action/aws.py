"""Action ``modelyard.core.aws``: see plugins/modules/aws.py for its arguments."""

from __future__ import annotations

import json

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import numbered

# boto3 is imported where it is used: the plays that never ask AWS must not wait for it.


class ActionModule(ActionBase):
    """Plan a cluster's AWS side, and make it so."""

    supports_check_mode = True
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Run the action; see ActionBase."""
        from ansible_collections.modelyard.core.plugins.plugin_utils.aws import account as aws_account

        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(ARGUMENTS)
        # Ansible's tagged values are not what boto3 takes.
        options = json.loads(json.dumps(options))
        try:
            return self._run(aws_account, options)
        except aws_account.Refused as error:
            raise AnsibleActionFail("Nothing was changed in AWS. " + numbered(error.problems)) from None
        except aws_account.AwsError as error:
            raise AnsibleActionFail(f"cluster {options['cluster_name']}: {error}") from None

    def _run(self, aws_account, options: dict) -> dict:
        if options["problems"]:
            raise aws_account.Refused(options["problems"])
        account = aws_account.Account(options["profile"], options["region"])
        plan = aws_account.Planner(account, options).make()
        changes = [write.summary for write in plan.writes]
        for line in changes:
            self._display.display(f"  {line}")
        if not self._task.check_mode:
            aws_account.written(account, plan.writes)
        return {
            "changed": bool(changes),
            "changes": changes,
            "warnings": plan.notices,
            "diff": [write.diff() for write in plan.writes],
        }


ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "problems": {"type": "list", "elements": "str", "default": []},
    "profile": {"type": "str", "default": ""},
    "cluster_name": {"type": "str", "required": True},
    "cluster_account_id": {"type": "str", "required": True},
    "account_id": {"type": "str", "required": True},
    "partition": {"type": "str", "default": "aws"},
    "region": {"type": "str", "required": True},
    "api_server": {"type": "str", "default": ""},
    "namespace": {"type": "str", "required": True},
    "eks_cluster_name": {"type": "str", "required": True},
    "oidc_issuer": {"type": "str", "default": ""},
    "pod_identity": {"type": "bool", "default": False},
    "service_accounts": {"type": "list", "elements": "dict", "required": True},
    "role_arns": {"type": "list", "elements": "str", "default": []},
    "access": {"type": "dict", "required": True},
    "buckets": {"type": "dict", "default": {}},
    "permissions_boundary": {"type": "str", "default": ""},
    "max_session_seconds": {"type": "int", "default": 3600},
    "tags": {"type": "dict", "default": {}},
    "adopt": {"type": "list", "elements": "str", "default": []},
}
