"""Action ``modelyard.core.rollout``: see plugins/modules/rollout.py for its arguments."""

from __future__ import annotations

import contextlib
import json
import os
import time

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from ansible_collections.modelyard.core.plugins.plugin_utils.argocd import handover
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, rollout
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    ApiError,
    Cluster,
    Unreachable,
    describe,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import Lock
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.writes import remove

RENEWED_EVERY = 10


class ActionModule(Action):
    """Prune, wait for the rollout, free the lock, say where everything runs, and hand over to Argo CD where that is asked for."""

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered, plan = options["rendered"], options["plan"]
        cluster, place = Cluster(options["connection"]), delivery.lock(rendered)
        # A change that the plan has made itself (a namespace, an Application that goes first) is no reason to keep the lock.
        held = plan["apply"] or plan["prune"]
        lock = Lock(cluster, place["lock_namespace"], place["lock_name"], os.getppid()) if held else None
        try:
            if options["cause"]:
                return _stopped(cluster, rendered, plan, options["cause"])
            pruned = [item for item in plan["prune"] if remove(cluster, item, item.get("cascade"))]
            live = self._wait(cluster, rendered, lock)
        finally:
            self._release(lock, plan["kinds"])
        result = {"changed": bool(pruned), "workloads": rollout.table(cluster, live)}
        hand_over = delivery.is_gitops(rendered) and rendered["settings"]["apply"]["handover"]
        return self._hand_over(cluster, rendered, result) if hand_over else result

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

    def _hand_over(self, cluster: Cluster, rendered: dict, result: dict) -> dict:
        """Wait until Argo CD has applied the objects, and let go of their fields."""
        settings = {
            "cluster_name": rendered["cluster"]["name"],
            "argocd_namespace": rendered["cluster"]["argocd_namespace"],
            "objects": delivery.objects(rendered, gitops=False),
            "field_manager": rendered["settings"]["apply"]["field_manager"],
            "timeout": rendered["settings"]["apply"]["handover_timeout"],
        }
        released, unclaimed = handover.run(cluster, settings, self.tell)
        for name in released:
            self.tell(f"hand over {name}")
        warnings = [
            f"{name}: no Application delivers it, so it stays as it is and nothing updates it" for name in unclaimed
        ]
        return {**result, "changed": result["changed"] or bool(released), "released": released, "warnings": warnings}

    def _release(self, lock: Lock | None, noted: list[dict]) -> None:
        try:
            if lock:
                lock.release(noted)
        except (ApiError, Unreachable) as error:
            self._display.warning(f"the lock could not be freed ({error}); it frees itself")


def _stopped(cluster: Cluster, rendered: dict, plan: dict, cause: str) -> dict:
    """Say what an apply had written when it stopped."""
    planner = planning.Planner(cluster, delivery.options(rendered))
    states = dict(zip(map(describe, plan["apply"]), cluster.parallel(planner.holds, plan["apply"]), strict=True))
    written = [name for name, holds in states.items() if holds]
    rest = ", ".join(name for name, holds in states.items() if not holds)
    before, brace, answer = cause.partition("{")
    with contextlib.suppress(ValueError, LookupError):
        # kubernetes.core gives the API server's answer as it came.
        cause = before + json.loads(brace + answer)["message"]
    told = f"{cause}. Written before that: {', '.join(written) or 'nothing'}. Not written: {rest or 'nothing'}"
    return {"changed": bool(written), "told": f"{told}. What is written stays, and the next run goes on from there."}
