"""Action ``modelyard.core.identity``: see plugins/modules/identity.py for its arguments."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import chain, report
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import options as asked
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.observed import observe
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.plan import check_cluster


class ActionModule(Action):
    """Follow the chain of each ServiceAccount to S3."""

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered = checked(options["rendered"])
        settings = asked.of(rendered)
        cluster = Cluster(options["connection"])
        check_cluster(cluster, delivery.identity(rendered))
        account = Account(settings["profile"], settings["region"])
        seen = observe(cluster, settings["service_accounts"], settings["pod_identity"])
        reporter = report.Reporter(account, settings, seen.accounts, seen.issuer, seen)
        chains = reporter.chains()
        lines = chain.table(chains, reporter.links)
        rows = [one.data() | {"state": one.state} for one in chains]
        keys = ("service_account", "role", "state", "reason")
        counts = {state: sum(row["state"] == state for row in rows) for state in ("closed", "open", "unknown")}
        handed = {"account": account.id, **counts, "chains": [{key: row[key] for key in keys} for row in rows]}
        self.hand_on(identity=handed)
        return {
            "changed": False,
            "msg": "\n".join(
                [f"cluster {settings['cluster_name']}, account {account.id}", "", *lines, "", chain.NOT_JUDGED]
            ),
            **chain.outcome(chains, settings["strict"]),
        }
