"""Action ``modelyard.core.identity``: see plugins/modules/identity.py for its arguments."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import chain, report
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import options as asked
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.plan import check_cluster

DISCOVERY = "/.well-known/openid-configuration"


class ActionModule(Action):
    """Follow the chain of each ServiceAccount to S3."""

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered = checked(options["rendered"])
        settings = asked.of(rendered)
        cluster = Cluster(options["connection"])
        check_cluster(cluster, delivery.identity(rendered))
        account = Account(settings["profile"], settings["region"])
        live = {f"{item['namespace']}/{item['name']}": item for item in settings["service_accounts"]}
        notes = dict(
            zip(live, cluster.parallel(lambda item: _annotations(cluster, item), list(live.values())), strict=True)
        )
        reporter = report.Reporter(account, settings, notes, _issuer(cluster))
        chains = reporter.chains()
        lines = chain.table(chains, reporter.links)
        return {
            "changed": False,
            "msg": "\n".join([f"cluster {settings['cluster_name']}, account {account.id}", "", *lines]),
            **chain.outcome(chains, settings["strict"]),
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
