"""Finds what earlier runs made in a namespace, for this cluster or under another name; never deletes.

One list for each kind, by the label ``managed-by`` alone, finds what is to be pruned and what nobody will ever prune: a renamed
cluster's objects.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import kinds
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster, describe, readable
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import (
    CLUSTER,
    COMPONENT,
    GITOPS,
    MANAGED_BY,
    PROJECT,
    RELEASE,
    controlled,
    identity,
)

ARGOCD_GROUP = "argoproj.io"
Right = tuple[str, str, str, str]


class Leftovers:
    """What earlier runs made on one cluster.

    Attributes:
        unseen: kinds that an earlier run applied and this credential may not prune.
    """

    def __init__(self, cluster: Cluster, options: Mapping) -> None:
        """Hold the inputs.

        Args:
            cluster: where to look.
            options: those of ``delivery.options``.
        """
        self.cluster, self.options = cluster, options
        self.unseen: list[dict] = []

    def pruned(self) -> list[dict]:
        """Give the kinds that are pruned, with their ``namespace``: of them a run needs the rights."""
        return [kind for kind in self.options["prune"] if self.cluster.resource(kind["api_version"], kind["kind"])]

    @functools.cached_property
    def remembered(self) -> list[dict]:
        """Further kinds that a run may have made and that the cluster serves: those of earlier runs, and those that are left."""
        if not self.options["prune"]:
            return []
        made = kinds.union(self.options["recorded"], kinds.of(self.options["objects"]))
        namespace = self.options["lock_namespace"]
        return [
            {**kind, "api_version": version, "namespace": namespace}
            for kind in kinds.without(made, self.options["prune"])
            if (version := self._served(kind))
        ]

    def _served(self, kind: Mapping) -> str | None:
        """Give the version under which the cluster has a kind; the one that was noted may be served no more."""
        group = kinds.group_of(kind["api_version"])
        if self.cluster.resource(kind["api_version"], kind["kind"]):
            return kind["api_version"]
        try:
            versions = self.cluster.request("GET", f"/apis/{group}")["versions"] if group else []
        except ApiError as error:
            if error.status not in (404, 503):
                raise
            return None
        served = [version["groupVersion"] for version in versions]
        return next((version for version in served if self.cluster.resource(version, kind["kind"])), None)

    def rights(self) -> dict[Right, dict]:
        """Give the rights without which a remembered kind can't be pruned, as ``client.denied`` takes them, each with its kind."""
        found = {}
        for kind in self.remembered:
            resource = self.cluster.resource(kind["api_version"], kind["kind"])["name"]
            for verb in ("list",) if kinds.key(kind) in kinds.LEFT else ("list", "delete"):
                found[verb, kinds.group_of(kind["api_version"]), resource, kind["namespace"]] = kind
        return found

    def hide(self, kind: dict) -> str | None:
        """Leave out a kind of which rights are missing, and say so, unless a volume claim of this run is all that there is of it."""
        if kind in self.unseen:
            return None
        self.unseen.append(kind)
        if kinds.key(kind) in {kinds.key(other) for other in kinds.of(self.options["objects"])}:
            return None
        name = self.plural(kind)
        return (
            f"an earlier run made {name} in namespace {kind['namespace']}, and this credential may not list and delete them: "
            "what is no longer wanted of them stays (docs/rbac.yaml has the rights)"
        )

    def plural(self, kind: Mapping) -> str:
        """Name a kind as kubectl takes it: ``deployments.apps``."""
        name = self.cluster.resource(kind["api_version"], kind["kind"])["name"]
        return ".".join(part for part in (name, kinds.group_of(kind["api_version"])) if part)

    def look(self, absent: set[str], denied: list[dict] | None = None) -> list[dict]:
        """List what runs made, under whatever cluster's name.

        Args:
            absent: namespaces that are not there yet.
            denied: takes the kinds that this credential may not list; without it that is an error.
        """
        places = [*self.pruned(), *(kind for kind in self.remembered if kind not in self.unseen)]
        return self._listed([kind for kind in places if kind["namespace"] not in absent], denied)

    def mine(self, found: Iterable[dict], components: Iterable[str]) -> list[dict]:
        """Pick from what :meth:`look` gave what is this cluster's, and of these components."""
        ours = {(self.options["cluster_name"], component) for component in components}
        return [item for item in found if (_labels(item).get(CLUSTER), _labels(item).get(COMPONENT)) in ours]

    def released(self) -> list[dict]:
        """List what GitOps delivery made for this cluster, when it is to be delivered directly from now on."""
        served = (kind for kind in self.options["release"] if self.cluster.resource(kind["api_version"], kind["kind"]))
        return self.mine(self._listed(list(served)), [GITOPS])

    def _listed(self, places: list[dict], denied: list[dict] | None = None) -> list[dict]:
        """List each kind; one with a ``name`` is read, not listed. What is on its way out is left out."""

        def find(kind: dict) -> list[dict]:
            if "name" not in kind:
                # Not the records of releases, which stay.
                selector = f"{MANAGED_BY}={PROJECT},{COMPONENT}!={RELEASE}"
                try:
                    return self.cluster.list(kind["api_version"], kind["kind"], kind["namespace"], selector)
                except ApiError as error:
                    if error.status != 403 or denied is None:
                        raise
                    denied.append(kind)
                    return []
            named = {"apiVersion": kind["api_version"], "kind": kind["kind"]}
            named["metadata"] = {"namespace": kind["namespace"], "name": kind["name"]}
            # Whoever may not read it did not write it.
            live = readable(self.cluster.get, named)
            return [live] if live and _labels(live).get(MANAGED_BY) == PROJECT else []

        found = [item for items in self.cluster.parallel(find, places) for item in items]
        return [item for item in found if not item["metadata"].get("deletionTimestamp") and not controlled(item)]

    def noted(self, wanted: Iterable[dict], found: Iterable[dict]) -> list[dict]:
        """Give the kinds to be noted: those that are wanted, those of which there is something, those that could not be seen."""
        seen = [kind for kind in [*self.pruned(), *self.remembered] if kind not in self.unseen]
        blind = kinds.without(self.options["recorded"], seen)
        return kinds.union(blind, kinds.of(found), kinds.of(wanted))

    def others(self, found: Iterable[dict], keep: set[tuple]) -> list[str]:
        """Say what carries another cluster's name, with a command that removes it.

        Args:
            found: what :meth:`look` gave.
            keep: identities of what this run wants, and takes over.
        """
        strangers: dict[str, list[dict]] = {}
        for item in found:
            name = _labels(item).get(CLUSTER)
            if name and name != self.options["cluster_name"] and identity(item) not in keep and self._here(item):
                strangers.setdefault(name, []).append(item)
        return [self._told(name, items) for name, items in sorted(strangers.items())]

    def _here(self, item: Mapping) -> bool:
        """Tell whether an object is for this place: Argo CD's namespace has Applications for any number of clusters."""
        if kinds.group_of(item["apiVersion"]) != ARGOCD_GROUP:
            return True
        wanted = [
            other["spec"].get("destination") for other in self.options["objects"] if other["kind"] == "Application"
        ]
        return item["kind"] == "Application" and item["spec"].get("destination") in wanted

    def _told(self, name: str, items: list[dict]) -> str:
        mine, namespace = self.options["cluster_name"], self.options["lock_namespace"]
        told = (
            f"no run of {mine} touches what is in namespace {namespace} under the cluster name {name}: "
            f"{', '.join(map(describe, items))}. If {name} is an earlier name of {mine}, remove it: kubectl -n {namespace} "
        )
        if items[0]["kind"] == "Application":
            applications = " ".join(item["metadata"]["name"] for item in items)
            patch = '{"metadata":{"finalizers":null}}'
            return f"{told}patch applications {applications} --type merge --patch '{patch}' && kubectl -n {namespace} delete applications {applications} (what they deployed stays)"
        resources = {self.plural({"api_version": item["apiVersion"], "kind": item["kind"]}): None for item in items}
        return f"{told}delete {','.join(resources)} -l {MANAGED_BY}={PROJECT},{CLUSTER}={name}"


def _labels(item: Mapping) -> Mapping:
    return item["metadata"].get("labels") or {}
