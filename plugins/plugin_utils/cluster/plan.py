"""Works out what a run would do to a cluster; never writes.

Every object is read and server-side applied as a dry run, so that the API server itself says what would change, what
is invalid and whose field is in the way. Only of one that is surely as it is to be (``cluster/settled.py``) it need not be asked.
An object whose live state would not change is not applied at all.
"""

from __future__ import annotations

import json
import re
import shlex
import threading
from dataclasses import dataclass, field

import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.argocd import applications as argocd
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import (
    difference,
    fields,
    hiding,
    kinds,
    outage,
    parking,
    quota,
    room,
    settled,
    unmet,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.admission import Admission
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    JSON_PATCH,
    ApiError,
    Cluster,
    describe,
    readable,
    same_url,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.fit import too_large
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.leftovers import Leftovers
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import (
    CLUSTER,
    COMPONENT,
    GITOPS,
    MANAGED_BY,
    PROJECT,
    identity,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused

ARGOCD = "argoproj.io/v1alpha1"
INSTANCE = "app.kubernetes.io/instance"
APPLICATIONS = ("Application", "ApplicationSet")
# What others may set there, and what is sent where nothing is left.
METADATA: dict[str, dict | list] = {"labels": {}, "annotations": {}, "finalizers": [], "ownerReferences": []}
TRACKING_ID = "argocd.argoproj.io/tracking-id"
# A line of more characters has its details below it.
WIDTH = 76

INSTALL_ORDER = [
    "Namespace", "AppProject", "ServiceAccount", "Role", "RoleBinding", "Secret", "ConfigMap", "PersistentVolumeClaim", "NetworkPolicy",
    "Service", "PodDisruptionBudget", "Deployment",
]  # fmt: skip


@dataclass
class Change:
    """What would happen to one object."""

    action: str
    item: dict
    before: dict | None = None
    after: dict | None = None
    takeover: bool = False
    # Patterns of managers whose fields the run takes over before it applies.
    adoptable: list[str] = field(default_factory=list)
    # Of an Application that goes: whether Argo CD removes what it deployed.
    cascade: bool | None = None
    # What else an operator should know of it, a line each.
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line: ``update Deployment ml-models/vllm: spec.replicas 2 -> 1; ...``."""
        told = self.told()
        return self._name() + (f": {told}" if told else "")

    def told(self) -> str:
        """What of it: ``spec.replicas 2 -> 1; ...``, without a credential."""
        return "; ".join([*map(difference.flat, self._details()), *self.notes])

    def lines(self) -> list[str]:
        """The same for people: a single short detail beside the object, several below it, one a line."""
        below = [*(line for lines in self._details() for line in lines), *self.notes]
        together = self.summary()
        if not below or (len(below) == 1 and len(together) <= WIDTH):
            return [together]
        return [f"{self._name()}:", *(f"  {line}" for line in below)]

    def _name(self) -> str:
        text = f"{self.action} {describe(self.item)}"
        if self.cascade is not None:
            text += ", and Argo CD removes what it deployed" if self.cascade else "; what it deployed stays"
        return text

    def _details(self) -> list[list[str]]:
        if self.action == "create":
            return [[text]] if (text := difference.essence(self.item)) else []
        if self.action != "update":
            return []
        return difference.hidden(shown(self.before), shown(self.after)) or [["ownership of fields"]]

    def diff(self) -> dict:
        """The change as Ansible's ``--diff`` prints it."""
        name = describe(self.item)
        return {"before_header": name, "after_header": name, "before": _text(self.before), "after": _text(self.after)}


@dataclass
class Plan:
    """All that a run would do, and what the operator should know about it."""

    namespaces: list[dict] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    prune: list[Change] = field(default_factory=list)
    release: list[Change] = field(default_factory=list)
    missing: list[dict] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    kinds: list[dict] = field(default_factory=list)


def shown(item: dict | None) -> dict:
    """An object without what only the API server writes (and without a Secret's values)."""
    if not item:
        return {}
    kept = {key: value for key, value in item.items() if key not in ("status", "metadata")}
    if item["kind"] == "Secret":
        kept = {
            key: dict.fromkeys(value, "(hidden)") if key in ("data", "stringData") else value
            for key, value in kept.items()
        }
    hidden = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
    kept["metadata"] = {key: value for key, value in item["metadata"].items() if key not in hidden}
    return kept


def _text(item: dict | None) -> str:
    return yaml.safe_dump(hiding.hide(shown(item)), sort_keys=True) if item else ""


def install_rank(item: dict) -> int:
    """Place of a kind in the install order; custom resources come last."""
    return INSTALL_ORDER.index(item["kind"]) if item["kind"] in INSTALL_ORDER else len(INSTALL_ORDER)


def check_cluster(cluster: Cluster, options: dict) -> None:
    """Refuse a cluster other than the one that the inventory names.

    Args:
        cluster: what the connection leads to.
        options: ``cluster_name``, and what is meant: ``api_server`` (URL) and ``kube_system_uid``.

    Raises:
        Refused: neither is given, or one differs.
    """
    name, url, uid = options["cluster_name"], options["api_server"], options["kube_system_uid"]
    problems = []
    source = (
        "platform_connection or the job's Kubernetes credential"
        if job.number()
        else "platform_connection or K8S_AUTH_*"
    )
    if not url and not uid:
        problems.append(
            f"cluster {name}: the inventory does not name the cluster it means; set platform_api_server or platform_kube_system_uid, so that a run never writes to another"
        )
    if url and not same_url(url, cluster.url):
        problems.append(
            f"cluster {name}: platform_api_server is {url}, but the connection ({source}) leads to {cluster.url}"
        )
    if uid and not problems:
        found = cluster.request("GET", "/api/v1/namespaces/kube-system")["metadata"]["uid"]
        if uid != found:
            problems.append(
                f"cluster {name}: platform_kube_system_uid is {uid}, but the cluster at {cluster.url} has {found}"
            )
    if problems:
        raise Refused(problems)


class Planner:
    """Works out a Plan for a list of objects on one cluster."""

    def __init__(self, cluster: Cluster, options: dict):
        """Hold the inputs.

        Args:
            cluster: where to look.
            options: the arguments of the action ``modelyard.core.plan``.
        """
        self.cluster = cluster
        self.options = options
        self.manager = options["field_manager"]
        self.adoptable = options["adopt_managers"]
        self.nodes: list[dict] = []
        self.leftovers = Leftovers(cluster, options)
        # What is listed for the pruning anyway need not be read one by one.
        self.live: dict[tuple, dict] = {}
        # The live namespaces, as far as this credential can see them; and what an unchanged object meets on its way.
        self.namespaces: dict[str, dict] = {}
        self.admission: Admission | None = None
        # The Applications that objects name, and who asks for one: all at once, for the same.
        self.applications: dict[tuple, dict | None] = {}
        self.asking = threading.Lock()

    def make(self) -> Plan:
        """Work the plan out; writes nothing.

        Raises:
            Refused: with everything that is wrong.
        """
        self.leftovers, self.applications = Leftovers(self.cluster, self.options), {}
        plan = Plan(kinds=self.options["recorded"])
        wanted = self._known(plan)
        self._check_names(wanted)
        self._check_access(wanted, plan)
        absent = self._namespaces(wanted, plan)
        present = [item for item in wanted if item["metadata"].get("namespace") not in absent]
        roles = {item["metadata"]["name"] for item in wanted if item["kind"] == "Role"}
        early = [item for item in wanted if item["metadata"].get("namespace") in absent]
        problems = [
            text
            for found in self.cluster.parallel(lambda item: _rehearse(self.cluster, item, roles), early)
            for text in found
        ]
        plan.release = self._released()
        problems += self._applications(plan)
        problems += self._misfits(wanted, plan)
        released = {change.item["metadata"]["name"] for change in plan.release if change.item["kind"] == "Application"}
        found = self.leftovers.look(absent) if self.options["components"] else []
        self.live = {identity(item): item for item in found}
        self.admission = Admission(self.cluster, self.namespaces) if present else None
        results = self.cluster.parallel(lambda item: self._examine(item, roles, released), present)
        problems += [text for result in results for text in result[0]]
        if problems:
            raise Refused(list(dict.fromkeys(problems)))
        changes = {id(item): change for item, (_, change, _) in zip(present, results, strict=True)}
        for item in sorted(wanted, key=install_rank):
            change = changes[id(item)] if id(item) in changes else Change("create", item, None, item)
            if change:
                plan.changes.append(change)
        plan.notices += [notice for _, _, notices in results for notice in notices]
        plan.notices += [f"the API server warns: {text}" for text in self.cluster.warnings]
        gone = [*plan.release, *self._prune(wanted, found, plan)]
        # What hands its objects on goes before the new owner comes: two Applications would fight over them.
        plan.release = [change for change in gone if _goes_first(change)]
        plan.prune = [change for change in gone if not _goes_first(change)]
        problems, notices = unmet.Lookup(self.cluster, wanted, self.options["holds"]).check(plan.changes)
        plan.notices += notices
        if problems := [*problems, *self._quotas(plan, absent)]:
            raise Refused(problems)
        self._foresee(plan)
        return plan

    def holds(self, item: dict) -> bool:
        """Tell whether the cluster has an object as it is to be."""
        problems, change, _ = self._examine(item, set(), set())
        return not problems and change is None

    def _known(self, plan: Plan) -> list[dict]:
        """Leave out objects whose API the cluster lacks, with a notice, or refuse them."""
        wanted, problems = [], []
        for item in self.options["objects"]:
            if resource := self.cluster.resource(item["apiVersion"], item["kind"]):
                wanted.append(item)
                if not resource["namespaced"]:
                    problems.append(
                        f"{describe(item)}: {item['kind']} belongs to no namespace, and a run writes to its own alone"
                    )
                continue
            plan.missing.append(item)
            text = f"{describe(item)}: the cluster has no API {item['apiVersion']} {item['kind']} (its CRD is not installed)"
            if self.options["require_apis"]:
                problems.append(f"{text}; install it, or set apply_require_apis to false to leave such objects out")
            else:
                plan.notices.append(f"{text}; left out")
        if problems:
            raise Refused(problems)
        return wanted

    def _check_names(self, wanted: list[dict]) -> None:
        seen, problems = {}, []
        for item in wanted:
            name = identity(item)
            if name in seen:
                first, second = (found["metadata"]["labels"].get(COMPONENT) for found in (seen[name], item))
                problems.append(
                    f"{describe(item)} is rendered twice, by {first} and by {second}: two objects can't have one name"
                )
            seen[name] = item
        if problems:
            raise Refused(problems)

    def _check_access(self, wanted: list[dict], plan: Plan) -> None:
        entries = []
        for item in wanted:
            resource = self.cluster.resource(item["apiVersion"], item["kind"])
            place = (
                item["apiVersion"].rpartition("/")[0],
                resource["name"],
                item["metadata"].get("namespace", "") if resource["namespaced"] else "",
            )
            entries += [(verb, *place) for verb in ("get", "create", "patch")]
            if item["kind"] == "Deployment":
                namespace = item["metadata"]["namespace"]
                entries += [
                    ("list", "", "pods", namespace),
                    ("get", "", "pods/log", namespace),
                    ("list", "", "events", namespace),
                    ("list", "apps", "replicasets", namespace),
                ]
        for kind in [kind for kind in self.leftovers.pruned() if "name" not in kind]:
            place = (
                kind["api_version"].rpartition("/")[0],
                self.cluster.resource(kind["api_version"], kind["kind"])["name"],
                kind["namespace"],
            )
            entries += [("list", *place), ("delete", *place)]
        entries += [
            (verb, "coordination.k8s.io", "leases", self.options["lock_namespace"])
            for verb in ("get", "create", "update")
        ]
        entries += [
            (verb, "", "configmaps", self.options["lock_namespace"])
            for verb in ("get", "list", "create", "patch", "delete")
        ]
        helpful = self.leftovers.rights()
        denied: dict[tuple, list[str]] = {}
        for verb, *place in self.cluster.denied(sorted({*entries, *helpful})):
            right = (verb, *place)
            if right in helpful and (notice := self.leftovers.hide(helpful[right])):
                plan.notices.append(notice)
            if right in entries:
                denied.setdefault(tuple(place), []).append(verb)
        if denied:
            problems = [
                f"cluster {self.options['cluster_name']}: this credential may not {', '.join(verbs)} {resource}"
                + (f" ({group})" if group else "")
                + (f" in namespace {namespace}" if namespace else "")
                for (group, resource, namespace), verbs in denied.items()
            ]
            problems[-1] += "; docs/rbac.yaml has the rights that a run needs"
            raise Refused(problems)

    def _namespaces(self, wanted: list[dict], plan: Plan) -> set[str]:
        """Find the namespaces that are absent, to be created; refuse those that must exist."""
        problems = []
        known = {item["name"]: item for item in self.options["namespaces"]}
        for name in sorted({item["metadata"]["namespace"] for item in wanted if item["metadata"].get("namespace")}):
            try:
                live = self.cluster.get({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            except ApiError as error:
                if error.status != 403:
                    raise
                continue  # This credential can't see namespaces: the dry run of an object in it will tell.
            if live:
                self.namespaces[name] = live
            if live and live["status"].get("phase") == "Terminating":
                problems.append(f"namespace {name} is being deleted: wait until it is gone, then run again")
            elif not live and not known.get(name, {}).get("create"):
                problems.append(
                    f"namespace {name} does not exist, and nothing here creates it: create it, or set platform_create_namespaces to true (it creates platform_namespace)"
                )
            elif not live:
                plan.namespaces.append(known[name])
        if plan.namespaces and self.cluster.denied([("create", "", "namespaces", "")]):
            problems.append(
                "this credential may not create namespaces: create "
                + ", ".join(item["name"] for item in plan.namespaces)
                + " beforehand, or use one that may"
            )
        if problems:
            raise Refused(problems)
        return {item["name"] for item in plan.namespaces}

    def _misfits(self, wanted: list[dict], plan: Plan) -> list[str]:
        """Tell which Deployments no node can ever take.

        The nodes that their selectors find have the last word; without any (a pool that starts from zero, a credential
        that can't list nodes) it is the inventory's table of hardware profiles. That a node gives enough says nothing of what
        its DaemonSets take of it, so what the table says is a warning then.
        """
        pods = {
            item["metadata"]["name"]: item["spec"]["template"]["spec"]
            for item in wanted
            if item["kind"] == "Deployment"
        }
        nodes = self.nodes = readable(self.cluster.list, "v1", "Node", None, denied=[]) if pods else []
        problems = []
        for name in {**self.options["misfits"], **pods}:
            pod = pods.get(name, {})
            labels = pod.get("nodeSelector", {}).items()
            pool = [node for node in nodes if labels and labels <= node["metadata"].get("labels", {}).items()]
            told = self.options["misfits"].get(name, [])
            if pool:
                inventory = "; ".join(told)
                told = [
                    f"{text}. By the inventory: {inventory}" if inventory else text
                    for text in too_large(name, pod, pool)
                ]
                if inventory and not told:
                    plan.notices.append(
                        f"Deployment {name}: an empty node of its pool gives enough, and by the inventory it does not: {inventory}"
                    )
            problems += told
        return problems

    def _foresee(self, plan: Plan) -> None:
        """Say of servers whether they go on answering, and whether their new pods will find a GPU."""
        for change in [*plan.changes, *plan.prune]:
            change.notes += outage.notes(change, self.options["start_seconds"].get(change.item["metadata"]["name"]))
        fixed = [
            change for change in plan.changes if change.item["metadata"]["name"] not in self.options["autoscaled_pools"]
        ]
        plan.notices += room.warnings(self.cluster, self.nodes, fixed, plan.prune)

    def _quotas(self, plan: Plan, absent: set[str]) -> list[str]:
        """Tell what the namespaces' quotas have no room for."""
        problems = []
        namespaces = {change.item["metadata"].get("namespace") for change in plan.changes}
        for namespace in sorted(namespaces - absent - {None}):
            try:
                quotas = self.cluster.list("v1", "ResourceQuota", namespace)
                ranges = self.cluster.list("v1", "LimitRange", namespace) if quotas else []
            except ApiError as error:
                if error.status != 403:
                    raise
                continue  # This credential can't see them: the apply, or the rollout, will tell.
            here, gone = (
                [change for change in changes if change.item["metadata"].get("namespace") == namespace]
                for changes in (plan.changes, plan.prune)
            )
            problems += quota.exceeded(quotas, ranges, here, gone, self._plural)
        return problems

    def _plural(self, item: dict) -> str:
        return self.leftovers.plural({"api_version": item["apiVersion"], "kind": item["kind"]})

    def _examine(self, item: dict, roles: set[str], released: set[str]) -> tuple[list[str], Change | None, list[str]]:
        """Compare one object with the live one; returns problems, the change (or none) and notices."""
        live, adoptable = None, self.adoptable
        try:
            live = self.live.get(identity(item))
            if not live or live["apiVersion"] != item["apiVersion"]:
                live = self.cluster.get(item)
            item, adoptable = parking.left(item, live, self.manager, adoptable, self.cluster.now)
            if live and self._is_settled(item, live, adoptable):
                return self._compare(item, live, live, released, adoptable)
            try:
                result = self._rehearsed(item, live, self.options["force"], adoptable)
            except ApiError as error:
                conflicts = _conflicts(error)
                foreign = {name: paths for name, paths in conflicts.items() if not self._adopts(name, adoptable)}
                if not conflicts:
                    raise
                if foreign:
                    owners = "; ".join(f"{name} owns {', '.join(paths)}" for name, paths in foreign.items())
                    return (
                        [
                            f"{describe(item)}: {owners}. Leave the field to its owner (replicas: set autoscaled), or take it with apply_force=true"
                        ],
                        None,
                        [],
                    )
                result = self._rehearsed(item, live, True, adoptable)
            if not live:
                return [], Change("create", item, None, result), []
            if (live["metadata"].get("deletionTimestamp")) is not None:
                return [f"{describe(item)} is being deleted: wait until it is gone, then run again"], None, []
            return self._compare(item, live, result, released, adoptable)
        except ApiError as error:
            if _waits_for_role(item, error, roles):
                return [], Change("create", item, None, item), []
            return [_explain(item, error) + self._holders(live, error)], None, []

    def _is_settled(self, item: dict, live: dict, adoptable: list[str]) -> bool:
        """Tell whether a dry run would surely say that there is nothing to change."""
        # In this order: of the live object it is known that it is well-formed, and it has what others set.
        return bool(
            self.admission and settled.holds(item, live, self.manager, adoptable) and self.admission.passes(live)
        )

    def _holders(self, live: dict | None, error: ApiError) -> str:
        """Name those whose fields are left alone, where what they set may be what stands against ours."""
        others = fields.split(live, self.manager, self.adoptable)[2] if live and error.status == 422 else []
        names = sorted({entry["manager"] for entry in others if not entry.get("subresource")})
        if not names:
            return ""
        return (
            f". Fields of {', '.join(names)} are left alone: change them there, or add it to apply_adopt_managers, "
            "which takes them back"
        )

    def _adopts(self, manager: str, adoptable: list[str]) -> bool:
        # Ours, where kubectl wrote under our name: an update, which for the API server is another manager.
        return manager == self.manager or fields.matches(manager, adoptable)

    def _rehearsed(self, item: dict, live: dict | None, force: bool, adoptable: list[str]) -> dict:
        """Apply an object as a dry run.

        What a run takes over goes before it applies, but a dry run of the apply still meets it, and of some fields there can
        be only one: two ports of one name, httpGet beside tcpSocket. Then it is worked out without them.
        """
        try:
            return self.cluster.apply(item, self.manager, force, dry_run=True)
        except ApiError as error:
            if error.status != 422 or not live or not fields.split(live, self.manager, adoptable)[1]:
                raise
        taken = fields.absorbed(live, item, self.manager, adoptable)
        answer = self._replaced(item, live, fields.applied(live, item, taken, self.manager))
        answer["metadata"]["managedFields"] = taken
        return answer

    def _compare(
        self, item: dict, live: dict, result: dict, released: set[str], adoptable: list[str]
    ) -> tuple[list[str], Change | None, list[str]]:
        own, absorb, _ = fields.split(live, self.manager, adoptable)
        rest = fields.leftover(result, item, self.manager, adoptable)
        if rest:
            result = self._without(item, result, rest)
        takeover = bool(absorb)
        if fields.handed_over(item, own):
            takeover, result["spec"]["replicas"] = True, live["spec"]["replicas"]
        problems = [*self._argocd_problems(live, released), *_kept(item, live)]
        notices = [*_sync_notices(live), *self._overdue(live)]
        if shown(live) == shown(result) and not takeover and own == fields.split(result, self.manager, adoptable)[0]:
            return problems, None, notices
        change = Change("update", item, live, result, takeover, adoptable)
        for entry in absorb:
            trie = entry["fieldsV1"]
            found = difference.hidden(
                shown(live),
                shown(result),
                lambda path, trie=trie: fields.covers(trie, path) and path[-1] != hiding.NOTED,
            )
            taken = [difference.flat(lines) for lines in found]
            when = f"{entry['manager']} ({entry['time']})" if "time" in entry else entry["manager"]
            if taken:
                notices.append(f"{describe(item)}: taking back what {when} changed: {'; '.join(taken)}")
            elif not own:
                notices.append(f"{describe(item)}: adopting it from {when}")
        return problems, change, notices

    def _overdue(self, live: dict) -> list[str]:
        """Say of a server that was to be woken by now that it is still parked."""
        note = parking.read(live) if live["kind"] == "Deployment" else {}
        if not parking.overdue(note, self.cluster.now):
            return []
        name = live["metadata"]["name"]
        return [
            f"{describe(live)}: {parking.told(note)}. It is left parked, though that is over: wake it with {job.playbook('wake', 'wake_servers', name)}"
        ]

    def _without(self, item: dict, result: dict, rest: dict) -> dict:
        """What the server would make of an object once the fields of ``rest`` are gone (it fills defaults in again)."""
        less = fields.remove({key: value for key, value in result.items() if key != "status"}, rest)
        answer = self._replaced(item, result, less)
        answer["metadata"]["managedFields"] = result["metadata"].get("managedFields", [])
        return answer

    def _replaced(self, item: dict, result: dict, less: dict) -> dict:
        """What the server would make of ``less`` in the place of ``result``."""
        changed = [
            {"op": "add", "path": f"/{key}", "value": value}
            for key, value in less.items()
            if key not in ("apiVersion", "kind", "metadata", "status")
        ]
        changed += [{"op": "remove", "path": f"/{key}"} for key in result if key not in less and key != "status"]
        changed += [
            {"op": "add", "path": f"/metadata/{key}", "value": less["metadata"].get(key, empty)}
            for key, empty in METADATA.items()
        ]
        query = {"dryRun": "All", "fieldManager": self.manager}
        answer = self.cluster.request("PATCH", self.cluster.object_path(item), query, changed, JSON_PATCH)
        for key in METADATA:
            if not answer["metadata"].get(key):
                answer["metadata"].pop(key, None)
        return answer

    def _argocd_problems(self, live: dict, released: set[str]) -> list[str]:
        """Refuse an object that a living Argo CD Application still keeps in sync: two tools would fight over it."""
        # Argo CD marks what it applies with an annotation, or (before its version 3) with a label.
        metadata = live["metadata"]
        tracking = (metadata.get("annotations") or {}).get(TRACKING_ID) or (metadata.get("labels") or {}).get(INSTANCE)
        if not tracking or not self.cluster.resource(ARGOCD, "Application"):
            return []
        namespace, _, name = tracking.partition(":")[0].rpartition("_")
        namespace = namespace or self.options["argocd_namespace"]
        if name in released and namespace == self.options["argocd_namespace"]:
            return []
        named = {"apiVersion": ARGOCD, "kind": "Application", "metadata": {"namespace": namespace, "name": name}}
        with self.asking:
            if (namespace, name) not in self.applications:
                self.applications[namespace, name] = readable(self.cluster.get, named)
        application = self.applications[namespace, name]
        if not application or not _syncs(application):
            return []
        return [
            f"{describe(live)} is kept in sync by Argo CD's Application {namespace}/{name}: turn that off first (delete the Application without cascading), or deliver this cluster by GitOps (platform_delivery: gitops)"
        ]

    def _applications(self, plan: Plan) -> list[str]:
        """Refuse to deliver directly what Applications of ours for this cluster would sync from Git."""
        if GITOPS in self.options["components"] or not self.cluster.resource(ARGOCD, "Application"):
            return []
        selector = f"{MANAGED_BY}={PROJECT},{CLUSTER}={self.options['cluster_name']},{COMPONENT}={GITOPS}"
        namespace = self.options["argocd_namespace"]
        found = readable(self.cluster.list, ARGOCD, "Application", namespace, selector, denied=[])
        released = {change.item["metadata"]["uid"] for change in plan.release}
        found = [item for item in found if item["metadata"]["uid"] not in released]
        names = [item["metadata"]["name"] for item in found if _syncs(item)]
        if not names:
            return []
        return [
            f"Applications of this cluster sync by themselves, and would fight over what is applied here: {', '.join(names)}. "
            "Move back with playbooks/handover.yml, which removes them and not what they deployed; "
            f"or delete them (without a finalizer what they deployed stays): kubectl -n {namespace} delete applications {' '.join(names)}; "
            "or deliver this cluster by GitOps (platform_delivery: gitops)"
        ]

    def _released(self) -> list[Change]:
        """Find what GitOps delivery made for this cluster, when it is to be delivered directly from now on."""
        return [
            Change("remove", item, item, None, cascade=False if item["kind"] == "Application" else None)
            for item in sorted(self.leftovers.released(), key=install_rank, reverse=True)
        ]

    def _prune(self, wanted: list[dict], found: list[dict], plan: Plan) -> list[Change]:
        """Find live objects of this run's components that are no longer wanted, and tell of those that stay."""
        if not self.options["components"]:
            return []
        plan.kinds = self.leftovers.noted(wanted, found)
        keep = {identity(item) for item in wanted} | {name for item in wanted for name in generated(item)}
        plan.notices += self.leftovers.others(found, keep)
        gone = [item for item in self.leftovers.mine(found, self.options["components"]) if identity(item) not in keep]
        gone = [item for item in gone if identity(item)[:2] not in self.options["untouched"]]
        asked = {kinds.key(kind) for kind in self.options["prune"]}
        stays = [item for item in gone if identity(item)[:2] in kinds.LEFT - asked]
        plan.notices += [
            f"{describe(item)} is no longer wanted, and stays: a volume goes with its data. Delete it by hand ({_deletion(item)}), "
            "or name the kind in apply_prune_kinds"
            for item in stays
        ]
        return [
            Change("prune", item, item, None, cascade=self._cascade(item))
            for item in sorted(gone, key=install_rank, reverse=True)
            if item not in stays
        ]

    def _cascade(self, item: dict) -> bool | None:
        """Tell whether what an Application deployed goes with it: not what this inventory still wants."""
        if item["kind"] != "Application":
            return None
        # One that Argo CD has never looked at has deployed nothing, and no one would answer its finalizer.
        if not item.get("status"):
            return False
        part = (item["metadata"].get("annotations") or {}).get(argocd.PART)
        asked = self.options["cascade"] or argocd.FINALIZER in item["metadata"].get("finalizers", [])
        return bool(asked and part and part not in self.options["parts"])


def generated(item: dict) -> list[tuple]:
    """Name the Applications that Argo CD makes from a list of ours."""
    if item["kind"] != "ApplicationSet":
        return []
    lists = [generator["list"]["elements"] for generator in item["spec"]["generators"] if "list" in generator]
    group, _, namespace, _ = identity(item)
    return [(group, "Application", namespace, element["application"]) for elements in lists for element in elements]


def _goes_first(change: Change) -> bool:
    return change.item["kind"] in APPLICATIONS and not change.cascade


def _kept(item: dict, live: dict) -> list[str]:
    """Refuse what an apply would leave as it is, without an error."""
    if item["kind"] != "Service" or live["spec"].get("clusterIP") != "None" or item["spec"].get("clusterIP") == "None":
        return []
    return [
        f"{describe(item)} is headless (clusterIP: None), which can't be changed in place: delete it first ({_deletion(item)})"
    ]


def _deletion(item: dict) -> str:
    """Give the command that deletes an object."""
    metadata = item["metadata"]
    place = f"-n {metadata['namespace']} " if metadata.get("namespace") else ""
    return f"kubectl {place}delete {item['kind'].lower()} {metadata['name']}"


def _sync_notices(live: dict) -> list[str]:
    """Say of an Application what Argo CD could not sync, and of a Service's port that was changed by hand the way out."""
    if live["kind"] != "Application":
        return []
    operation = (live.get("status") or {}).get("operationState") or {}
    message = operation.get("message", "")
    # While it tries again, it is running.
    if operation.get("phase") not in ("Failed", "Error") and not re.search(r"\bfailed\b", message):
        return []
    told = f"Argo CD could not sync {describe(live)}: {message}"
    service = re.search(r'Service "([^"]+)" is invalid: spec\.ports.*Duplicate value', message)
    if service:
        namespace, own = live["spec"]["destination"]["namespace"], live["metadata"]
        # Argo CD does not try a commit again that it could not sync; an operation has no options but its own.
        sync = {"operation": {"sync": {"syncOptions": live["spec"].get("syncPolicy", {}).get("syncOptions", [])}}}
        told += (
            ". Server-side apply takes a port whose number was changed by hand for another one. Have Argo CD make the Service "
            f"anew: kubectl -n {namespace} delete service {service[1]}; "
            f"kubectl -n {own['namespace']} patch application {own['name']} --type merge --patch {shlex.quote(json.dumps(sync))}"
        )
    return [told]


def _syncs(application: dict) -> bool:
    """Tell whether Argo CD syncs an Application by itself. An empty dictionary does, without prune and self-heal."""
    automated = (application["spec"].get("syncPolicy") or {}).get("automated")
    return automated is not None and automated.get("enabled") is not False


def _conflicts(error: ApiError) -> dict[str, list[str]]:
    """Managers in the way and the fields they own, from a conflict (409) of server-side apply."""
    found: dict[str, list[str]] = {}
    for cause in error.causes if error.status == 409 else []:
        if cause.get("reason") == "FieldManagerConflict":
            found.setdefault(cause["message"].split('"')[1], []).append(cause["field"].lstrip("."))
    return found


def _explain(item: dict, error: ApiError) -> str:
    """Say what the API server has against an object, and what to do."""
    name, text = describe(item), str(error)
    if error.status == 403:
        return f"{name}: forbidden: {text}"
    if "field is immutable" in text:
        return f"{name}: {text}. An immutable field can't be changed in place: delete the object first ({_deletion(item)}), or give it back its old value"
    if "not declared in schema" in text or "unknown field" in text or "strict decoding" in text:
        return f"{name}: a field that Kubernetes does not know: {text}"
    return f"{name}: the API server refuses it ({error.status}): {text}"


def _waits_for_role(item: dict, error: ApiError, roles: set[str]) -> bool:
    """Tell whether a binding can't be dry-run only because the same run is to make its Role first."""
    return item["kind"] == "RoleBinding" and error.status == 404 and item["roleRef"]["name"] in roles


def _rehearse(cluster: Cluster, item: dict, roles: set[str]) -> list[str]:
    """Dry-run the creation of an object whose namespace does not exist yet, in one that always does.

    Policies of that namespace say nothing about the real one, so only what is wrong with the object itself counts.
    """
    there = {**item, "metadata": {**item["metadata"], "namespace": "default"}}
    path = cluster.path(item["apiVersion"], item["kind"], "default")
    try:
        cluster.request("POST", path, {"dryRun": "All", "fieldValidation": "Strict"}, there)
    except ApiError as error:
        foreign = error.status in (403, 409) and "attempting to grant" not in str(error)
        if foreign or "admission" in str(error) or _waits_for_role(item, error, roles):
            return []
        return [_explain(item, error)]
    return []
