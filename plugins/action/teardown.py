"""Action ``modelyard.core.teardown``: see plugins/modules/teardown.py for its arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, owned, remains
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.change import Change
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    ApiError,
    Cluster,
    describe,
    readable,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.teardown import Teardown, cascades
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure, Refused

# Variables without which it is not known what is whose, and where. What else is wrong stops no teardown.
NEEDED = (
    *("platform_cluster_name", "platform_api_server", "platform_kube_system_uid", "platform_delivery"),
    *("platform_namespace", "platform_argocd_namespace", "platform_connection"),
)


class ActionModule(Action):
    """Remove what the project owns on one cluster, and say what stays and what still costs money."""

    untouched = "Nothing was removed."

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered, check = options["rendered"], self._task.check_mode
        name = rendered["cluster"]["name"]
        self._check(rendered, task_vars)
        cluster = Cluster(options["connection"])
        planning.check_cluster(cluster, delivery.identity(rendered))
        work = Teardown(cluster, rendered, options["claims"], options["timeout"], os.getppid())
        goes = work.look()
        leases = work.free_leases()
        place = rendered["cluster"]["namespace"]
        # What goes of its own is not in the way of its namespace.
        there, stays = (
            remains.namespace(cluster, place, name, goes) if options["namespaces"] else (None, "was not asked for")
        )
        left = self._left(work, cluster, rendered, goes)
        if there and stays:
            left.append({"what": f"Namespace {place}", "why": stays})
        doomed = there if there and not stays else None
        if check or options["confirm"] != name:
            self._foretell(goes, leases, doomed, left)
            if not check:
                asked = (
                    f"teardown_confirm is {options['confirm']!r}"
                    if options["confirm"]
                    else "teardown_confirm is not set"
                )
                raise Failure(
                    f"{self.untouched} {asked}: what stands above would be removed from {cluster.url}, with all that it serves. "
                    f"If that is meant: {job.given('teardown_confirm', name)}"
                )
            number = len(goes) + len(leases) + bool(doomed)
            foretold = f"{number} objects would be removed, and nothing was" if number else "nothing to remove"
            self.tell(foretold if self.cluster else f"cluster {name}: {foretold}")
            return self._result(bool(goes or leases or doomed), name, list(map(describe, goes)), left)
        removed = []
        if goes or work.found.blind:
            work.check_rights(goes)
        if goes:
            removed = work.remove(goes, rendered["settings"]["apply"]["lock_wait"], self.tell)
        gone, rows = work.close() if goes or leases else ([], [])
        left += rows
        if doomed:
            gone += self._remove_namespace(cluster, place, name, left)
        for text in gone:
            self.tell(f"remove {text}")
        self._say(left)
        done = [*map(describe, removed), *gone]
        self.tell(f"cluster {name}: " + (f"removed {len(done)} objects" if done else "nothing to remove"))
        return self._result(bool(done), name, done, left)

    def _check(self, rendered: Mapping, task_vars: dict) -> None:
        """Refuse several clusters at once, and variables that say nothing certain of where to look."""
        hosts = task_vars.get("ansible_play_hosts_all") or []
        if len(hosts) > 1 and not self._task.check_mode:
            raise Refused([f"a teardown is for one cluster, and the play has {len(hosts)} hosts: choose one (--limit)"])
        wrong = [line for line in rendered["problems"] if line.startswith(NEEDED) or "no such variable" in line]
        if wrong:
            raise Refused(wrong)

    def _left(self, work: Teardown, cluster: Cluster, rendered: Mapping, goes: list[dict]) -> list[dict]:
        """Say what stays, whatever happens."""
        ours = {item["metadata"]["uid"] for item in work.found.items}
        place = rendered["cluster"]["namespace"]
        services = readable(cluster.list, "v1", "Service", place, denied=[])
        rows = remains.claims(cluster, work.kept(), goes)
        rows += remains.balancers(item for item in services if item["metadata"]["uid"] not in ours)
        rows += remains.nodes(cluster, rendered)
        rows += remains.aws(rendered)
        if work.found.strangers:
            told = owned.named(work.found.strangers)
            rows.append({"what": told, "why": "under another cluster's name"})
        for kind in work.found.blind:
            why = "this credential may not list them, so whether some are there is not known"
            rows.append({"what": f"{kind['kind']} in namespace {kind['namespace']}", "why": why})
        return rows

    def _foretell(self, goes: list[dict], leases: list[str], doomed: dict | None, left: list[dict]) -> None:
        for item in goes:
            self.tell(f"would {Change('remove', item, cascade=cascades(item)).lines()[0]}")
        for namespace in leases:
            self.tell(f"would remove Lease {namespace}/modelyard")
        if doomed:
            self.tell(f"would remove Namespace {doomed['metadata']['name']}")
        self._say(left)

    def _say(self, left: list[dict]) -> None:
        for row in left:
            self.tell(f"stays: {row['what']}: {row['why']}")
        costs = [row["cost_per_hour"] for row in left if row.get("cost_per_hour")]
        if costs:
            self.tell(f"these nodes cost ${sum(costs):.2f} per hour")

    def _remove_namespace(self, cluster: Cluster, place: str, name: str, left: list[dict]) -> list[str]:
        """Remove the namespace, unless something has come into it meanwhile; gives what was removed."""
        there, stays = remains.namespace(cluster, place, name, [])
        if not there or stays:
            left += [{"what": f"Namespace {place}", "why": stays}] if there else []
            return []
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": there["metadata"]["uid"]}}
        try:
            cluster.request("DELETE", f"/api/v1/namespaces/{place}", body=options)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
        return [f"Namespace {place}"]

    def _result(self, changed: bool, name: str, removed: list[str], left: list[dict]) -> dict:
        rows = [{"cost_per_hour": None, **row} for row in left]
        cost = sum(row["cost_per_hour"] or 0 for row in rows)
        handed = {"check": self._task.check_mode, "changed": len(removed), "cost_per_hour": cost}
        self.hand_on(teardown={**handed, "removed": removed, "left": rows})
        return {"changed": changed, "report": {"cluster": name, "removed": removed, "left": rows}}
