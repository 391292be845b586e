"""Compares what lives on a cluster with what the inventory renders, object by object; never writes, takes no lock, and needs no more than to read."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import datetime

from ansible_collections.modelyard.core.plugins.plugin_utils.argocd.handover import unsynced
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, kinds, parking
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    ApiError,
    Cluster,
    describe,
    readable,
    same_url,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.defaults import Defaults
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.edits import Comparison, Edit, maker
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.findings import Found
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import recorded
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.leftovers import Leftovers
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import MANAGED_BY, PROJECT, identity
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.syncing import APPLICATIONS, generated

# As whom Argo CD applies; Roles and their bindings as another (kubectl auth reconcile).
ARGOCD_APPLIES = ("argocd-controller", "argocd-application-controller")
HERE = ("https://kubernetes.default.svc", "https://kubernetes.default.svc:443")
Key = tuple[str, str, str, str]


class Drift:
    """What of one cluster is not as the inventory says.

    Attributes:
        found: what is not, in the order of the rendering.
        beside: what others set beside ours, and may.
        parked: Deployment to the note of ``parking.read``, of those that are parked.
        compared: how many objects were compared.
        unread: what this credential may not read.
        notices: what else an operator should know.
    """

    def __init__(self, cluster: Cluster, rendered: Mapping) -> None:
        """Compare.

        Args:
            cluster: the one that the inventory means.
            rendered: the structure of ``servers.render``, without problems.

        Raises:
            ApiError: the API server refuses more than the right to read.
            Unreachable: it does not answer.
        """
        self.cluster, self.rendered = cluster, rendered
        self.found: list[Found] = []
        self.beside: list[Found] = []
        self.parked: dict[str, dict] = {}
        self.unread: list[str] = []
        self.notices: list[str] = []
        self.compared = 0
        self.applications: dict[str, dict] = {}
        self._defaults = Defaults(cluster)
        gitops = delivery.is_gitops(rendered)
        for view in [True, False] if gitops else [False]:
            if view or not gitops or self._delivers_here():
                self._look(view)

    def _delivers_here(self) -> bool:
        settings = self.rendered["settings"]["argocd_apps"]
        name, server = settings.get("destination_name"), settings.get("destination_server") or HERE[0]
        if name in (None, "", "in-cluster") and (server in HERE or same_url(server, self.cluster.url)):
            return True
        self.notices.append(f"what Argo CD delivers lives on another cluster ({name or server}), and was not compared")
        return False

    def _look(self, applications: bool) -> None:
        """Compare the Applications, or all the rest."""
        name = "gitops" if applications else "direct"
        settings = self.rendered["settings"]
        view = {
            **self.rendered,
            "cluster": {**self.rendered["cluster"], "delivery": name},
            # What nobody wants is told also of a platform that prunes nothing.
            "settings": {**settings, "apply": {**settings["apply"], "prune": True, "handover": False}},
        }
        options = delivery.options(view)
        absent = self._namespaces(options)
        options["recorded"] = recorded(self._lease(options))
        leftovers, denied = Leftovers(self.cluster, options), []
        seen = leftovers.look(absent, denied) if options["components"] else []
        self.unread += [f"{leftovers.plural(kind)} in {kind['namespace']}" for kind in denied]
        live = {identity(item): item for item in seen}
        wanted = [item for item in options["objects"] if item["metadata"].get("namespace") not in absent]
        wanted = [item for item in wanted if self._served(item, options["require_apis"])]
        closed = {(kinds.key(kind), kind["namespace"]) for kind in denied}
        for item, there in zip(
            wanted, self.cluster.parallel(lambda one: self._live(one, live, closed), wanted), strict=True
        ):
            if there is not None:
                self._compare(item, there, options, applications)
        self._unwanted(wanted, seen, leftovers, options)

    def _lease(self, options: Mapping) -> dict | None:
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        lease["metadata"] = {"namespace": options["lock_namespace"], "name": options["lock_name"]}
        return readable(self.cluster.get, lease)

    def _namespaces(self, options: Mapping) -> set[str]:
        """Find the namespaces that are absent, and tell of each."""
        objects = options["objects"]
        absent = set()
        for name in sorted({item["metadata"]["namespace"] for item in objects if item["metadata"].get("namespace")}):
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            try:
                live = self.cluster.get(namespace)
            except ApiError as error:
                if error.status != 403:
                    raise
                continue
            if not live:
                absent.add(name)
                count = sum(item["metadata"].get("namespace") == name for item in objects)
                note = f"and with it the {count} object{'s'[: count != 1]} that the inventory has there"
                self.found.append(Found(namespace, Edit("absent", (), None, None, {}), note))
            elif live["metadata"].get("deletionTimestamp"):
                absent.add(name)
                self._going(live)
            else:
                self._labels(live, options)
        return absent

    def _labels(self, live: Mapping, options: Mapping) -> None:
        """Compare the labels that a run gives a namespace which it makes; of all others there may be any number."""
        wanted = next((one for one in options["namespaces"] if one["name"] == live["metadata"]["name"]), {})
        labels = live["metadata"].get("labels") or {}
        if not wanted.get("create") or labels.get(MANAGED_BY) != PROJECT:
            return
        item = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": wanted["name"], "labels": wanted["labels"]},
        }
        compared = Comparison(item, dict(live), lambda _: True, [], self._defaults.fills)
        note = "a run makes a namespace, and changes none"
        self.found += [Found(item, edit, note) for edit in compared.edits if edit.what != "added"]

    def _served(self, item: Mapping, required: bool) -> bool:
        if self.cluster.resource(item["apiVersion"], item["kind"]):
            return True
        text = f"the cluster has no API {item['apiVersion']} {item['kind']} (its CRD is not installed)"
        if required:
            self.found.append(Found(item, Edit("absent", (), None, None, {}), text))
        else:
            self.notices.append(f"{describe(item)}: {text}; a run leaves it out")
        return False

    def _live(self, item: Mapping, listed: Mapping[Key, dict], closed: set) -> dict | None:
        """Read an object, ``{}`` where there is none, and ``None`` where this credential may not."""
        known = listed.get(identity(item))
        # Under another version of its API the fields are others.
        if known and known["apiVersion"] == item["apiVersion"]:
            return known
        try:
            return self.cluster.get(item) or {}
        except ApiError as error:
            if error.status != 403:
                raise
        if ((kinds.group_of(item["apiVersion"]), item["kind"]), item["metadata"].get("namespace")) not in closed:
            self.unread.append(describe(item))
        return None

    def _compare(self, item: dict, live: dict, options: Mapping, applications: bool) -> None:
        if not live:
            self.found.append(Found(item, Edit("absent", (), None, None, {})))
            return
        self.compared += 1
        if live["metadata"].get("deletionTimestamp"):
            self._going(live)
            return
        if live["kind"] == "Application":
            self.applications[live["metadata"]["name"]] = live
            self._application(live)
        manager = options["field_manager"]
        if note := parking.read(live) if item["kind"] == "Deployment" else {}:
            self.parked[describe(item)] = note
        wanted = as_applied(item, live, options, self.cluster.now)
        gitops = delivery.is_gitops(self.rendered) and not applications
        # A run takes back what was written by its own name, too (fields.split).
        taken = [*options["adopt_managers"], manager]
        compared = Comparison(wanted, live, _appliers(manager, gitops), taken, self._defaults.fills)
        note = self._reverts(live) if gitops else ""
        if compared.made is not None:
            self.found.append(Found(item, Edit("made", (), None, None, compared.made), note))
        self.found += [Found(item, edit, note) for edit in compared.edits]
        self.beside += [Found(item, edit) for edit in compared.beside]

    def _going(self, live: Mapping) -> None:
        since = {"time": live["metadata"]["deletionTimestamp"]}
        self.found.append(Found(live, Edit("deleted", (), None, None, since)))

    def _application(self, live: dict) -> None:
        """Tell what Argo CD says of an Application."""
        status = live.get("status") or {}
        if not status:
            self.notices.append(f"{describe(live)}: Argo CD has not looked at it yet")
            return
        if text := unsynced(live):
            found = (status.get("sync") or {}).get("status") or ""
            self.found.append(
                Found(
                    live, Edit("application", ("status", "sync", "status"), "Synced", found, {}), f"out of sync: {text}"
                )
            )
        health = status.get("health") or {}
        if (state := health.get("status") or "Unknown") != "Healthy":
            edit = Edit("application", ("status", "health", "status"), "Healthy", state, {})
            self.found.append(Found(live, edit, ": ".join(filter(None, (state, health.get("message"))))))

    def _reverts(self, live: Mapping) -> str:
        """Say what Argo CD does about an edit of what it delivers."""
        tracking = (live["metadata"].get("annotations") or {}).get("argocd.argoproj.io/tracking-id", "")
        name = tracking.partition(":")[0].rpartition("_")[2]
        if name not in self.applications:
            return "no Application of this cluster delivers it"
        automated = (self.applications[name]["spec"].get("syncPolicy") or {}).get("automated") or {}
        if automated.get("selfHeal") and automated.get("enabled") is not False:
            return f"Argo CD will revert it: Application {name}"
        return f"Argo CD leaves it until Application {name} is synced"

    def _unwanted(self, wanted: list[dict], seen: list[dict], leftovers: Leftovers, options: Mapping) -> None:
        keep = {identity(item) for item in options["objects"]} | {name for item in wanted for name in generated(item)}
        for item in seen:
            if identity(item) in keep and item["kind"] in APPLICATIONS and identity(item) not in map(identity, wanted):
                self.applications[item["metadata"]["name"]] = item
                self._application(item)
        for item in leftovers.mine(seen, options["components"]):
            if identity(item) in keep:
                continue
            if identity(item)[:2] in kinds.LEFT:
                self.notices.append(f"{describe(item)} is no longer wanted, and stays: a volume goes with its data")
                continue
            self.found.append(Found(item, Edit("unwanted", (), None, None, maker(item))))
        self.notices += leftovers.others(seen, keep)


def _appliers(manager: str, gitops: bool) -> Callable[[Mapping], bool]:
    """Tell by an entry of ``managedFields`` whether it is of those who apply what the inventory says."""

    def ours(entry: Mapping) -> bool:
        if gitops and entry["manager"] in ARGOCD_APPLIES:
            return True
        return (entry["manager"], entry["operation"], entry.get("subresource", "")) == (manager, "Apply", "")

    return ours


def as_applied(item: dict, live: Mapping, options: Mapping, now: datetime | None = None) -> dict:
    """Give an object as a run would apply it, as far as that can be compared with the live one.

    Of a parked server that is without its number of pods. Of one with an autoscaler that number is not the inventory's, but zero turns
    a HorizontalPodAutoscaler off for good: then it is the least that the autoscaler keeps, if that is one or more.

    Args:
        item: the object, as it is rendered.
        live: what there is of it.
        options: of ``delivery.options``, with all ``objects``.
        now: by the API server's clock.
    """
    known = (options["field_manager"], options["adopt_managers"], now)
    found = _with_data(parking.left(item, live, *known)[0])
    if item["kind"] == "Deployment" and not live["spec"].get("replicas", 1) and not parking.read(live):
        least = next((_least(one) for one in options["objects"] if _scales(one, item)), 0)
        if least and "replicas" not in item["spec"]:
            return {**found, "spec": {**found["spec"], "replicas": least}}
    return found


def _scales(autoscaler: Mapping, deployment: Mapping) -> bool:
    if autoscaler["kind"] not in ("HorizontalPodAutoscaler", "ScaledObject"):
        return False
    target, place = autoscaler["spec"].get("scaleTargetRef") or {}, autoscaler["metadata"].get("namespace")
    return (target.get("name"), place) == (deployment["metadata"]["name"], deployment["metadata"]["namespace"])


def _least(autoscaler: Mapping) -> int:
    """Give how many pods an autoscaler keeps at least, by the defaults of both kinds."""
    spec = autoscaler["spec"]
    return (
        spec.get("minReplicas", 1)
        if autoscaler["kind"] == "HorizontalPodAutoscaler"
        else spec.get("minReplicaCount", 0)
    )


def _with_data(item: dict) -> dict:
    """Write a Secret's texts as the API server keeps them."""
    if item["kind"] != "Secret" or not item.get("stringData"):
        return item
    encoded = {key: base64.b64encode(str(text).encode()).decode() for key, text in item["stringData"].items()}
    kept = {key: value for key, value in item.items() if key != "stringData"}
    return {**kept, "data": {**(item.get("data") or {}), **encoded}}
