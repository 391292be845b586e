"""Action ``modelyard.core.plan``: see plugins/modules/plan.py for its arguments."""

from __future__ import annotations

import json
import os

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster, Unreachable
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import Held, Lock
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import numbered


class ActionModule(ActionBase):
    """Work out what a run would do, take the lock, and prepare the cluster for the one apply."""

    supports_check_mode = True
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Run the action; see ActionBase."""
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(ARGUMENTS)
        name = options["cluster_name"]
        try:
            return self._run(options)
        except planning.Refused as error:
            raise AnsibleActionFail("Nothing was applied. " + numbered(error.problems)) from None
        except (ApiError, Unreachable, Held) as error:
            raise AnsibleActionFail(f"cluster {name}: {error}") from None

    def _tell(self, line: str) -> None:
        self._display.display(f"  {line}")

    def _run(self, options: dict) -> dict:
        # Rendered objects are Ansible's tagged values; the API and the YAML writer want plain ones.
        options = json.loads(json.dumps(options))
        if options["problems"]:
            raise planning.Refused(options["problems"])
        cluster = Cluster(options["connection"])
        planning.check_cluster(cluster, options)
        planner = planning.Planner(cluster, options)
        # The process that a lock belongs to is ansible-playbook, the parent of this worker.
        lock = Lock(cluster, options["lock_namespace"], options["lock_name"], os.getppid())
        seen = lock.read()
        plan = planner.make()
        prepared = False
        if (plan.changes or plan.prune or plan.release) and not self._task.check_mode:
            created = [item for item in plan.namespaces if planning.create_namespace(cluster, item)]
            if lock.acquire(seen, options["lock_wait"], self._tell) or plan.namespaces:
                plan = self._again(planner, lock)
                plan.namespaces += created
            prepared = self._prepare(cluster, lock, plan, options)
        made = [planning.Change("create", {"kind": "Namespace", "metadata": item}) for item in plan.namespaces]
        changes = [change.summary() for change in [*made, *plan.release, *plan.changes, *plan.prune]]
        for line in changes:
            self._tell(line)
        return {
            "changed": bool(plan.changes or plan.prune or plan.release) if self._task.check_mode else prepared,
            "apply": [change.item for change in plan.changes],
            "prune": [
                {key: change.item[key] for key in ("apiVersion", "kind")}
                | {"metadata": {key: change.item["metadata"].get(key) for key in ("name", "namespace", "uid")}}
                | {"cascade": change.cascade}
                for change in plan.prune
            ],
            "changes": changes,
            "missing": [item["kind"] for item in plan.missing],
            "warnings": plan.notices,
            "diff": [change.diff() for change in [*plan.release, *plan.changes, *plan.prune]],
        }

    def _again(self, planner: planning.Planner, lock: Lock) -> planning.Plan:
        try:
            return planner.make()
        except BaseException:
            lock.release()
            raise

    def _prepare(self, cluster: Cluster, lock: Lock, plan: planning.Plan, options: dict) -> bool:
        """Adopt what others hold; tells whether anything was written."""
        adopted = [change for change in plan.changes if change.takeover]
        try:
            released = [planning.remove(cluster, change.item, change.cascade) for change in plan.release]
            for change in adopted:
                planning.adopt(cluster, change, options["field_manager"], options["adopt_managers"])
            if not plan.changes and not plan.prune:
                lock.release()
        except BaseException:
            lock.release()
            raise
        return bool(adopted or plan.namespaces or any(released))


ARGUMENTS = {
    "connection": {"type": "dict", "required": True},
    "cluster_name": {"type": "str", "required": True},
    "api_server": {"type": "str", "default": ""},
    "kube_system_uid": {"type": "str", "default": ""},
    "objects": {"type": "list", "elements": "dict", "required": True},
    "components": {"type": "list", "elements": "str", "required": True},
    "problems": {"type": "list", "elements": "str", "default": []},
    "misfits": {"type": "dict", "default": {}},
    "namespaces": {"type": "list", "elements": "dict", "default": []},
    "prune": {"type": "list", "elements": "dict", "default": []},
    "release": {"type": "list", "elements": "dict", "default": []},
    "parts": {"type": "list", "elements": "str", "default": []},
    "cascade": {"type": "bool", "default": False},
    "field_manager": {"type": "str", "default": "modelyard"},
    "adopt_managers": {"type": "list", "elements": "str", "default": []},
    "force": {"type": "bool", "default": False},
    "require_apis": {"type": "bool", "default": False},
    "argocd_namespace": {"type": "str", "default": "argocd"},
    "lock_namespace": {"type": "str", "required": True},
    "lock_name": {"type": "str", "default": "modelyard"},
    "lock_wait": {"type": "int", "default": 180},
}
