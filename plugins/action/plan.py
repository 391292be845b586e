"""Action ``modelyard.core.plan``: see plugins/modules/plan.py for its arguments."""

from __future__ import annotations

import difflib
import os

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, writes
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import Lock, recorded
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import placeholders
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused


class ActionModule(Action):
    """Work out what a run would do, take the lock, and prepare the cluster for the one apply."""

    untouched = "Nothing was applied."

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered = checked(options["rendered"])
        if rendered["placeholders"]:
            raise Refused(placeholders.refusal(rendered["placeholders"]))
        settings = delivery.options(rendered)
        cluster = Cluster(options["connection"])
        planning.check_cluster(cluster, settings)
        # The process that a lock belongs to is ansible-playbook, the parent of this worker.
        lock = Lock(cluster, settings["lock_namespace"], settings["lock_name"], os.getppid())
        seen = lock.read()
        planner = planning.Planner(cluster, {**settings, "recorded": recorded(seen)})
        plan = planner.make()
        prepared = False
        if (plan.changes or plan.prune or plan.release) and not self._task.check_mode:
            created = [item for item in plan.namespaces if writes.create_namespace(cluster, item)]
            if lock.acquire(seen, settings["lock_wait"], self.tell, plan.kinds) or plan.namespaces:
                plan = self._again(planner, lock)
                plan.namespaces += created
            prepared = self._prepare(cluster, lock, plan, settings)
        elif not self._task.check_mode:
            lock.clear(seen)
        made = [planning.Change("create", {"kind": "Namespace", "metadata": item}) for item in plan.namespaces]
        found = [*made, *plan.release, *plan.changes, *plan.prune]
        # Of what comes or goes as a whole the list says enough.
        diffs = [change.diff() for change in found if change.action == "update" or self._display.verbosity]
        for change in found:
            self.tell_change(change.lines())
        if self._task.diff and not self._task.check_mode:
            self._tell_diffs(diffs)
        return {
            "changed": bool(plan.changes or plan.prune or plan.release) if self._task.check_mode else prepared,
            "apply": [change.item for change in plan.changes],
            "prune": [
                {key: change.item[key] for key in ("apiVersion", "kind")}
                | {"metadata": {key: change.item["metadata"].get(key) for key in ("name", "namespace", "uid")}}
                | {"cascade": change.cascade}
                for change in plan.prune
            ],
            "changes": [change.summary() for change in found],
            "kinds": plan.kinds,
            "missing": [item["kind"] for item in plan.missing],
            "warnings": plan.notices,
            "diff": diffs,
        }

    def _tell_diffs(self, diffs: list[dict]) -> None:
        """Show what Ansible shows of a task that changes something: outside check mode it is the next one that does."""
        for one in diffs:
            before, after = one["before"].splitlines(), one["after"].splitlines()
            for line in difflib.unified_diff(before, after, one["before_header"], one["after_header"], lineterm=""):
                self.tell(line)

    def _again(self, planner: planning.Planner, lock: Lock) -> planning.Plan:
        try:
            # What the other run applied, this one may have to prune.
            planner.options["recorded"] = recorded(lock.read())
            return planner.make()
        except BaseException:
            lock.release()
            raise

    def _prepare(self, cluster: Cluster, lock: Lock, plan: planning.Plan, settings: dict) -> bool:
        """Adopt what others hold; tells whether anything was written."""
        adopted = [change for change in plan.changes if change.takeover]
        try:
            released = [writes.remove(cluster, change.item, change.cascade) for change in plan.release]
            for change in adopted:
                writes.adopt(cluster, change, settings["field_manager"])
            if not plan.changes and not plan.prune:
                lock.release()
        except BaseException:
            lock.release()
            raise
        return bool(adopted or plan.namespaces or any(released))
