"""Ends the pods of a server, and waits until they are gone, before those of another one come in its place; never applies that one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import extract, parking, rollout
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    ApiError,
    Cluster,
    Unreachable,
    describe,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import identity
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.parked import PAUSED
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure

# The annotation, a JSON object: by, since, to, and replicas, which going back brings back.
NOTE = parking.SWITCH


def replaced(plan: Any) -> list[dict]:
    """Give the live Deployments whose pods a ``Plan`` replaces or removes."""
    found = [change for change in [*plan.changes, *plan.prune] if change.item["kind"] == "Deployment" and change.before]
    return [
        change.before
        for change in found
        if not change.after or change.before["spec"]["template"] != change.after["spec"]["template"]
    ]


def live_objects(planner: Any, plan: Any) -> list[dict]:
    """Give all objects that a run's components have on the cluster.

    Args:
        planner: the ``Planner`` that has made the plan.
        plan: its ``Plan``.
    """
    found = [change.before for change in [*plan.changes, *plan.prune] if change.before]
    found += planner.leftovers.mine(planner.live.values(), planner.options["components"])
    return list({identity(item): item for item in found}.values())


def scalers(objects: Iterable[dict], deployments: Iterable[dict]) -> list[dict]:
    """Give the ScaledObjects that would bring the pods of these Deployments back."""
    names = {item["metadata"]["name"] for item in deployments}
    return [
        item for item in objects if item["kind"] == "ScaledObject" and item["spec"]["scaleTargetRef"]["name"] in names
    ]


def as_it_was(live: dict, manager: str, adoptable: Iterable[str] = ()) -> dict:
    """Give a live object as it would be applied to become what it is, or was before a switch ended its pods.

    Args:
        live: the object.
        manager: our field manager.
        adoptable: patterns of those whose edits are kept.
    """
    item = extract.applied(live, manager, adoptable)
    notes = item["metadata"].get("annotations") or {}
    if note := notes.pop(NOTE, ""):
        item["spec"]["replicas"] = json.loads(note)["replicas"]
    if item["kind"] == "Deployment" and parking.read(live):
        _parked(item, live)
    return item


def stay_parked(objects: Iterable[dict], live: Iterable[dict]) -> None:
    """Let a server of another name come parked where all that it comes in place of are parked.

    Args:
        objects: what is to be applied, changed in place.
        live: what there is.
    """
    servers = {item["metadata"]["name"]: item for item in live if item["kind"] == "Deployment"}
    if not servers or not all(map(parking.read, servers.values())):
        return
    for item in objects:
        if item["kind"] == "Deployment" and item["metadata"]["name"] not in servers:
            _parked(item, next(iter(servers.values())))


def _parked(item: dict, live: Mapping) -> None:
    """Set no pods, and the note of a parked server; one that its schedule has parked has none."""
    note = (live["metadata"].get("annotations") or {}).get(parking.NOTE)
    annotations = item["metadata"].setdefault("annotations", {})
    if note or parking.SCHEDULE in annotations:
        annotations.update({parking.NOTE: note} if note else {})
        item["spec"]["replicas"] = 0


def start(objects: Iterable[dict], pods: Mapping[str, int]) -> None:
    """Set the replicas of Deployments whose pods were ended where an autoscaler has them, which lets one alone that has no pods.

    Args:
        objects: what is to be applied, changed in place.
        pods: their number, by the name of the Deployment.
    """
    for item in objects:
        if item["kind"] == "Deployment" and item["metadata"]["name"] in pods:
            item["spec"].setdefault("replicas", pods[item["metadata"]["name"]])


class Emptying:
    """Scales Deployments to zero."""

    def __init__(self, cluster: Cluster, settings: Mapping, tell: Callable, alive: Callable) -> None:
        """Hold the inputs.

        Args:
            cluster: where they are.
            settings: of the role apply: ``field_manager``, ``margin`` in seconds.
            tell: called with a line of text when something is worth knowing.
            alive: called in every round, so that the lock is renewed.
        """
        self.cluster, self.settings, self.tell, self.alive = cluster, settings, tell, alive

    def empty(self, deployments: list[dict], scaled: list[dict], note: Mapping) -> None:
        """End all pods of Deployments, and wait until none is left; where one stays, everything goes back to what it was.

        Args:
            deployments: the live ones.
            scaled: their ScaledObjects, which are paused.
            note: what is noted on each Deployment, beside its replicas.

        Raises:
            Failure: a pod stays, or the API server refuses something.
        """
        running = [item for item in deployments if item["spec"].get("replicas", 1)]
        try:
            for item in [*scaled, *running]:
                self._apply(self._stopped(item, note))
            for item in deployments:
                self.wait(item)
        except Failure:
            for item in [*deployments, *scaled]:
                before = as_it_was(item, self.settings["field_manager"])
                if item in running:
                    before["spec"]["replicas"] = item["spec"].get("replicas", 1)
                self._apply(before)
            raise

    def _apply(self, item: dict) -> None:
        self.cluster.apply(item, self.settings["field_manager"], force=True, dry_run=False)

    def _stopped(self, live: dict, note: Mapping) -> dict:
        # Applied, and not patched: so it is ours as what a run applies, and the next one takes it back without a word.
        item = extract.applied(live, self.settings["field_manager"])
        notes = item["metadata"].setdefault("annotations", {})
        if item["kind"] == "ScaledObject":
            notes[PAUSED] = "0"
            return item
        replicas = live["spec"].get("replicas", 1)
        self.tell(f"scale {describe(live)} from {replicas} to 0")
        notes[NOTE] = json.dumps({**note, "replicas": replicas}, sort_keys=True)
        item["spec"]["replicas"] = 0
        return item

    def wait(self, deployment: dict) -> None:
        """Wait until no pod is left, those included that are on their way out: until then their GPUs are taken.

        Args:
            deployment: a live one that was scaled to zero.

        Raises:
            Failure: one is still there though its time to end is over, or the API server refuses, or is away for too long.
        """
        drain = deployment["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)
        limit, started, told = drain + self.settings["margin"], time.monotonic(), ""
        answered, pause = started, 0.25
        while True:
            pods: list[dict] = []
            try:
                self.alive()
                live = self.cluster.get(deployment)
                pods = self._pods(deployment)
                if not pods and (live is None or _is_settled(live)):
                    return
                answered = time.monotonic()
            except (Unreachable, ApiError) as error:
                if (isinstance(error, ApiError) and error.status < 500) or (
                    time.monotonic() - answered > rollout.OUTAGE_SECONDS
                ):
                    raise
            names = ", ".join(pod["metadata"]["name"] for pod in pods)
            if names and names != told:
                told = names
                self.tell(f"{describe(deployment)}: waiting up to {limit} s until its pods are gone: {names}")
            if time.monotonic() - started > limit:
                raise Failure(
                    f"{describe(deployment)}: not all pods are gone {limit} s after they were told to end: {'; '.join(map(_held, pods)) or 'its controller does not act'}"
                )
            time.sleep(pause)
            pause = min(pause * 1.3, 3)

    def _pods(self, deployment: dict) -> list[dict]:
        namespace, chosen = deployment["metadata"]["namespace"], rollout.selector(deployment)
        found = self.cluster.list("v1", "Pod", namespace, chosen)
        return [pod for pod in found if pod.get("status", {}).get("phase", "Pending") in rollout.LIVING]


def _is_settled(live: dict) -> bool:
    status = live.get("status", {})
    return status.get("observedGeneration", 0) >= live["metadata"]["generation"] and not status.get("replicas", 0)


def _held(pod: dict) -> str:
    """Say of a pod that does not go what may hold it, and what to do."""
    metadata, node = pod["metadata"], pod["spec"].get("nodeName")
    if finalizers := metadata.get("finalizers"):
        return f"pod {metadata['name']} has the finalizers {', '.join(finalizers)}: find who set them"
    return (
        f"pod {metadata['name']} on {node or 'no node'}: if that node is gone for good, "
        f"kubectl -n {metadata['namespace']} delete pod {metadata['name']} --force --grace-period=0"
    )
