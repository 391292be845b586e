"""Removes what runs made for one cluster, what would make it anew first; never a claim or a namespace that was not asked for.

Each step is found anew by labels, so a run that was cut off is gone on with by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, kinds, owned, rollout, writes
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.change import Change
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    ApiError,
    Cluster,
    describe,
    readable,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import Lock
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import COMPONENT, RELEASE
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.syncing import APPLICATIONS, TRACKING_ID, generated
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure, Refused

# What makes others goes before what it makes, and what serves before what it is reached by and runs with.
STEPS = [
    ("ApplicationSet",),
    ("Application",),
    ("AppProject",),
    ("CronJob", "ScaledObject", "HorizontalPodAutoscaler"),
    ("Deployment", "StatefulSet", "DaemonSet", "Job", "Pod"),
    (),  # all others
    ("Secret", "ConfigMap"),
    ("RoleBinding",),
    ("Role",),
    ("ServiceAccount",),
    ("PersistentVolumeClaim",),
]
OTHERS = STEPS.index(())
PLACE = {kind: place for place, step in enumerate(STEPS) for kind in step}
# What it makes is gone before it is.
FOREGROUND = (*STEPS[3], *STEPS[4])
TELL_EVERY = 30


def step_of(item: Mapping) -> int:
    """Give the step in which an object goes; the records of releases are the last ConfigMaps."""
    is_record = item["kind"] == "ConfigMap" and (item["metadata"].get("labels") or {}).get(COMPONENT) == RELEASE
    return len(STEPS) - 1 if is_record else PLACE.get(item["kind"], OTHERS)


class Teardown:
    """One cluster's teardown.

    Attributes:
        scope: namespace of the lock that the teardown takes.
        leases: namespace to the lock's Lease there, as it was read last.
        found: what there is, as it was found last.
    """

    def __init__(self, cluster: Cluster, rendered: Mapping, claims: bool, timeout: float, pid: int) -> None:
        """Hold the inputs.

        Args:
            cluster: where the objects are.
            rendered: the structure of ``servers.render``.
            claims: whether volume claims go, too.
            timeout: seconds for each step, until its objects are gone.
            pid: of the ansible-playbook process, whose end frees the lock.
        """
        self.cluster, self.rendered, self.claims, self.timeout = cluster, rendered, claims, timeout
        place = delivery.lock(rendered)
        scopes = dict.fromkeys((rendered["cluster"]["namespace"], rendered["cluster"]["argocd_namespace"]))
        self.locks = {namespace: Lock(cluster, namespace, place["lock_name"], pid) for namespace in scopes}
        # What Argo CD deployed can outlive Argo CD's namespace, in which runs take the lock.
        self.scope = next(filter(self._is_there, [place["lock_namespace"], *scopes]), place["lock_namespace"])
        self.lock = self.locks[self.scope]
        self.leases: dict[str, dict | None] = {}
        self.found = owned.Found()

    def _is_there(self, namespace: str) -> bool:
        """Tell whether a Lease can be made in a namespace, as far as this credential may see that."""
        item = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        live = readable(self.cluster.get, item, denied=item)
        return bool(live) and not live["metadata"].get("deletionTimestamp")

    def look(self) -> list[dict]:
        """Find what there is; gives what goes, in the order in which it does.

        Raises:
            Refused: a set of Applications serves other clusters, too.
        """
        self.leases = {namespace: lock.read() for namespace, lock in self.locks.items()}
        self.found = owned.look(self.cluster, self.rendered, self.leases)
        name = self.rendered["cluster"]["name"]
        shared = [item for item in self.found.items if item["kind"] == "ApplicationSet" and serves_others(item, name)]
        if shared:
            raise Refused(
                [
                    f"{describe(item)} makes Applications for other clusters, too, and would make this one's anew: take {name} out of "
                    "argocd_apps_hosts (or argocd_apps_cluster_selector), run playbooks/argocd_apps.yml, and run this again"
                    for item in shared
                ]
            )
        kept = {item["metadata"]["uid"] for item in self.kept()}
        goes = [item for item in self.found.items if item["metadata"]["uid"] not in kept]
        return sorted(goes, key=lambda item: (step_of(item), describe(item)))

    def kept(self) -> list[dict]:
        """Give what stays: claims that were not asked for, and what Applications of other clusters are in or may read Git with.

        That credential has one name for all of them, and the label of the cluster whose run wrote it last.
        """
        theirs = [item for item in self.found.strangers if item["kind"] in APPLICATIONS]
        projects = {item["spec"]["project"] for item in theirs if item["kind"] == "Application"}
        secrets = [item["name"] for item in self.rendered["secrets"]] if theirs else []
        return [
            item
            for item in self.found.items
            if (self._is_claim(item) and not self.claims)
            or (item["kind"] == "AppProject" and item["metadata"]["name"] in projects)
            or (item["kind"] == "Secret" and item["metadata"]["name"] in secrets)
        ]

    def free_leases(self) -> list[str]:
        """Give the namespaces whose Lease nothing needs any more, once what goes is gone: it notes kinds that are nobody's."""
        needed = {item["metadata"].get("namespace") for item in self.found.strangers}
        needed |= {kind["namespace"] for kind in self.found.blind}
        return [name for name, lease in self.leases.items() if lease and name not in needed]

    @staticmethod
    def _is_claim(item: Mapping) -> bool:
        return kinds.key({"api_version": item["apiVersion"], "kind": item["kind"]}) in kinds.LEFT

    def check_rights(self, goes: list[dict]) -> None:
        """Refuse before the first write what this credential may not do.

        Raises:
            Refused: with each right that is missing.
        """
        wanted, scope = set(), self.scope
        for kind in self.found.blind:
            if kind["namespace"] == scope and (self.claims or kinds.key(kind) not in kinds.LEFT):
                resource = self.cluster.resource(kind["api_version"], kind["kind"])["name"]
                wanted |= {(verb, kinds.group_of(kind["api_version"]), resource, scope) for verb in ("list", "delete")}
        # The right to one Secret is by its name, of which nobody can be asked before.
        for item in [item for item in goes if item["kind"] != "Secret"]:
            resource = self.cluster.resource(item["apiVersion"], item["kind"])["name"]
            group = kinds.group_of(item["apiVersion"])
            verbs = ("delete", "patch") if item["kind"] == "Application" else ("delete",)
            wanted |= {(verb, group, resource, item["metadata"].get("namespace", "")) for verb in verbs}
        for verb in ("get", "create", "update"):
            wanted.add((verb, "coordination.k8s.io", "leases", scope))
        denied = self.cluster.denied(sorted(wanted))
        if denied:
            lines = [
                f"this credential may not {verb} {resource}{f' ({group})' if group else ''} in namespace {namespace}"
                for verb, group, resource, namespace in denied
            ]
            lines[-1] += "; docs/rbac.yaml has the rights that a run needs"
            raise Refused(lines)

    def remove(self, goes: list[dict], wait_lock: float, tell: Callable[[str], None]) -> list[dict]:
        """Remove, step by step, under the lock.

        Args:
            goes: what :meth:`look` gave.
            wait_lock: seconds to wait for another run.
            tell: says what goes, and what is waited for.

        Returns:
            what was removed.

        Raises:
            Failure: something is still there at the end of the timeout, or is there again; the next run goes on.
        """
        self.lock.acquire(self.leases[self.scope], wait_lock, tell)
        removed = []
        try:
            goes = self.look()
            for place in range(len(STEPS)):
                step = [item for item in goes if step_of(item) == place]
                for item in step:
                    cascade = cascades(item)
                    if writes.remove(self.cluster, item, cascade, foreground=item["kind"] in FOREGROUND):
                        removed.append(item)
                        tell(Change("remove", item, cascade=cascade).lines()[0])
                self._await(step, tell)
            if again := self.look():
                raise Failure(_came_back(again))
        except BaseException:
            self.lock.release()
            raise
        return removed

    def _await(self, items: list[dict], tell: Callable[[str], None]) -> None:
        """Wait until objects are gone."""
        started = told = time.monotonic()
        left, pause = items, 0.1
        while True:
            live = self.cluster.parallel(self.cluster.get, left)
            left = [now for now, item in zip(live, left, strict=True) if _is_same(now, item)]
            if not left:
                return
            waited = time.monotonic() - started
            if waited > self.timeout:
                raise Failure(
                    f"after {self.timeout:g} s (teardown_timeout) there is still "
                    + "; ".join(map(self._explained, left))
                    + ". What is gone stays gone, and the next run goes on from here"
                )
            if time.monotonic() - told > TELL_EVERY:
                told = time.monotonic()
                tell(f"waiting after {waited:.0f} s for {owned.named(left)} to go")
            self.lock.alive()
            time.sleep(pause)
            pause = min(pause * 1.3, 2)

    def _explained(self, item: dict) -> str:
        """Say of an object that does not go what holds it."""
        name, namespace = describe(item), item["metadata"].get("namespace")
        if item["kind"] == "Application":
            return f"{name} ({self._argocd(item)})"
        if item["kind"] == "Deployment":
            pods = readable(self.cluster.list, "v1", "Pod", namespace, rollout.selector(item), denied=[])
            held = [f"pod {pod['metadata']['name']} on {pod['spec'].get('nodeName') or 'no node'}" for pod in pods]
            if held:
                return (
                    f"{name} ({', '.join(held)}; if the node is gone: kubectl -n {namespace} delete pod NAME --force)"
                )
        finalizers = ", ".join(item["metadata"].get("finalizers") or [])
        return f"{name} ({f'held by {finalizers}' if finalizers else 'nobody removes it'})"

    def _argocd(self, item: dict) -> str:
        """Say why Argo CD does not remove what an Application deployed, as far as that can be seen, and the way without it."""
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        selector = "app.kubernetes.io/name=argocd-application-controller"
        pods = readable(self.cluster.list, "v1", "Pod", namespace, selector, denied=None)
        status = item.get("status") or {}
        said = [entry["message"] for entry in status.get("conditions") or [] if entry.get("message")]
        if pods is not None and not any((pod.get("status") or {}).get("phase") == "Running" for pod in pods):
            said.append(f"Argo CD does not run in namespace {namespace}: no pod of its application controller runs")
        said.append(f"Argo CD looked at it last at {status.get('reconciledAt', 'no time')}")
        patch = '{"metadata":{"finalizers":null}}'
        return (
            f"{'; '.join(said)}. Start Argo CD, or go on without it: kubectl -n {namespace} patch application {name} "
            f"--type merge --patch '{patch}'; then the next run removes what it deployed"
        )

    def close(self) -> tuple[list[str], list[dict]]:
        """Remove the Leases that nothing needs, and free the lock.

        Returns:
            the names of those that went, and a row (``what``, ``why``) for each that stays.
        """
        gone, rows, own = [], [], self.scope
        for namespace in self.free_leases():
            lease = self.locks[namespace].read()
            if not lease or (namespace != own and self.locks[namespace].holder_of(lease)):
                continue
            metadata = lease["metadata"]
            # Exactly the one that was read: another run may take it in this moment.
            conditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
            options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions}
            name = f"Lease {namespace}/{metadata['name']}"
            try:
                self.cluster.request("DELETE", f"{self.locks[namespace].path}/{metadata['name']}", body=options)
                gone.append(name)
            except ApiError as error:
                if error.status not in (403, 404, 409):
                    raise
                if error.status == 403:
                    command = f"kubectl -n {namespace} delete lease {metadata['name']}"
                    rows.append({"what": name, "why": f"this credential may not delete it ({command})"})
        self.lock.release([] if own in self.free_leases() else None)
        return gone, rows


def cascades(item: Mapping) -> bool | None:
    """Tell of an Application whether Argo CD removes what it deployed: one that it never looked at has deployed nothing."""
    return bool(item.get("status")) if item["kind"] == "Application" else None


def serves_others(item: Mapping, name: str) -> bool:
    """Tell whether a set makes Applications for other clusters than the one of this name."""
    generators = item["spec"]["generators"]
    if any("list" not in generator for generator in generators):
        return True
    elements = [element for generator in generators for element in generator["list"]["elements"]]
    return len(generated(dict(item))) != sum(element.get("part", "").partition("/")[0] == name for element in elements)


def _is_same(live: dict | None, item: Mapping) -> bool:
    return bool(live) and live["metadata"]["uid"] == item["metadata"]["uid"]


def _came_back(items: list[dict]) -> str:
    """Say that somebody makes anew what was removed, and who, where an object tells."""
    tracking = {(item["metadata"].get("annotations") or {}).get(TRACKING_ID, "").partition(":")[0] for item in items}
    by = ", ".join(sorted(tracking - {""}))
    who = f"Argo CD's Application {by} (on this or another cluster) delivers it: delete that first" if by else ""
    return f"removed, and there again: {owned.named(items)}. {who or 'Something makes it anew: a controller, or another run'}"
