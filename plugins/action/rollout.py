"""Action ``modelyard.core.rollout``: see plugins/modules/rollout.py for its arguments."""

from __future__ import annotations

import os
import time

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, rollout
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster, Unreachable
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import Lock
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.writes import remove

RENEWED_EVERY = 10


class ActionModule(Action):
    """Prune, wait for the rollout, free the lock, and say where everything runs."""

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered, plan = options["rendered"], options["plan"]
        cluster, place = Cluster(options["connection"]), delivery.lock(rendered)
        lock = Lock(cluster, place["lock_namespace"], place["lock_name"], os.getppid()) if plan["changes"] else None
        try:
            pruned = [item for item in plan["prune"] if remove(cluster, item, item.get("cascade"))]
            live = self._wait(cluster, rendered, lock) if options["wait"] else []
            return {"changed": bool(pruned), "workloads": rollout.table(cluster, live)}
        finally:
            self._release(lock)

    def _wait(self, cluster: Cluster, rendered: dict, lock: Lock | None) -> list[dict]:
        settings, renewed = rendered["settings"]["apply"], [0.0]
        if not settings["wait"]:
            return []

        def alive() -> None:
            if lock and time.monotonic() - renewed[0] > RENEWED_EVERY:
                renewed[0] = time.monotonic()
                lock.renew()

        items = delivery.objects(rendered, delivery.is_gitops(rendered))
        watch = rollout.Watch(cluster, settings, self.tell, alive)
        return watch.wait([item for item in items if item["kind"] == "Deployment"])

    def _release(self, lock: Lock | None) -> None:
        try:
            if lock:
                lock.release()
        except (ApiError, Unreachable) as error:
            self._display.warning(f"the lock could not be freed ({error}); it frees itself")
