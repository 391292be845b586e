"""Parks a server and wakes it; never waits for its pods.

What is known of a parked server and its number of pods change in one patch, which a change by somebody else in between refuses.
So a run that is cut off leaves a server parked, with the note, or awake. What else acts on the number of pods is stopped after
that patch, and set going before the one that wakes: the note is the first to come and the last to go, and to park or wake
once more completes what was cut off.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import fields, parking
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    JSON_PATCH,
    MERGE_PATCH,
    ApiError,
    Cluster,
    describe,
    readable,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.writes import TRIES
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure

# https://keda.sh/docs/latest/concepts/scaling-deployments/#pausing-autoscaling
PAUSED = "autoscaling.keda.sh/paused-replicas"
REPLICAS = {"f:spec": {"f:replicas": {}}}


def deployment(part: Mapping) -> dict:
    """Give the Deployment of a server's part of a rendering."""
    return next(item for item in part["objects"] if item["kind"] == "Deployment")


def live_of(cluster: Cluster, part: Mapping) -> dict:
    """Read a server's Deployment.

    Raises:
        Failure: there is none.
    """
    item = deployment(part)
    live = cluster.get(item)
    if not live:
        raise Failure(f"there is no {describe(item)}: deploy the server first (playbooks/site.yml)")
    return live


def check_awake(cluster: Cluster, part: Mapping) -> None:
    """Look at a server that this run waits for: of one without pods, the rollout is complete.

    Raises:
        Failure: somebody has parked it since.
    """
    live = live_of(cluster, part)
    if not live["spec"]["replicas"]:
        note = parking.read(live)
        raise Failure(
            f"{part['name']} has no pods any more: {parking.told(note) if note else 'somebody has parked it'}"
        )


def rows(cluster: Cluster, rendered: Mapping) -> list[dict]:
    """Give the servers that are parked, of those that this credential may read, as ``summary.parked`` takes them."""
    parts = [part for part in rendered["parts"] if part["enabled"] and "needs" in part]
    found = cluster.parallel(lambda part: parking.read(readable(cluster.get, deployment(part))), parts)
    return [
        {"workload": part["name"], "parked": parking.told(note), "hours": parking.hours(note, cluster.now)}
        for part, note in zip(parts, found, strict=True)
        if note
    ]


def park(
    cluster: Cluster, part: Mapping, by: str, reason: str = "", until: str = "", dry_run: bool = False
) -> tuple[dict, bool]:
    """Scale a server to zero, and note who did, when and why, in one patch.

    Args:
        cluster: where it is.
        part: the server's part of a rendering.
        by: who parks it.
        reason: why; of one that is parked already ``""`` keeps what is noted, as for ``until``.
        until: when it is to be woken, as ``parking.read`` gives it.
        dry_run: ask the API server without writing.

    Returns:
        the Deployment as it is then, and whether anything of it changed. One that is parked already keeps ``since`` and ``replicas``.

    Raises:
        Failure: there is no such Deployment, or the API server refuses.
    """

    def noted(live: dict) -> dict | None:
        before = parking.read(live)
        annotated = bool(before) and parking.NOTE in (live["metadata"].get("annotations") or {})
        said = {"reason": reason or before.get("reason", ""), "until": until or before.get("until", "")}
        if annotated and all(before[key] == value for key, value in said.items()):
            return None
        since = before.get("since") or _now(cluster)
        replicas = live["spec"]["replicas"] or before.get("replicas", 0)
        return {"by": by, "since": since, **said, "replicas": replicas or part["needs"]["awake"]}

    live, changed = live_of(cluster, part), False
    for tries_left in reversed(range(TRIES)):
        note = noted(live)
        if note is None:
            break
        try:
            live, changed = _apply(cluster, live, note, dry_run), True
            break
        except ApiError as error:
            live = _again(cluster, part, error, tries_left)
    _hold(cluster, part, True, dry_run)
    return live, changed


def wake(cluster: Cluster, part: Mapping, dry_run: bool = False) -> tuple[dict, bool]:
    """Start a parked server, and take the note away, in one patch.

    Args:
        cluster: where it is.
        part: the server's part of a rendering.
        dry_run: ask the API server without writing.

    Returns:
        the Deployment as it is then, and whether anything of it changed. It has the autoscaler's fewest pods, or as many as before.

    Raises:
        Failure: there is no such Deployment, or the API server refuses.
    """
    live, changed = live_of(cluster, part), False
    _hold(cluster, part, False, dry_run)
    for tries_left in reversed(range(TRIES)):
        if live["spec"]["replicas"] and parking.NOTE not in (live["metadata"].get("annotations") or {}):
            break
        try:
            # Whoever wrote the note; and that of a switch that was cut off.
            gone = {parking.NOTE: None, parking.SWITCH: None}
            metadata = {"resourceVersion": live["metadata"]["resourceVersion"], "annotations": gone}
            patch = {"metadata": metadata, "spec": {"replicas": live["spec"]["replicas"] or awake(part, live)}}
            path, query = cluster.object_path(live), _query(dry_run)
            live, changed = cluster.request("PATCH", path, query, patch, MERGE_PATCH), True
            break
        except ApiError as error:
            live = _again(cluster, part, error, tries_left)
    if not dry_run:
        live = _let_go(cluster, part, live)
    return live, changed


def follow(cluster: Cluster, part: Mapping) -> None:
    """Stop what would start a parked server, as an autoscaler or a schedule that a deploy adds; set it going again where somebody has started the server.

    Args:
        cluster: where it is.
        part: a part of a rendering, of a server or not.

    Raises:
        Failure: the API server refuses.
    """
    kinds = {item["kind"] for item in part["objects"]}
    if "Deployment" in kinds and kinds & {"CronJob", "ScaledObject"}:
        live = cluster.get(deployment(part))
        noted = bool(parking.read(live)) and parking.NOTE in (live["metadata"].get("annotations") or {})
        _hold(cluster, part, noted, dry_run=False, foreign=False)


def awake(part: Mapping, live: Mapping) -> int:
    """Tell how many pods waking gives a server: the autoscaler's fewest, or those before it was parked, or the inventory's."""
    scaled = any(item["kind"] in ("HorizontalPodAutoscaler", "ScaledObject") for item in part["objects"])
    before = 0 if scaled else parking.read(live).get("replicas", 0)
    return max(1, before or part["needs"]["awake"])


def _now(cluster: Cluster) -> str:
    return (cluster.now or datetime.now(UTC)).strftime(parking.TIME)


def _apply(cluster: Cluster, live: Mapping, note: Mapping, dry_run: bool) -> dict:
    """Server-side apply the note, and no pods, to exactly the Deployment that was read: both are held, also where they were so before."""
    metadata = {key: live["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
    item = {key: live[key] for key in ("apiVersion", "kind")} | {"spec": {"replicas": 0}}
    item["metadata"] = {**metadata, "annotations": {parking.NOTE: parking.write(note)}}
    return cluster.apply(item, parking.MANAGER, force=True, dry_run=dry_run)


def _query(dry_run: bool) -> dict:
    return {"fieldManager": parking.MANAGER, **({"dryRun": "All"} if dry_run else {})}


def _again(cluster: Cluster, part: Mapping, error: ApiError, tries_left: int) -> dict:
    """Read a Deployment that somebody else has changed: its controller does so while pods come and go."""
    if error.status not in (409, 422) or not tries_left:
        raise error
    time.sleep(0.1)
    return live_of(cluster, part)


def _hold(cluster: Cluster, part: Mapping, parked: bool, dry_run: bool, foreign: bool = True) -> None:
    """Stop what would start a parked server, or set it going again: KEDA, and its schedule. (At zero a HorizontalPodAutoscaler does nothing.)

    Where ``foreign`` is false, what somebody else has stopped is left so.
    """
    waker = f"{part['name']}-wake"
    for item in part["objects"]:
        scheduled = item["kind"] == "CronJob" and item["metadata"]["name"] == waker
        if not (scheduled or item["kind"] == "ScaledObject") or not cluster.resource(item["apiVersion"], item["kind"]):
            continue
        live = cluster.get(item) or {}
        paused = (live.get("metadata", {}).get("annotations") or {}).get(PAUSED) == "0"
        held = live.get("spec", {}).get("suspend", False) if scheduled else paused
        if live and held != parked and (parked or foreign or parking.entries(live)):
            pause = {"metadata": {"annotations": {PAUSED: "0" if parked else None}}}
            patch = {"spec": {"suspend": parked}} if scheduled else pause
            cluster.request("PATCH", cluster.object_path(item), _query(dry_run), patch, MERGE_PATCH)


def _let_go(cluster: Cluster, part: Mapping, live: dict) -> dict:
    """Give the number of pods of a server that is awake back to whom it belongs, who could not change it otherwise.

    That of one that the inventory parks stays held: Argo CD would park it again.
    """
    item = deployment(part)
    wanted = item["spec"].get("replicas")
    for tries_left in reversed(range(TRIES)):
        if wanted == 0 or not parking.entries(live):
            break
        kept = [entry for entry in live["metadata"]["managedFields"] if entry["manager"] != parking.MANAGER]
        if wanted == live["spec"]["replicas"]:
            kept = [_with_replicas(entry) for entry in kept]
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
            {"op": "replace", "path": "/metadata/managedFields", "value": kept},
        ]
        try:
            query = {"fieldManager": parking.MANAGER}
            return cluster.request("PATCH", cluster.object_path(item), query, patch, JSON_PATCH)
        except ApiError as error:
            live = _again(cluster, part, error, tries_left)
    return live


def _with_replicas(entry: Mapping) -> dict:
    """Give the number of pods to whoever applied the whole Deployment: its pods' template, too."""
    whole = entry["operation"] == "Apply" and "f:template" in entry["fieldsV1"].get("f:spec", {})
    return {**entry, "fieldsV1": fields.union(entry["fieldsV1"], REPLICAS)} if whole else dict(entry)
