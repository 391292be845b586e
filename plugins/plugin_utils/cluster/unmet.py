"""Looks on a cluster for what the objects of a run name and do not bring; never writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import references
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster, describe, readable
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import identity
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.references import Reference
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity

# What a look gives where this credential may not look.
UNKNOWN: dict = {}
# Older clusters serve some of these APIs only in a version before v1.
OLDER = ("v1beta2", "v1beta1")
# Drivers that took over from what was built in; as https://kubernetes.io/docs/concepts/storage/volumes/#csi-migration names them.
MIGRATED = {
    "kubernetes.io/aws-ebs": "ebs.csi.aws.com",
    "kubernetes.io/azure-disk": "disk.csi.azure.com",
    "kubernetes.io/azure-file": "file.csi.azure.com",
    "kubernetes.io/cinder": "cinder.csi.openstack.org",
    "kubernetes.io/gce-pd": "pd.csi.storage.gke.io",
    "kubernetes.io/vsphere-volume": "csi.vsphere.vmware.com",
}
DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


class Lookup:
    """Looks for what changed objects name."""

    def __init__(self, cluster: Cluster, wanted: Iterable[dict], holds: Mapping[str, float] | None = None) -> None:
        """Hold the inputs.

        Args:
            cluster: where to look.
            wanted: all objects of the run.
            holds: name of a claim that exists to the bytes that are downloaded into it.
        """
        self.cluster = cluster
        self.holds = holds or {}
        self.made = {identity(item): item for item in wanted}
        self.live: dict[Reference, dict | None] = {}
        self.problems: list[str] = []
        self.notices: list[str] = []

    def check(self, changes: Iterable[Any]) -> tuple[list[str], list[str]]:
        """Tell what changed objects name that neither the cluster has nor the run makes.

        Args:
            changes: the ``Change``s to be applied.

        Returns:
            problems (a pod would wait for ever), and notices (it may start all the same, or nobody can tell).
        """
        named: dict[Reference, list[dict]] = {}
        for change in changes:
            # What a claim named is of no use any more once it is bound.
            if ((change.before or {}).get("status") or {}).get("phase") != "Bound":
                _add(named, change.after or change.item)
        while named:
            new = [
                one for one in dict.fromkeys(map(_plain, named)) if one not in self.live and self._is_looked_for(one)
            ]
            self.live |= zip(new, self.cluster.parallel(self._read, new), strict=True)
            for reference, by in named.items():
                self._judge(reference, by)
            # What is there waits for others itself: an account's pull secrets, the class of a claim that is not bound.
            named = {}
            for found in [self.live[one] for one in new]:
                if found and (found["kind"] == "ServiceAccount" or _is_pending(found)):
                    _add(named, found)
        return list(dict.fromkeys(self.problems)), list(dict.fromkeys(self.notices))

    def _is_looked_for(self, reference: Reference) -> bool:
        """Tell whether the cluster has to be asked: of a claim that the run makes, too, since it may be there in a bad state."""
        return reference.kind == "PersistentVolumeClaim" or identity(reference.item()) not in self.made

    def _judge(self, reference: Reference, by: list[dict]) -> None:
        what, who = describe(reference.item()), ", ".join(dict.fromkeys(map(describe, by)))
        live, made = self.live.get(_plain(reference)), self.made.get(identity(reference.item()))
        found = live or made
        if live is UNKNOWN and not made:
            asked = f"{what}, which {who} names" if reference.name else f"a {reference.kind} for {who}"
            self.notices.append(f"{asked}: whether it exists is not known, this credential may not read it")
        elif not found and reference.kind == "StorageClass":
            self._no_class(reference, by)
        elif not found and not reference.name:
            self.problems.append(
                f"{who} asks for a volume without a StorageClass, and there is none: create one, or name a class"
            )
        elif not found and not reference.needed:
            self.notices.append(f"{what}, which {who} names, does not exist: images that need it are not pulled")
        elif not found:
            where = self._elsewhere(reference)
            self.problems.append(f"{what}, which {who} names, does not exist{where}: create it first, or name another")
        elif reference.key and reference.key not in _keys(found):
            self.problems.append(f"{what} has no key {reference.key}, which {who} names: add it, or name another")
        elif live and reference.kind == "PersistentVolumeClaim":
            self._claim(live, f"{what}, which {who} names,")
        elif live and reference.kind == "StorageClass":
            self._driver(live, who)

    def _claim(self, live: dict, what: str) -> None:
        """Say of a claim that is there why no new pod could mount it."""
        if live["metadata"].get("deletionTimestamp"):
            self.problems.append(f"{what} is being deleted: wait until it is gone, then run again; or name another")
        elif (live.get("status") or {}).get("phase") == "Lost":
            self.problems.append(
                f"{what} has lost its volume {live['spec'].get('volumeName')}: replace it, or name another"
            )
        elif _is_pending(live):
            # A claim without any class is bound to a volume that somebody makes; one of such a class waits for its first pod.
            name = live["spec"].get("storageClassName", "")
            kind = self._read(Reference(references.STORAGE, "StorageClass", "", name)) if name else None
            if (kind or {}).get("volumeBindingMode") != "WaitForFirstConsumer":
                place = live["metadata"]
                why = f"kubectl -n {place['namespace']} describe pvc {place['name']}"
                self.notices.append(f"{what} is not bound, and its pods will wait until it is. Why: {why}")
        else:
            self._capacity(live, what)

    def _capacity(self, live: dict, what: str) -> None:
        """Say that a volume is smaller than what is downloaded into it; one that many nodes mount may not keep to its size."""
        size = self.holds.get(live["metadata"]["name"], 0)
        given = ((live.get("status") or {}).get("capacity") or {}).get("storage")
        if given and quantity.parse(given) < size:
            text = f"{what} has {given}, and {size / quantity.GIB:.1f} GiB are downloaded into it"
            if "ReadWriteMany" in (live["spec"].get("accessModes") or []):
                self.notices.append(f"{text}: where its class keeps to sizes, that fails at each start")
            else:
                self.problems.append(f"{text}, which would fail at each start: expand it, or name another")

    def _no_class(self, reference: Reference, by: list[dict]) -> None:
        """Say that a class is missing, except to a claim for which a volume is there that somebody made."""
        for item in by:
            if item["kind"] == "PersistentVolumeClaim" and self._volume(reference.name):
                continue
            what = describe(item)
            self.problems.append(
                f"{describe(reference.item())}, which {what} names, does not exist: create it first, or name another"
                if reference.name
                else f"{what} names no StorageClass, and the cluster has no default one: name one, or make one the default"
            )

    def _driver(self, live: dict, who: str) -> None:
        """Say that the driver of a class is not installed; of a provisioner that is no CSI driver nothing is known."""
        name = MIGRATED.get(live["provisioner"], live["provisioner"])
        if "csi." in name and self._read(Reference(references.STORAGE, "CSIDriver", "", name)) is None:
            self.notices.append(
                f"{describe(live)}, for {who}: the cluster has no CSIDriver {name}, so nothing may make its volumes: install "
                "that driver (on EKS an add-on, as aws-ebs-csi-driver)"
            )

    def _volume(self, storage_class: str) -> dict | None:
        """Find a volume of a class that no claim has yet; UNKNOWN where this credential can't see volumes."""
        volumes = self._list("v1", "PersistentVolume")
        if volumes is None:
            return UNKNOWN
        free = [item for item in volumes if (item.get("status") or {}).get("phase") == "Available"]
        return next((item for item in free if item["spec"].get("storageClassName", "") == storage_class), None)

    def _elsewhere(self, reference: Reference) -> str:
        """Say of a claim in which other namespaces there is one of its name."""
        if reference.kind != "PersistentVolumeClaim":
            return ""
        found = self._list("v1", reference.kind, fieldSelector=f"metadata.name={reference.name}") or []
        places = ", ".join(sorted(item["metadata"]["namespace"] for item in found))
        return f" (one of that name is in {places}, and pods mount claims of their own namespace)" if places else ""

    def _read(self, reference: Reference) -> dict | None:
        """Read what is named: None where it does not exist, UNKNOWN where that can't be told."""
        if not reference.name:
            return self._default_class() if reference.kind == "StorageClass" else self._volume("")
        group, slash, version = reference.api_version.rpartition("/")
        versions = [f"{group}{slash}{one}" for one in (version, *OLDER)]
        served = next((one for one in versions if self.cluster.resource(one, reference.kind)), None)
        if not served:
            return None
        return readable(self.cluster.get, {**reference.item(), "apiVersion": served}, denied=UNKNOWN)

    def _default_class(self) -> dict | None:
        classes = self._list(references.STORAGE, "StorageClass")
        return UNKNOWN if classes is None else next(filter(_is_default, classes), None)

    def _list(self, api_version: str, kind: str, **query: str) -> list[dict] | None:
        return readable(self.cluster.list, api_version, kind, None, **query)


def _add(named: dict[Reference, list[dict]], item: dict) -> None:
    for reference in references.of(item):
        named.setdefault(reference, []).append(item)


def _plain(reference: Reference) -> Reference:
    """Leave out what does not matter to who looks for it."""
    return reference._replace(needed=True, key="")


def _is_pending(item: Mapping) -> bool:
    return item["kind"] == "PersistentVolumeClaim" and (item.get("status") or {}).get("phase") == "Pending"


def _keys(item: Mapping) -> set[str]:
    return {key for field in ("data", "stringData", "binaryData") for key in item.get(field) or {}}


def _is_default(item: Mapping) -> bool:
    notes = item["metadata"].get("annotations") or {}
    return any(notes.get(name) == "true" for name in DEFAULT_CLASS)
