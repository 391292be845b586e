"""Action ``modelyard.core.rollout``: see plugins/modules/rollout.py for its arguments."""

from __future__ import annotations

import contextlib
import json
import os

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from ansible_collections.modelyard.core.plugins.plugin_utils.argocd import handover
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import (
    archive,
    delivery,
    foretold,
    kinds,
    parked,
    releases,
    rollback,
    rollout,
    summary,
    syncing,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    ApiError,
    Cluster,
    Unreachable,
    describe,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.examination import Examiner
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import Held, Lock
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.writes import remove
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure


class ActionModule(Action):
    """Prune, wait for the rollout, free the lock, say where everything runs, and hand over to Argo CD where that is asked for."""

    share = 0.3

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered, plan, check = options["rendered"], options["plan"], self._task.check_mode
        cluster, place = Cluster(options["connection"]), delivery.lock(rendered)
        # A change that the plan has made itself (a namespace, an Application that goes first) is no reason to keep the lock.
        held = (plan["apply"] or plan["prune"]) and not check
        lock = Lock(cluster, place["lock_namespace"], place["lock_name"], os.getppid()) if held else None
        record, noted = plan["record"] if held else 0, plan["kinds"]
        try:
            if options["cause"]:
                result, noted = self._stopped(cluster, rendered, plan, lock, _message(options["cause"]))
                return result
            pruned = [] if check else [item for item in plan["prune"] if remove(cluster, item, item.get("cascade"))]
            if held and not delivery.is_gitops(rendered):
                for part in rendered["parts"]:
                    parked.follow(cluster, part)
            live = plan["deployments"] or self._live(cluster, rendered, lock)
            self._finish(cluster, rendered, record, archive.SUCCEEDED)
        except (Held, Unreachable):
            # Another run's business, or nobody's for now: the record is that of an interrupted run.
            raise
        except Failure as error:
            after, noted = self._fail(cluster, rendered, plan, lock, str(error))
            raise Failure("\n".join(filter(None, (str(error), after)))) from None
        finally:
            self._release(lock, noted)
        result = {"changed": bool(pruned), "workloads": rollout.table(cluster, live)}
        if delivery.is_gitops(rendered):
            result["applications"] = _applications(cluster, rendered)
            if rendered["settings"]["apply"]["handover"] and not check:
                result = self._hand_over(cluster, rendered, result)
        self._close(rendered, plan, result, options["connection"])
        self.hand_on(deploy=_handed(result))
        return result

    def _stopped(
        self, cluster: Cluster, rendered: dict, plan: dict, lock: Lock | None, told: str
    ) -> tuple[dict, list[dict]]:
        """Say of an apply that has stopped what came of it; gives the task's result, and the kinds that this run has applied."""
        written, after, noted = [], "", plan["kinds"]
        try:
            written, listed = _written(cluster, rendered, plan)
            told = f"{told}. {listed}"
            after, noted = self._fail(cluster, rendered, plan, lock, told)
        except Failure as error:
            # Where the cluster is gone by now, what stopped the apply is what matters.
            told = f"{told}. What came of it can't be told: {error}"
        after = after or "What is written stays, and the next run goes on from there."
        return {"changed": bool(written), "told": f"{told}. {after}"}, noted

    def _finish(self, cluster: Cluster, rendered: dict, record: int, result: str, reason: str = "") -> None:
        if problem := releases.finish(cluster, rendered, record, result, reason):
            self._display.warning(f"{self.cluster}{problem}")

    def _fail(self, cluster: Cluster, rendered: dict, plan: dict, lock: Lock | None, reason: str) -> tuple[str, list]:
        """Note the failure, and bring back the last release where that is asked for.

        Returns:
            what more there is to tell, and the kinds that this run has applied.
        """
        record, kept = plan["record"] if lock else 0, plan["kinds"]
        self._finish(cluster, rendered, record, archive.FAILED, reason)
        if rendered.get("recovers"):  # its caller does, in its own way
            return "", kept
        if not record or not rendered["settings"]["apply"]["rollback_on_failure"]:
            return rollback.advice(cluster, rendered, record), kept
        done, told, made = rollback.bring_back(cluster, rendered, record, lock, self.tell)
        self._finish(cluster, rendered, record, archive.ROLLED_BACK if done else archive.FAILED, f"{reason}\n{told}")
        return told, kinds.union(kept, made)

    def _close(self, rendered: dict, plan: dict, result: dict, connection: dict) -> None:
        counted = summary.counted(len(plan["changes"]), self._task.check_mode)
        rows = result.get("applications", result["workloads"])
        self.tell(counted if self.cluster else f"cluster {rendered['cluster']['name']}: {counted}")
        changes = foretold.lines(plan["rows"], self.width) if self._task.check_mode else []
        # What runs is what ran before, and the two tables are told apart.
        for line in [*changes, "", "what runs now:"] if changes and rows else changes:
            if line or not self.cluster:
                self.tell(line)
        for line in summary.closing(rendered, rows, connection, self.width):
            if line or not self.cluster:
                self.tell(line)
        for line in [] if self._task.check_mode else rollback.closing(rendered):
            self.tell(line)

    def _live(self, cluster: Cluster, rendered: dict, lock: Lock | None) -> list[dict]:
        """Give the Deployments when they are rolled out; without a wait as they are, or, where there is none yet, as they are to be."""
        settings, items = rendered["settings"]["apply"], delivery.deployments(rendered)
        watch = rollout.Watch(cluster, settings, self.tell, lock.alive if lock else lambda: None)
        if settings["wait"] and not self._task.check_mode:
            return watch.wait(items)
        return [live or item for live, item in zip(watch.read(items), items, strict=True)]

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
            self._display.warning(f"{self.cluster}the lock could not be freed ({error}); it frees itself")


def _handed(result: dict) -> dict:
    """Give what is handed on of where everything runs."""
    found: dict = {"workloads": rollout.handed(result["workloads"])}
    if "applications" in result:
        found["applications"] = result["applications"]
    if "released" in result:
        found["handed_over"] = len(result["released"])
    return found


def _applications(cluster: Cluster, rendered: dict) -> list[dict]:
    """Say what Argo CD says of each Application that this run wants, those of an ApplicationSet among them."""
    items = delivery.objects(rendered, gitops=True)
    places = [item["metadata"] for item in items if item["kind"] == "Application"]
    places += [{"namespace": place, "name": name} for item in items for _, _, place, name in syncing.generated(item)]
    wanted = [{"apiVersion": syncing.ARGOCD, "kind": "Application", "metadata": place} for place in places]
    rows = []
    for item, live in zip(wanted, cluster.parallel(cluster.get, wanted), strict=True):
        status = (live or {}).get("status") or {}
        sync = status.get("sync") or {}
        rows.append(
            {
                "application": item["metadata"]["name"],
                "sync": sync.get("status") or ("not looked at yet" if live else "-"),
                "health": (status.get("health") or {}).get("status") or "-",
                "revision": (sync.get("revision") or "-")[:12],
            }
        )
    return rows


def _message(cause: str) -> str:
    """Give why an apply stopped; kubernetes.core gives the API server's answer as it came."""
    before, brace, answer = cause.partition("{")
    with contextlib.suppress(ValueError, LookupError):
        return before + json.loads(brace + answer)["message"]
    return cause


def _written(cluster: Cluster, rendered: dict, plan: dict) -> tuple[list[str], str]:
    """Say what an apply had written when it stopped: the objects, and all in words."""
    examiner = Examiner(cluster, delivery.options(rendered))
    states = dict(zip(map(describe, plan["apply"]), cluster.parallel(examiner.holds, plan["apply"]), strict=True))
    written = [name for name, holds in states.items() if holds]
    rest = ", ".join(name for name, holds in states.items() if not holds)
    return written, f"Written before that: {', '.join(written) or 'nothing'}. Not written: {rest or 'nothing'}"
