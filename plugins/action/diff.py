"""Action ``modelyard.core.diff``: see plugins/modules/diff.py for its arguments."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils import artifacts
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import options as asked
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.planner import Planner
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, findings, parking
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.drift import Drift
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.edits import Edit
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.findings import Found
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.plan import check_cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure

RIGHTS = "docs/rbac-read.yaml has the rights"


class ActionModule(Action):
    """Compare a cluster with the inventory; never fails by what it finds."""

    untouched = "It was not compared."
    share = 0.5

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered = checked(options["rendered"])
        name = rendered["cluster"]["name"]
        report: dict = {"cluster": name, "compared": False, "objects": 0, "drift": 0, "differences": [], "beside": []}
        report |= {"parked": {}, "notices": [], "error": ""}
        found: list[Found] = []
        try:
            cluster = Cluster(options["connection"])
            check_cluster(cluster, delivery.identity(rendered))
            drift = Drift(cluster, rendered)
            found = drift.found
            report |= {"objects": drift.compared, "parked": drift.parked, "notices": drift.notices}
            report["beside"] = [one.report() for one in drift.beside]
            if drift.unread:
                report["error"] = f"this credential may not read {', '.join(drift.unread)}; {RIGHTS}"
        except Failure as error:
            report["error"] = str(error)
        if options["aws"]:
            in_aws, notices = _aws(rendered)
            found, report["notices"] = [*found, *in_aws], [*report["notices"], *notices]
        report |= {"compared": not report["error"], "drift": len(found), "differences": [one.report() for one in found]}
        report["lines"] = findings.told(found)
        for line in [*report["lines"], *_others(report)]:
            self.tell(line)
        handed = {key: report[key] for key in ("compared", "drift", "objects", "error", "lines", "notices")}
        self.hand_on(diff={**handed, "parked": list(report["parked"])})
        # Names from before there was one artifact for all.
        self.hand_on_as("diff_count", report["drift"])
        self.hand_on_as("diff_lines", {task_vars.get("inventory_hostname", name): self._lines(report["lines"])})
        closing = _closing(report)
        self.tell(closing if self.cluster else f"cluster {name}: {closing}")
        differs = bool(found) or not report["compared"]
        return {"changed": False, "report": report, "msg": f"cluster {name}: {closing}" if differs else ""}

    def _lines(self, lines: list[str]) -> list[str]:
        kept = artifacts.small({"lines": lines}, self.room)
        more = kept.get("more", {}).get("lines", 0)
        return [*kept.get("lines", []), *([f"... and {more} more"] if more else [])]


def _others(report: Mapping) -> list[str]:
    """Word what is no drift."""
    lines = [f"{name} is {parking.told(note)}" for name, note in report["parked"].items()]
    return lines + [f"note: {text}" for text in report["notices"]]


def _closing(report: Mapping) -> str:
    count = report["drift"]
    objects = f"{report['objects']} object{'s'[: report['objects'] != 1]}"
    found = f"{count} difference{'s'[: count != 1]}" if count else "no drift"
    if report["error"]:
        seen = f"; of the rest ({objects}): {found}" if report["objects"] or count else ""
        return f"not compared: {report['error']}{seen}"
    return f"{found}, {objects} compared"


def _aws(rendered: Mapping) -> tuple[list[Found], list[str]]:
    """Plan the AWS side as a run would: what it would write is what differs.

    Returns:
        what differs, and what else an operator should know.
    """
    settings = asked.of(rendered)
    if not settings["service_accounts"] and not settings["buckets"]:
        return [], []
    try:
        plan = Planner(Account(settings["profile"], settings["region"]), settings).make()
    except Failure as error:
        return [], [f"AWS was not compared: {error}"]
    account = {"kind": "AWS", "metadata": {"name": settings["account_id"]}}
    return [
        Found(account, Edit("aws", (), None, None, {}), f"AWS: a run would {write.summary}") for write in plan.writes
    ], [f"AWS: {text}" for text in plan.notices]
