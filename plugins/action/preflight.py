"""Action ``modelyard.core.preflight``: see plugins/modules/preflight.py for its arguments."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import quota
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, parked, summary
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import placeholders
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.places import located
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure, Refused, numbered
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import preflight

UNASKED = "the cluster was not asked: correct the inventory first"


class ActionModule(Action):
    """Say whether the servers of a host will start; never fails by what it finds."""

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered = options["rendered"]
        rows, pools = preflight.servers(rendered), preflight.pools(rendered)
        self._show(preflight.lines(rows, pools, self.width and self.width + len(self.cluster)))
        misfits = [line for part in rendered["parts"] if part["enabled"] for line in part["misfits"]]
        problems, notices = [*rendered["problems"], *misfits], []
        if options["cluster"] and rendered["problems"]:
            self.tell(UNASKED)
        elif options["cluster"]:
            problems, notices, told = _planned(options["connection"], rendered, misfits)
            for line in told:
                self.tell(line)
        elif examples := placeholders.refusal(rendered["placeholders"]):
            self.tell(f"values that are still an example's, and that a run refuses: {len(examples)} (report.notices)")
            notices = examples
        quotas, unchecked, exceeded = _quotas(rendered, task_vars) if options["quota"] else ([], [], [])
        for line in [*map(quota.line, quotas), *unchecked]:
            self.tell(line)
        problems += exceeded
        problems = [located(text, rendered["places"]) for text in problems]
        name = rendered["cluster"]["name"]
        report = {
            "cluster": name,
            "fits": not problems,
            "servers": rows,
            "pools": pools,
            "quotas": quotas,
            "problems": problems,
            "notices": [*rendered["notices"], *notices, *unchecked],
        }
        self.hand_on(preflight=_handed(report))
        stopped = f"cluster {name}: {numbered(problems)}" if problems else ""
        return {"changed": False, "report": report, "warnings": notices if options["cluster"] else [], "msg": stopped}

    def _show(self, lines: list[str]) -> None:
        """Show lines together, below the cluster's name where the run has several: before each it would take too much of them."""
        first = ["the servers"] if self.cluster else []
        self.tell("\n  ".join([*first, *lines]).replace("  \n", "\n"))


def _handed(report: Mapping) -> dict:
    """Give what is handed on of a preflight."""
    keys = ("server", "verdict", "why", "pods", "gpus", "instance_type", "nodes", "cost_per_hour")
    costs = [row["cost_per_hour"] for row in report["pools"]]
    return {
        "fits": report["fits"],
        "cost_per_hour": None if None in costs else sum(costs),
        "servers": [{key: row[key] for key in keys} for row in report["servers"]],
        "problems": report["problems"],
        "notices": report["notices"],
    }


def _planned(connection: dict, rendered: Mapping, misfits: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Make the plan that a run would make, with nothing written and no lock.

    Args:
        connection: to the cluster.
        rendered: without problems.
        misfits: what hardware profiles are too small for, unless the plan finds real nodes, which have the last word.

    Returns:
        what is wrong, what else an operator should know, and who parked what, with what that has saved.
    """
    if rendered["placeholders"]:
        return [*placeholders.refusal(rendered["placeholders"]), *misfits], [], []
    settings = delivery.options(rendered)
    try:
        cluster = Cluster(connection)
        planning.check_cluster(cluster, settings)
    except Failure as error:
        return [*(error.problems if isinstance(error, Refused) else [str(error)]), *misfits], [], []
    try:
        told = summary.parked(rendered, parked.rows(cluster, rendered))
        return [], planning.Planner(cluster, settings).make().notices, told
    except Failure as error:
        return error.problems if isinstance(error, Refused) else [str(error)], [], []


def _quotas(rendered: Mapping, task_vars: dict) -> tuple[list[dict], list[str], list[str]]:
    """Compare what this host and those in the same account need with its quotas; AWS is asked only where a pool of this host has one.

    Returns:
        the quotas, what could not be checked, and what is wrong.
    """
    if not quota.counted(preflight.pools(rendered)):
        return [], [], []
    cluster, settings = rendered["cluster"], rendered["settings"]["irsa"]
    meant = str(cluster["account_id"])
    try:
        account = Account(settings["aws_profiles"].get(meant) or settings["aws_profile"], cluster["region"])
        if meant and account.id != meant:
            text = f"the credentials lead to the account {account.id}, and platform_aws_account_id is {meant}"
            return [], [f"AWS quotas were not checked: {text}"], []
        rows, notices = quota.check(account, _sharing(rendered, task_vars))
    except AwsError as error:
        return [], [f"AWS quotas were not checked: {error}"], []
    wrong = [quota.problem(row, account) for row in rows if not row["fits"]]
    return rows, [f"AWS: {text}" for text in notices], wrong


def _sharing(rendered: Mapping, task_vars: dict) -> dict[str, list[dict]]:
    """Give the pools of all hosts of the play that share this one's account and region, by their names in EKS."""
    found: dict[str, list[dict]] = {}
    others = [task_vars["hostvars"][host].get("rendered") for host in task_vars.get("ansible_play_hosts") or []]
    for one in [rendered, *others]:
        same = one and all(one["cluster"][key] == rendered["cluster"][key] for key in ("account_id", "region"))
        if same:
            found.setdefault(one["settings"]["irsa"]["eks_cluster_name"], preflight.pools(one))
    return found
