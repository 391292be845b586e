"""Action ``modelyard.core.rollout``: see plugins/modules/rollout.py for its arguments."""

from __future__ import annotations

import os

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import rollout
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster, Unreachable
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import Held, Lock
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.plan import remove


class ActionModule(ActionBase):
    """Prune, wait for the rollout, free the lock, and say where everything runs."""

    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Run the action; see ActionBase."""
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(ARGUMENTS)
        lock = None
        try:
            cluster = Cluster(options["connection"])
            if options["locked"]:
                lock = Lock(cluster, options["lock_namespace"], options["lock_name"], os.getppid())
            return self._run(cluster, options, lock)
        except rollout.Failed as error:
            raise AnsibleActionFail(str(error)) from None
        except (ApiError, Unreachable, Held) as error:
            raise AnsibleActionFail(f"cluster {options['cluster_name']}: {error}") from None
        finally:
            self._release(lock)

    def _release(self, lock: Lock | None) -> None:
        try:
            if lock:
                lock.release()
        except (ApiError, Unreachable) as error:
            self._display.warning(f"the lock could not be freed ({error}); it frees itself")

    def _tell(self, line: str) -> None:
        self._display.display(f"  {line}")

    def _run(self, cluster: Cluster, options: dict, lock: Lock | None) -> dict:
        renewed = [0.0]

        def alive():
            now = rollout.time.monotonic()
            if lock and now - renewed[0] > 10:
                renewed[0] = now
                lock.renew()

        pruned = [item for item in options["prune"] if remove(cluster, item, item.get("cascade"))]
        watch = rollout.Watch(cluster, options, self._tell, alive)
        live = watch.wait(options["workloads"]) if options["wait"] else []
        return {"changed": bool(pruned), "workloads": rollout.table(cluster, live)}


ARGUMENTS = {
    "connection": {"type": "dict", "required": True},
    "cluster_name": {"type": "str", "required": True},
    "workloads": {"type": "list", "elements": "dict", "required": True},
    "prune": {"type": "list", "elements": "dict", "default": []},
    "wait": {"type": "bool", "default": True},
    "capacity_timeout": {"type": "int", "default": 900},
    "margin": {"type": "int", "default": 120},
    "locked": {"type": "bool", "default": False},
    "lock_namespace": {"type": "str", "required": True},
    "lock_name": {"type": "str", "default": "modelyard"},
}
