"""Action ``modelyard.core.identity``: see plugins/modules/identity.py for its arguments."""

from __future__ import annotations

import json

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster, Unreachable
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import numbered

# boto3 is imported where it is used, as in the action aws.
DISCOVERY = "/.well-known/openid-configuration"


class ActionModule(ActionBase):
    """Follow the chain of each ServiceAccount to S3."""

    supports_check_mode = True
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Run the action; see ActionBase."""
        from ansible_collections.modelyard.core.plugins.plugin_utils.aws import account as aws_account
        from ansible_collections.modelyard.core.plugins.plugin_utils.aws import report as identity_report

        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(ARGUMENTS)
        options = json.loads(json.dumps(options))
        name = options["cluster_name"]
        try:
            if options["problems"]:
                raise planning.Refused(options["problems"])
            cluster = Cluster(options["connection"])
            planning.check_cluster(cluster, options)
            account = aws_account.Account(options["profile"], options["region"])
            live = {f"{item['namespace']}/{item['name']}": item for item in options["service_accounts"]}
            notes = dict(
                zip(live, cluster.parallel(lambda item: _annotations(cluster, item), list(live.values())), strict=True)
            )
            reporter = identity_report.Reporter(account, options, notes, _issuer(cluster))
            chains = reporter.chains()
        except planning.Refused as error:
            raise AnsibleActionFail(numbered(error.problems)) from None
        except (ApiError, Unreachable, aws_account.AwsError) as error:
            raise AnsibleActionFail(f"cluster {name}: {error}") from None
        lines = identity_report.table(chains, options["pod_identity"])
        open_ones = [chain.service_account for chain in chains if chain.broken]
        return {
            "changed": False,
            "failed": bool(open_ones) and options["strict"],
            "msg": "\n".join([f"cluster {name}, account {account.id}", "", *lines]),
            "chains": [chain.data() for chain in chains],
            "warnings": [notice for chain in chains for notice in chain.notices],
        }


def _annotations(cluster: Cluster, item: dict) -> dict | None:
    metadata = {"namespace": item["namespace"], "name": item["name"]}
    found = cluster.get({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    return None if found is None else found["metadata"].get("annotations") or {}


def _issuer(cluster: Cluster) -> str | None:
    """Ask the cluster who signs its tokens; whoever may not read it does without."""
    try:
        return cluster.request("GET", DISCOVERY)["issuer"]
    except ApiError as error:
        if error.status in (401, 403, 404):
            return None
        raise


ARGUMENTS = {
    "connection": {"type": "dict", "required": True},
    "api_server": {"type": "str", "default": ""},
    "kube_system_uid": {"type": "str", "default": ""},
    "problems": {"type": "list", "elements": "str", "default": []},
    "profile": {"type": "str", "default": ""},
    "cluster_name": {"type": "str", "required": True},
    "cluster_account_id": {"type": "str", "required": True},
    "region": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "eks_cluster_name": {"type": "str", "required": True},
    "oidc_issuer": {"type": "str", "default": ""},
    "pod_identity": {"type": "bool", "default": False},
    "service_accounts": {"type": "list", "elements": "dict", "required": True},
    "access": {"type": "dict", "required": True},
    "strict": {"type": "bool", "default": True},
}
