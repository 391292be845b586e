"""Action ``modelyard.core.plan``: see plugins/modules/plan.py for its arguments."""

from __future__ import annotations

import collections
import difflib
import os

from ansible_collections.modelyard.core.plugins.plugin_utils import artifacts
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import (
    approval,
    archive,
    delivery,
    foretold,
    provenance,
    releases,
    rollout,
    twins,
    writes,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.change import Change, Plan
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster, describe
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import Held, Lock, recorded
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import identity
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import placeholders
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused


class ActionModule(Action):
    """Work out what a run would do, take the lock, and prepare the cluster for the one apply."""

    untouched = "Nothing was applied."
    share = 0.4

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
        self._hold(rendered, plan)
        prepared, record = False, 0
        differs = bool(plan.changes or plan.prune or plan.release)
        if differs:
            twins.check(task_vars)
        if differs and not self._task.check_mode:
            created = [item for item in plan.namespaces if writes.create_namespace(cluster, item)]
            # The lock is in it: what is refused from here on has written that.
            made = " ".join(f"The namespace {item['name']} was made." for item in created)
            self.untouched = f"{self.untouched} {made}".strip()
            try:
                waited = lock.acquire(seen, settings["lock_wait"], self.tell, plan.kinds)
            except Held as error:
                raise Held(f"{error} {made}".strip()) from None
            if waited or plan.namespaces:
                plan = self._again(planner, lock, rendered, created)
            record = self._begin(cluster, lock, plan, rendered, task_vars)
            prepared = self._prepare(cluster, lock, plan, rendered, record)
        elif not self._task.check_mode:
            lock.clear(seen)
        found = _changes(plan)
        # Of what comes or goes as a whole the list says enough.
        diffs = [change.diff() for change in found if change.action == "update" or self._display.verbosity]
        for change in found:
            self.tell_change(change.lines())
        if self._task.diff and not self._task.check_mode:
            self._tell_diffs(diffs)
        self.hand_on(deploy=self._deploy(found, record))
        # A switch has ended the old judge's pods by the time of its plan.
        if self._task.check_mode and not rendered.get("recovers"):
            self._hand_on_for_approval(rendered, found)
        items = delivery.deployments(rendered)
        return {
            "changed": differs if self._task.check_mode else prepared,
            "apply": [change.item for change in plan.changes],
            "prune": [
                {key: change.item[key] for key in ("apiVersion", "kind")}
                | {"metadata": {key: change.item["metadata"].get(key) for key in ("name", "namespace", "uid")}}
                | {"cascade": change.cascade}
                for change in plan.prune
            ],
            "changes": [change.summary() for change in found],
            "rows": [foretold.row(change) for change in found],
            # What is not written to need not be read again.
            "deployments": [] if found and not self._task.check_mode else rollout.known(items, planner.live),
            "kinds": plan.kinds,
            "record": record,
            "missing": [item["kind"] for item in plan.missing],
            "warnings": plan.notices,
            "diff": diffs,
            **self.unshown(),
        }

    def _deploy(self, found: list[Change], record: int) -> dict:
        """Give what is handed on of a plan."""
        counts = collections.Counter(change.action for change in found)
        return {
            "check": self._task.check_mode,
            "changed": len(found),
            "created": counts["create"],
            "updated": counts["update"],
            "pruned": counts["prune"] + counts["remove"],
            "release": record,
            "changes": [{"action": one.action, "object": describe(one.item), "what": one.told()} for one in found],
        }

    def _hold(self, rendered: dict, plan: Plan) -> None:
        """Hold a plan against what was approved. A check writes nothing, so it only tells what differs."""
        try:
            if told := approval.check(rendered, _changes(plan), self._task.check_mode):
                self.tell(told)
        except approval.Differs as error:
            if not self._task.check_mode:
                raise
            for line in error.lines:
                self.tell(line)
            plan.notices.append(approval.ANEW)

    def _hand_on_for_approval(self, rendered: dict, found: list[Change]) -> None:
        host, room = rendered["cluster"]["host"], artifacts.APPROVED_BYTES / self.clusters
        approved = approval.small(approval.of(rendered, found), room - len(host) - artifacts.FRAME)
        self.hand_on_as(artifacts.APPROVED, {host: approved})

    def _tell_diffs(self, diffs: list[dict]) -> None:
        """Show what Ansible shows of a task that changes something: outside check mode it is the next one that does."""
        for one in diffs:
            before, after = one["before"].splitlines(), one["after"].splitlines()
            for line in difflib.unified_diff(before, after, one["before_header"], one["after_header"], lineterm=""):
                self.tell(line)

    def _again(self, planner: planning.Planner, lock: Lock, rendered: dict, created: list[dict]) -> Plan:
        try:
            # What the other run applied, this one may have to prune.
            planner.options["recorded"] = recorded(lock.read())
            plan = planner.make()
            plan.namespaces += created
            approval.check(rendered, _changes(plan))
        except BaseException:
            lock.release()
            raise
        return plan

    def _begin(self, cluster: Cluster, lock: Lock, plan: Plan, rendered: dict, task_vars: dict) -> int:
        """Write the record of this release; 0 where there is nothing to change any more."""
        if not (plan.changes or plan.prune or plan.release):
            return 0
        missing = {identity(item) for item in plan.missing}
        items = delivery.objects(rendered, delivery.is_gitops(rendered))
        about = {**provenance.of(task_vars, lock.holder), "process": lock.identity}
        try:
            return releases.begin(
                cluster,
                rendered,
                about,
                [change.summary() for change in _changes(plan)],
                [item for item in items if identity(item) not in missing],
            )
        except BaseException:
            lock.release()
            raise

    def _prepare(self, cluster: Cluster, lock: Lock, plan: Plan, rendered: dict, record: int) -> bool:
        """Adopt what others hold; tells whether anything was written."""
        adopted, settings = [change for change in plan.changes if change.takeover], rendered["settings"]["apply"]
        try:
            released = [writes.remove(cluster, change.item, change.cascade) for change in plan.release]
            for change in adopted:
                writes.adopt(cluster, change, settings["field_manager"])
            if not plan.changes and not plan.prune:
                releases.finish(cluster, rendered, record, archive.SUCCEEDED)
                lock.release()
        except BaseException as error:
            releases.finish(cluster, rendered, record, archive.FAILED, str(error))
            lock.release()
            raise
        return bool(adopted or plan.namespaces or any(released))


def _changes(plan: Plan) -> list[Change]:
    """Give all that a plan does, in the order in which a run does it."""
    made = [Change("create", {"kind": "Namespace", "metadata": item}) for item in plan.namespaces]
    return [*made, *plan.release, *plan.changes, *plan.prune]
