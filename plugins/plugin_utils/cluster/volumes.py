"""Explains what keeps a pod from its volumes: a claim that is not bound, a volume that is not mounted; never writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster

# A fault must last this long, in seconds, before it counts. What is named may be on its way; a provisioner, and the driver of a
# node that has just joined, may do it at the second try; one that never answers is told from one that takes its time by its events.
ABSENT_SECONDS = 15
UNBOUND_SECONDS = 60
UNANSWERED_SECONDS = 120
UNMOUNTED_SECONDS = 120
# The attach-detach controller takes a volume from a node that does not answer after six minutes.
DETACHED_SECONDS = 420
# Provisioners whose request goes on ask again. Of external-provisioner: controller.go, checkError.
GOES_ON = re.compile(r"code = (Canceled|DeadlineExceeded|Unavailable|Aborted)\b")
UNBOUND = ("ProvisioningFailed", "FailedBinding", "VolumeMismatch")
# What the scheduler says of a node that only the pod's volumes keep it from: VolumeBinding and VolumeZone come after resources.
UNREACHABLE = re.compile(
    r"PersistentVolume's node affinity|volume node affinity conflict|no available volume zone"
    r"|find available persistent volumes to bind|bound to non-existent p"
)
NODE_COMES = ("TriggeredScaleUp", "Nominated")
NOT_MOUNTED = ("FailedMount", "FailedMapVolume", "FailedAttachVolume")
MISSING = re.compile(r"(secret|configmap) .*not found|references non-existent")
HELD = re.compile(r"already (exclusively attached|used by)")
# A pod's images are pulled when its volumes are mounted.
MOUNTED = ("Pulling", "Pulled", "Created", "Started")


class Fault(NamedTuple):
    """What keeps a pod from its volumes.

    Attributes:
        text: for people.
        patience: seconds that it may last.
    """

    text: str
    patience: int


def events(cluster: Cluster, namespace: str, kind: str, name: str) -> list[dict]:
    """Give the events of an object, the latest last."""
    found = cluster.list(
        "v1", "Event", namespace, fieldSelector=f"involvedObject.name={name},involvedObject.kind={kind}"
    )
    return sorted(found, key=_when)


def _when(event: Mapping) -> str:
    last = (event.get("series") or {}).get("lastObservedTime")
    # Times of both kinds differ in their fractions of a second alone.
    return (last or event.get("lastTimestamp") or event.get("eventTime") or "")[:19]


def fault(cluster: Cluster, pod: dict) -> Fault | None:
    """Find what keeps a pod from its volumes; None for nothing, or for what only takes its time.

    Args:
        cluster: where it is.
        pod: a Pod that is not ready.
    """
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    if pod["spec"].get("nodeName"):
        return _unmounted(events(cluster, namespace, "Pod", name)) if _is_creating(pod) else None
    for claim_name in _claims(pod):
        claim = _read(cluster, namespace, claim_name, unschedulable(pod))
        if claim != {} and (
            found := _unbound(claim_name, claim, lambda one=claim_name: _of_claim(cluster, namespace, one))
        ):
            return found
    message = unschedulable(pod)
    return _unreachable(message, events(cluster, namespace, "Pod", name)) if UNREACHABLE.search(message) else None


def unschedulable(pod: dict) -> str:
    """The scheduler's word on a pod that no node takes, or ``''``."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return next(
        (one.get("message", "") for one in conditions if one["type"] == "PodScheduled" and one["status"] == "False"), ""
    )


def lines(cluster: Cluster, pod: dict) -> list[str]:
    """Describe the claims of a pod that has no node: their state, their volume, their events.

    Args:
        cluster: where it is.
        pod: the Pod.

    Returns:
        lines to stand below the pod's own.
    """
    if pod["spec"].get("nodeName"):
        return []
    namespace, told = pod["metadata"]["namespace"], []
    for name in _claims(pod):
        claim = _read(cluster, namespace, name, "")
        if claim is None:
            told.append(f"claim {name}: there is none")
        else:
            spec = claim.get("spec") or {}
            state = (claim.get("status") or {}).get("phase") or "this credential may not read it"
            of_class = (
                f", StorageClass {spec['storageClassName']}" if spec.get("storageClassName") else ", no StorageClass"
            )
            told.append(f"claim {name}: {state}" + (of_class if spec else "") + _place(cluster, spec.get("volumeName")))
        told += [
            f"  event {event.get('type')} {event.get('reason')}: {event.get('message', '')}"
            for event in events(cluster, namespace, "PersistentVolumeClaim", name)[-3:]
        ]
    return told


def _claims(pod: dict) -> list[str]:
    """Name the claims of a pod; that of a generic ephemeral volume is called after both."""
    volumes = pod["spec"].get("volumes") or []
    named = [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]
    return named + [f"{pod['metadata']['name']}-{volume['name']}" for volume in volumes if "ephemeral" in volume]


def _read(cluster: Cluster, namespace: str, name: str, message: str) -> dict | None:
    """Read a claim; where this credential may not, the scheduler's word says as much as it can."""
    try:
        return cluster.get(
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": namespace, "name": name}}
        )
    except ApiError as error:
        if error.status != 403:
            raise
    if f'persistentvolumeclaim "{name}" not found' in message:
        return None
    return {"status": {"phase": "Pending"}} if "unbound immediate PersistentVolumeClaims" in message else {}


def _of_claim(cluster: Cluster, namespace: str, name: str) -> list[dict]:
    return events(cluster, namespace, "PersistentVolumeClaim", name)


def _place(cluster: Cluster, volume: str | None) -> str:
    """Say of a claim's volume which nodes can have it."""
    if not volume:
        return ""
    try:
        live = cluster.get({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}})
    except ApiError as error:
        if error.status != 403:
            raise
        return f", volume {volume}"
    if not live:
        return f", volume {volume}, which does not exist"
    terms = (((live["spec"].get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms")) or []
    rules = [
        f"{rule['key']} {rule['operator']} {', '.join(rule.get('values') or [])}".strip()
        for term in terms
        for rule in term.get("matchExpressions") or []
    ]
    return f", volume {volume}" + (f", for nodes with {' and '.join(rules)}" if rules else "")


def _unbound(name: str, claim: dict | None, look) -> Fault | None:
    """Say what keeps a claim from being bound.

    Args:
        name: of the claim.
        claim: the claim, or None where there is none.
        look: gives its events, when they are needed.
    """
    what = f"its PersistentVolumeClaim {name}"
    if claim is None:
        return Fault(f"{what} does not exist", ABSENT_SECONDS)
    if claim.get("metadata", {}).get("deletionTimestamp"):
        return Fault(f"{what} is being deleted, and no new pod can mount it", ABSENT_SECONDS)
    phase = (claim.get("status") or {}).get("phase")
    if phase == "Lost":
        return Fault(f"{what} has lost its volume {claim['spec'].get('volumeName')}", ABSENT_SECONDS)
    if phase != "Pending":
        return None
    found = look()
    failed = [one.get("message", "") for one in found if one.get("reason") in UNBOUND]
    failed = [message for message in failed if not GOES_ON.search(message)]
    if failed:
        return Fault(f"{what} is not bound: {failed[-1]}", UNBOUND_SECONDS)
    reasons = {one.get("reason") for one in found}
    if "ExternalProvisioning" in reasons and not reasons & {"Provisioning", *UNBOUND}:
        message = next(one.get("message", "") for one in found if one.get("reason") == "ExternalProvisioning")
        return Fault(f"{what} is not bound, and no provisioner has taken it up: {message}", UNANSWERED_SECONDS)
    return None


def _unreachable(message: str, found: list[dict]) -> Fault | None:
    """Say that no node can have a pod's volume, from the scheduler's word and the pod's events."""
    # Where a node that could have it lacks room, its pods may go, as the one that this one replaces does.
    if "Insufficient" in message or {event.get("reason") for event in found} & set(NODE_COMES):
        return None
    return Fault(f"no node that has room can have its volume: {message}", UNBOUND_SECONDS)


def _is_creating(pod: dict) -> bool:
    """Tell whether none of a pod's containers has run yet."""
    status = pod.get("status") or {}
    states = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    waiting = [(one.get("state") or {}).get("waiting") or {} for one in states]
    return status.get("phase") == "Pending" and all(
        one.get("reason") in ("ContainerCreating", "PodInitializing") for one in waiting
    )


def _unmounted(found: list[dict]) -> Fault | None:
    """Say what keeps a volume from being mounted, from a pod's events."""
    if {one.get("reason") for one in found} & set(MOUNTED):
        return None
    last = [one for one in found if one.get("reason") in (*NOT_MOUNTED, "SuccessfulAttachVolume")][-1:]
    if not last or last[0]["reason"] == "SuccessfulAttachVolume":
        return None
    message = last[0].get("message", "")
    patience = ABSENT_SECONDS if MISSING.search(message) else UNMOUNTED_SECONDS
    return Fault(f"a volume is not mounted: {message}", DETACHED_SECONDS if HELD.search(message) else patience)
