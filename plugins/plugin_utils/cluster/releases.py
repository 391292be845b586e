"""Keeps a record on the cluster of each run that changes something; never one of a Secret.

A record is a ConfigMap beside the lock: what people read as ``data``, and all objects of the run, compressed, in as many further
ConfigMaps as they take. It is written before the run's first change, and finished after its rollout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import archive, delivery, hiding, kinds, parking
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    MERGE_PATCH,
    ApiError,
    Cluster,
    describe,
    readable,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import PROCESS, Lock
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import (
    CLUSTER,
    COMPONENT,
    MANAGED_BY,
    PROJECT,
    RELEASE,
    identity,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure, Refused

TRIES = 20
HISTORY = "playbooks/history.yml lists them"
# Numbers and ConfigMaps, newest first.
Stored = list[tuple[int, dict]]


def begin(cluster: Cluster, rendered: Mapping, about: Mapping, changes: list[str], objects: list[dict]) -> int:
    """Write the record of a run that is about to change something, and delete those that are too many.

    Args:
        cluster: where; the run holds its lock.
        rendered: the structure of ``servers.render``.
        about: what ``provenance.of`` gives, and ``process``, which identifies the run as its lock does.
        changes: what the plan says, a line each.
        objects: all objects of the run's components, as they are applied.

    Returns:
        the record's number.

    Raises:
        Refused: it can't be written.
    """
    packed = archive.pack(objects)
    record = {
        **about,
        "versions": {**about["versions"], "images": archive.images(objects)},
        "delivery": rendered["cluster"]["delivery"],
        "components": delivery.options(rendered)["components"],
        "rollback_to": rendered.get("rollback_to"),
        "changes": changes,
        "result": archive.RUNNING,
    }
    number = 0
    try:
        for _ in range(TRIES):
            stored = _stored(cluster, rendered)
            # A name that was taken may be no record's, or one's that has lost its labels: then the list lacks it.
            number = max([number, *(one for one, _ in stored)]) + 1
            data = archive.written({**record, "number": number, "time": now(cluster)}, packed)
            if _create(cluster, rendered, number, data, archive.chunks(packed)):
                _close_others(cluster, rendered, stored)
                _delete_old(cluster, rendered, number, stored)
                return number
    except ApiError as error:
        problem = f"the record of this release can't be written to namespace {delivery.scope(rendered)}: {error}"
        raise Refused([problem]) from None
    raise Refused(["the record of this release can't be written: others take each number first"])


def finish(cluster: Cluster, rendered: Mapping, number: int, result: str, reason: str = "") -> str:
    """Write into a record how its run has ended.

    Args:
        cluster: where.
        rendered: the structure of ``servers.render``.
        number: of the record; 0 for a run without one.
        result: one of ``archive.RESULTS``.
        reason: why, for one that failed.

    Returns:
        what stood against it, or ``""``: a run does not fail by that.
    """
    path = f"{_path(rendered)}/{archive.name_of(number)}"
    try:
        if number:
            data = archive.ended(cluster.request("GET", path)["data"], result, now(cluster), reason)
            cluster.request("PATCH", path, {"fieldManager": PROJECT}, {"data": data}, MERGE_PATCH)
    except (Failure, LookupError) as error:
        return f"the record of release {number} could not be finished ({error}): it is shown as {archive.INTERRUPTED}"
    return ""


def listed(cluster: Cluster, rendered: Mapping, damaged: list[str] | None = None) -> list[dict]:
    """Give the records of a cluster; writes nothing.

    Args:
        cluster: where.
        rendered: the structure of ``servers.render``.
        damaged: takes a line for each record that can't be read, and is left out.

    Returns:
        newest first: ``number``, ``time``, ``ended``, ``by``, ``inventory``, ``commit``, ``clean`` (yes, no, unknown), ``versions`` (with
        ``images``, a list), ``changes`` (lines), ``result`` (of ``archive.RESULTS``; a run that is gone is interrupted), ``reason``,
        ``rollback_to`` (0 for none), ``delivery``, ``components`` and ``process``.
    """
    damaged = [] if damaged is None else damaged
    records = [record for record, _ in _read(_own(cluster, rendered, damaged), damaged)]
    unfinished = [record for record in records if record["result"] == archive.RUNNING]
    alive = _running(cluster, rendered) if unfinished else ""
    for record in unfinished:
        if record["process"] != alive:
            record["result"] = archive.INTERRUPTED
    return records


def objects(cluster: Cluster, rendered: Mapping, number: int) -> list[dict]:
    """Give the objects of a record, with what was hidden in them filled in from the inventory and the cluster as they are now.

    Raises:
        Refused: there is no such record of this cluster and its delivery, it is damaged, or what was hidden is not known any more.
    """
    damaged: list[str] = []
    found = _read(_own(cluster, rendered, damaged), damaged)
    record, packed = next((pair for pair in found if pair[0]["number"] == number), (None, b""))
    if not record:
        raise Refused([_missing(cluster, rendered, number, [one["number"] for one, _ in found], damaged)])
    if record["delivery"] != rendered["cluster"]["delivery"]:
        raise Refused([_other_delivery(number, record["delivery"], rendered)])
    wanted = {identity(item): item for item in delivery.objects(rendered, delivery.is_gitops(rendered))}
    result, lost = [], []
    for item in archive.unpack(packed):
        if hiding.MARK not in json.dumps(item):
            result.append(item)
            continue
        try:
            live = cluster.get(item) if cluster.resource(item["apiVersion"], item["kind"]) else None
            result.append(hiding.fill(item, wanted.get(identity(item)), live))
        except hiding.Lost as error:
            lost.append(
                f"release {number}: {describe(item)} had a credential in {str(error)[:80]!r}, which no record keeps, and neither "
                "the inventory nor the cluster has it now: set it in the inventory, and run playbooks/site.yml"
            )
    if lost:
        raise Refused(lost)
    return result


def rendering(rendered: Mapping, objects: Iterable[Mapping], components: Iterable[str] = (), number: int = 0) -> dict:
    """Give a rendering that brings objects back: what the role apply takes in the place of the inventory's.

    Volume claims are neither applied nor pruned: they stay as they are.

    Args:
        rendered: the structure of ``servers.render``, without problems.
        objects: of a release.
        components: those of which everything else is pruned; by default those of the objects.
        number: of that release, if it is one of a record.
    """
    items = [dict(item) for item in objects if identity(item)[:2] not in kinds.LEFT]
    names = list(components) or sorted({item["metadata"]["labels"][COMPONENT] for item in items})
    nothing = {"misfits": [], "holds": {}, "questions": [], "objects": []}
    back = [
        {**nothing, "component": name, "enabled": True, "name": name, "account": None}
        | {"objects": [item for item in items if item["metadata"]["labels"][COMPONENT] == name]}
        for name in names
    ]
    return {
        **rendered,
        "roles": [name.replace("-", "_") for name in names],
        "parts": [*({**part, **nothing} for part in rendered["parts"]), *back],
        # What the inventory's examples left to be set is not what comes back.
        "placeholders": [],
        "settings": {**rendered["settings"], "apply": {**rendered["settings"]["apply"], "handover": False}},
        "rollback_to": number,
    }


def last_succeeded(records: Iterable[Mapping], component: str, before: int) -> int:
    """Give the number of the newest succeeded release of a component before another one; 0 for none.

    Args:
        records: of :func:`listed`.
        component: which must be one of its.
        before: a number.
    """
    found = (one for one in records if one["number"] < before and component in one["components"])
    return next((one["number"] for one in found if one["result"] == archive.SUCCEEDED), 0)


def now(cluster: Cluster) -> str:
    """Give the time by the API server's clock, as RFC 3339 in UTC with whole seconds."""
    return (cluster.now or datetime.now(UTC)).strftime(parking.TIME)


def _path(rendered: Mapping) -> str:
    return f"/api/v1/namespaces/{delivery.scope(rendered)}/configmaps"


def _stored(cluster: Cluster, rendered: Mapping) -> Stored:
    """List the ConfigMaps of records, of all clusters."""
    items = cluster.list("v1", "ConfigMap", delivery.scope(rendered), f"{MANAGED_BY}={PROJECT},{COMPONENT}={RELEASE}")
    found = [(match, item) for item in items if (match := archive.FORM.fullmatch(item["metadata"]["name"]))]
    return sorted(((int(match[1]), item) for match, item in found), key=lambda pair: -pair[0])


def _of(stored: Stored, name: str) -> Stored:
    return [(number, item) for number, item in stored if item["metadata"]["labels"].get(CLUSTER) == name]


def _own(cluster: Cluster, rendered: Mapping, damaged: list[str]) -> Stored:
    """List those of one cluster, and tell of those that have lost their cluster's name."""
    stored = _stored(cluster, rendered)
    for number, item in stored:
        if item["metadata"]["name"] == archive.name_of(number) and CLUSTER not in item["metadata"]["labels"]:
            damaged.append(_damaged(number, f"its label {CLUSTER} is gone"))
    return _of(stored, rendered["cluster"]["name"])


def _damaged(number: int, why: object) -> str:
    return f"release {number} (ConfigMap {archive.name_of(number)}) is damaged, and left out: {why}"


def _read(stored: Stored, damaged: list[str]) -> list[tuple[dict, bytes]]:
    """Read records, each with its packed objects."""
    parts = {item["metadata"]["name"]: (item.get("binaryData") or {}).get(archive.OBJECTS, "") for _, item in stored}
    found = []
    for number, item in stored:
        if item["metadata"]["name"] == archive.name_of(number):
            try:
                found.append(archive.read(number, item.get("data") or {}, parts))
            except archive.Damaged as error:
                damaged.append(_damaged(number, error))
    return found


def _create(cluster: Cluster, rendered: Mapping, number: int, data: Mapping, chunks: list[str]) -> bool:
    """Write a record, its head last: without that it is none. ``False`` where another run has taken the number."""
    labels = {MANAGED_BY: PROJECT, COMPONENT: RELEASE, CLUSTER: rendered["cluster"]["name"]}
    for part in range(len(chunks), 0, -1):
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": archive.name_of(number, part), "labels": labels},
            "data": dict(data) if part == 1 else {},
            "binaryData": {archive.OBJECTS: chunks[part - 1]},
        }
        try:
            cluster.request("POST", _path(rendered), {"fieldManager": PROJECT}, body)
        except ApiError as error:
            if error.status != 409:
                raise
            return False
    return True


def _close_others(cluster: Cluster, rendered: Mapping, stored: Stored) -> None:
    """Say of runs that never ended that they were interrupted: they no longer hold the lock, which this one has."""
    for record, _ in _read(stored, []):
        if record["result"] == archive.RUNNING:
            finish(cluster, rendered, record["number"], archive.INTERRUPTED)


def _delete_old(cluster: Cluster, rendered: Mapping, newest: int, stored: Stored) -> None:
    """Delete what is more than ``apply_releases``, and never the last release of a component that succeeded."""
    mine = _of(stored, rendered["cluster"]["name"])
    heads = [number for number, item in mine if item["metadata"]["name"] == archive.name_of(number)]
    kept, succeeded = {newest, *heads[: rendered["settings"]["apply"]["releases"] - 1]}, set()
    for record, _ in _read(mine, []):
        if record["result"] == archive.SUCCEEDED and not set(record["components"]) <= succeeded:
            succeeded |= set(record["components"])
            kept.add(record["number"])
    for number, item in mine:
        if number not in kept:
            try:
                cluster.request("DELETE", f"{_path(rendered)}/{item['metadata']['name']}")
            except ApiError as error:
                if error.status != 404:
                    raise


def _running(cluster: Cluster, rendered: Mapping) -> str:
    """Identify the process that holds the lock; ``""`` for none."""
    place = delivery.lock(rendered)
    lock = Lock(cluster, place["lock_namespace"], place["lock_name"], os.getppid())
    lease = lock.read()
    return lease["metadata"]["annotations"][PROCESS] if lease and lock.holder_of(lease) else ""


def _missing(cluster: Cluster, rendered: Mapping, number: int, numbers: list[int], damaged: list[str]) -> str:
    """Say that there is no such release to go back to, and which there are."""
    name = rendered["cluster"]["name"]
    there = f"there are {', '.join(map(str, sorted(numbers)))} ({HISTORY})" if numbers else "there is none yet"
    if line := next((text for text in damaged if text.startswith(f"release {number} ")), ""):
        return f"{line}; {there}"
    for key in ("namespace", "argocd_namespace"):
        place = {"namespace": rendered["cluster"][key], "name": archive.name_of(number)}
        live = readable(cluster.get, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": place}) or {"metadata": {}}
        labels = live["metadata"].get("labels") or {}
        if labels.get(COMPONENT) == RELEASE and labels.get(CLUSTER) != name:
            return f"release {number} is of the cluster {labels.get(CLUSTER)}, not of {name}; of {name} {there}"
        if labels.get(COMPONENT) == RELEASE:
            return f"{_other_delivery(number, (live.get('data') or {}).get('delivery', ''), rendered)}; {there}"
    return f"there is no release {number} of {name}; {there}"


def _other_delivery(number: int, then: str, rendered: Mapping) -> str:
    return (
        f"release {number} was delivered otherwise (platform_delivery: {then}) than this cluster is now "
        f"({rendered['cluster']['delivery']}): go back to that way first, with playbooks/handover.yml"
    )
