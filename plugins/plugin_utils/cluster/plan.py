"""Works out what a run would do to a cluster; never writes.

Every object is read and server-side applied as a dry run, so that the API server itself says what would change, what
is invalid and whose field is in the way. Only of one that is surely as it is to be (``cluster/settled.py``) it need not be asked.
An object whose live state would not change is not applied at all.
"""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import (
    kinds,
    outage,
    quota,
    room,
    unmet,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.admission import Admission
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.change import Change, Plan, install_rank
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    ApiError,
    Cluster,
    describe,
    readable,
    same_url,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.examination import Examiner, deletion
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.fit import too_large
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.leftovers import Leftovers
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import COMPONENT, identity
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.syncing import APPLICATIONS, cascades, generated
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused


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
        self.manager, self.adoptable = options["field_manager"], options["adopt_managers"]
        self.nodes: list[dict] = []
        self.leftovers = Leftovers(cluster, options)
        # What is listed for the pruning anyway need not be read one by one.
        self.live: dict[tuple, dict] = {}
        # The live namespaces, as far as this credential can see them.
        self.namespaces: dict[str, dict] = {}

    def make(self) -> Plan:
        """Work the plan out; writes nothing.

        Raises:
            Refused: with everything that is wrong.
        """
        self.leftovers = Leftovers(self.cluster, self.options)
        plan = Plan(kinds=self.options["recorded"])
        wanted = self._known(plan)
        self._check_names(wanted)
        self._check_access(wanted, plan)
        absent = self._namespaces(wanted, plan)
        present = [item for item in wanted if item["metadata"].get("namespace") not in absent]
        early = [item for item in wanted if item["metadata"].get("namespace") in absent]
        plan.release = self._released()
        found = self.leftovers.look(absent) if self.options["components"] else []
        self.live = {identity(item): item for item in found}
        examiner = Examiner(
            self.cluster,
            self.options,
            live=self.live,
            admission=Admission(self.cluster, self.namespaces) if present else None,
            roles={item["metadata"]["name"] for item in wanted if item["kind"] == "Role"},
            released={
                change.item["metadata"]["name"] for change in plan.release if change.item["kind"] == "Application"
            },
        )
        problems = [text for told in self.cluster.parallel(examiner.rehearse, early) for text in told]
        problems += examiner.syncing.fights({change.item["metadata"]["uid"] for change in plan.release})
        problems += self._misfits(wanted, plan)
        results = self.cluster.parallel(examiner.examine, present)
        problems += [text for result in results for text in result.problems]
        if problems:
            raise Refused(list(dict.fromkeys(problems)))
        changes = {id(item): result.change for item, result in zip(present, results, strict=True)}
        for item in sorted(wanted, key=install_rank):
            change = changes[id(item)] if id(item) in changes else Change("create", item, None, item)
            if change:
                plan.changes.append(change)
        plan.notices += [notice for result in results for notice in result.notices]
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
            f"{describe(item)} is no longer wanted, and stays: a volume goes with its data. Delete it by hand ({deletion(item)}), "
            "or name the kind in apply_prune_kinds"
            for item in stays
        ]
        return [
            Change("prune", item, item, None, cascade=cascades(item, self.options))
            for item in sorted(gone, key=install_rank, reverse=True)
            if item not in stays
        ]


def _goes_first(change: Change) -> bool:
    return change.item["kind"] in APPLICATIONS and not change.cascade
