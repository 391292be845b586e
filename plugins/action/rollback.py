"""Action ``modelyard.core.rollback``: see plugins/modules/rollback.py for its arguments."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import archive, delivery, releases
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused


class ActionModule(Action):
    """Read a release, as a rendering for the role apply; writes nothing."""

    untouched = "Nothing was applied."
    share = 0.1

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered = checked(options["rendered"])
        if self.cluster:
            raise Refused(
                [
                    "a release has another number on each cluster, and this run has several clusters: choose one (--limit)"
                ]
            )
        cluster = Cluster(options["connection"])
        planning.check_cluster(cluster, delivery.identity(rendered))
        damaged: list[str] = []
        records = {one["number"]: one for one in releases.listed(cluster, rendered, damaged)}
        given = str(options["release"]).strip()
        if not given.isdecimal():
            there = ", ".join(map(str, sorted(records))) or "none yet"
            said = (
                f"release={given}: is no number"
                if given
                else f"name the release to bring back: {job.given('release', 'N')}"
            )
            raise Refused([f"{said}; there are: {there} (playbooks/history.yml)", *damaged])
        number = int(given)
        items = releases.objects(cluster, rendered, number)
        record = records[number]
        self.tell(
            f"release {number}: {record['result']}, {record['time']}, by {record['by']}, commit {record['commit'][:8]}"
        )
        told = []
        if record["result"] != archive.SUCCEEDED:
            told = [f"release {number} has not succeeded ({record['result']}): what comes back may not run"]
        handed = {key: record[key] for key in ("time", "result", "by", "commit")}
        self.hand_on(rollback={"release": number, **handed})
        back = releases.rendering(rendered, items, record["components"], number)
        return {"changed": False, "rendered": back, "warnings": told}
