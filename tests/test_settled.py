"""What a run need not dry-run: whatever is done to an object, the plan says what it would say if it asked the API server of each."""

import copy
import random
import time

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import client
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.admission import Admission
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import MERGE_PATCH, ApiError, describe
from delivering import NAMESPACE, Both, act, deliver, local, rendering
from test_apply import deployment
from test_drift import PLATFORM, platform  # noqa: F401 (a fixture)
from test_leftovers import config_map, cron_job

POLICIES = "/apis/admissionregistration.k8s.io/v1"
RANDOM_EDITS, RANDOM_INPUTS = 100, 150
HELM = {"fieldManager": "helm", "force": "true"}


def test_of_a_platform_that_is_as_it_is_to_be_next_to_nothing_is_asked(platform):  # noqa: F811
    both = Both({"kubeconfig": str(platform.kubeconfig)}, local(platform, **PLATFORM))
    assert [both.compare(item) for item in both.objects] == [None] * len(both.objects)
    # A claim, of which the API server may have something to say, and a list of a custom resource in which it fills in defaults.
    assert both.fast.asked == {
        "PersistentVolumeClaim ml-models/vllm-fast-cache",
        "HTTPRoute ml-models/triton-inference-gpu",
    }


# --- What is rendered -----------------------------------------------------------------------------------------


def places(value, path=()):
    """All places of an object, as (path, value), but for what names it and what only the API server writes."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in below:
        here = (*path, key)
        if here[0] in ("apiVersion", "kind", "status") or here[:2] in [
            ("metadata", key)
            for key in (
                "name",
                "namespace",
                "uid",
                "managedFields",
                "resourceVersion",
                "creationTimestamp",
                "generation",
            )
        ]:
            continue
        if here != ("metadata",):
            yield here, one
        yield from places(one, here)


def changed(rng, item):
    """Give a copy of an object in which one thing is another."""
    found = copy.deepcopy(item)
    path, value = rng.choice(list(places(found)))
    parent = found
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    what = rng.choice(["value", "value", "remove", "add", "order", "twice", "empty"])
    if what == "remove":
        del parent[key]
    elif what == "add" and isinstance(value, dict):
        value[f"x{rng.randrange(3)}"] = rng.choice(["1", 1, {}, True])
    elif what == "order" and isinstance(value, list) and len(value) > 1:
        value.append(value.pop(0))
    elif what == "twice" and isinstance(value, list) and value:
        value.append(copy.deepcopy(value[0]))
    elif what == "empty" and isinstance(value, dict | list | str):
        parent[key] = type(value)()
    elif isinstance(value, bool):
        parent[key] = not value
    elif isinstance(value, int):
        parent[key] = value + rng.choice([-1, 1])
    elif isinstance(value, str):
        respelt = {"4": "4000m", "1Gi": "1024Mi", "TCP": "UDP", "2": 2}
        parent[key] = respelt.get(value, rng.choice([f"{value}x", value.upper(), "1"]))
    return found


def rewritten(value, rewrite):
    """Give a copy with each text in it rewritten."""
    if isinstance(value, dict):
        return {key: rewritten(one, rewrite) for key, one in value.items()}
    if isinstance(value, list):
        return [rewritten(one, rewrite) for one in value]
    return rewrite(value) if isinstance(value, str) else value


def test_whatever_the_inventory_says_instead_the_plan_is_that_of_a_dry_run(platform):  # noqa: F811
    both, rng = Both({"kubeconfig": str(platform.kubeconfig)}, local(platform, **PLATFORM)), random.Random(1)
    for _ in range(RANDOM_INPUTS):
        both.compare(changed(rng, rng.choice(both.objects)))
    assert both.changes > RANDOM_INPUTS / 3
    # Quantities respelt are the same, and known as such.
    (deployment,) = [one for one in both.objects if describe(one).endswith("Deployment ml-models/triton-inference")]
    limits = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    limits["cpu"] = f"{int(limits['cpu']) * 1000}m"
    both.fast.asked.clear()
    assert (both.compare(deployment), both.fast.asked) == (None, set())
    # In another format they are another value, and of what another owns, too, each other word is a conflict.
    both.cluster.request("PATCH", both.cluster.object_path(deployment), HELM, deployment, client.APPLY)
    both.compare(deployment)
    both.compare(rewritten(deployment, lambda text: str(1024**3) if text == "1Gi" else text))
    nothing = {"apiVersion": "apps/v1", "kind": "Deployment"}
    nothing["metadata"] = {key: deployment["metadata"][key] for key in ("name", "namespace")}
    both.cluster.request("PATCH", both.cluster.object_path(deployment), HELM, nothing, client.APPLY)
    assert both.fast.cluster.warnings == both.full.cluster.warnings


# --- What the cluster does to every object ---------------------------------------------------------


def config_maps(operation):
    """What a policy's rule says of config maps."""
    return {"apiGroups": [""], "apiVersions": ["v1"], "operations": [operation], "resources": ["configmaps"]}


def test_what_a_new_policy_would_change_is_planned(platform):  # noqa: F811
    found, connection = local(platform, **PLATFORM), {"kubeconfig": str(platform.kubeconfig)}
    assert deliver(found, connection).failed == ""
    names = sorted(one["metadata"]["name"] for one in Both(connection, found).objects if one["kind"] == "ConfigMap")
    patch = 'Object{metadata: Object.metadata{labels: {"team": "models"}}}'
    spec = {
        "matchConstraints": {"resourceRules": [config_maps("UPDATE")]},
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": patch}}],
    }
    bound = {"metadata": {"name": "teams"}, "spec": {"policyName": "teams"}}

    def planned(wanted):
        """Wait until that is planned: a policy comes into force, and goes, a moment later."""
        deadline, changes = time.monotonic() + 60, None
        while changes != wanted and time.monotonic() < deadline:
            changes = sorted(act("plan", [], check_mode=True, connection=connection, rendered=found)["changes"])
        return changes

    assert planned([]) == []
    platform.api("POST", f"{POLICIES}/mutatingadmissionpolicies", {"metadata": {"name": "teams"}, "spec": spec})
    platform.api("POST", f"{POLICIES}/mutatingadmissionpolicybindings", bound)
    change = 'metadata.labels.team (none) -> "models"'
    wanted = [f"update ConfigMap {NAMESPACE}/{name}: {change}" for name in names]
    assert planned(wanted) == wanted
    # Not while it is on its way out: then nothing would be asked any more.
    platform.api("DELETE", f"{POLICIES}/mutatingadmissionpolicybindings/teams")
    assert planned([]) == []
    platform.api("DELETE", f"{POLICIES}/mutatingadmissionpolicies/teams")


def test_where_webhooks_may_not_be_seen_all_is_asked(platform):  # noqa: F811
    found, connection = local(platform, **PLATFORM), {"kubeconfig": str(platform.kubeconfig)}
    platform.kubectl("create", "clusterrolebinding", "edits", "--clusterrole=admin", "--user=ann")
    both = Both({**connection, "impersonate_user": "ann"}, found)
    wanted = [item for item in both.objects if item["kind"] in ("ConfigMap", "Service")]
    assert [both.compare(item) for item in wanted] == [None] * len(wanted)
    assert both.fast.asked == {describe(item) for item in wanted}


# --- Edits, which leave nothing as it was ------------------------------------------------------------


def edit(rng, api, item):
    """Change a live object in one of the ways in which people and programs do."""
    live, path = api.get(item), api.object_path(item)
    other = changed(rng, live)
    applied = changed(rng, item) if rng.random() < 0.7 else copy.deepcopy(item)
    manager = rng.choice(["kubectl-edit", "modelyard", "helm"])
    forced = {"fieldManager": rng.choice(["kubectl", "modelyard", "helm"]), "force": "true"}
    other["metadata"].pop("resourceVersion")
    books = live["metadata"].get("managedFields", [])
    ours = [one for one in books if one["manager"] == "modelyard"]
    way = rng.choice(["replace", "replace", "apply", "apply", "books", "copied books", "another's books"])
    if way == "replace":
        api.request("PUT", path, {"fieldManager": manager}, other)
    elif way == "apply":
        api.request("PATCH", path, forced, applied, client.APPLY)
    elif way == "books":
        api.request("PATCH", path, {}, {"metadata": {"managedFields": [{}]}}, MERGE_PATCH)
    else:
        if way == "copied books":
            # What our books say is kept, and the values are others.
            other["metadata"]["managedFields"] = books
        else:
            other = live
            other["metadata"]["managedFields"] = [{**one, "manager": "helm"} for one in ours] + books[
                : rng.randrange(2)
            ]
        api.request("PUT", path, {"fieldManager": manager}, other)


def test_whatever_is_edited_the_plan_is_that_of_a_dry_run(platform):  # noqa: F811
    both, rng = Both({"kubeconfig": str(platform.kubeconfig)}, local(platform, **PLATFORM)), random.Random(2)
    for _ in range(RANDOM_EDITS):
        item = rng.choice(both.objects)
        try:
            edit(rng, both.cluster, item)
        except ApiError:  # An object that the API server does not take.
            continue
        both.compare(item)
        if rng.random() < 0.8:
            try:
                both.take_back(item)
            except ApiError:
                # What is immutable is made anew.
                both.cluster.request("DELETE", both.cluster.object_path(item))
    assert both.changes > RANDOM_EDITS / 4


# --- Requests ----------------------------------------------------------------------------------------


def test_pods_are_asked_of_where_the_namespace_looks_at_them(cluster):
    api = client.Cluster({"kubeconfig": str(cluster.kubeconfig)})
    items = [cron_job("night"), deployment(), config_map("notes")]
    for item in items:
        item["metadata"]["namespace"] = NAMESPACE
    looks = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
    for namespaces, passes in (({NAMESPACE: {"metadata": {}}}, True), ({NAMESPACE: looks}, False), ({}, False)):
        found = Admission(api, namespaces)
        assert [found.passes(item) for item in items] == [passes, passes, True]


def test_a_run_with_nothing_to_change_makes_one_list_of_each_kind(cluster, clean_platform, monkeypatch):
    found, connection = local(cluster), {"kubeconfig": str(cluster.kubeconfig)}
    assert deliver(found, connection).failed == ""
    asked, send = [], client.Cluster._send

    def counted(self, method, path, *rest):
        asked.append((method, path.removeprefix("/apis").removeprefix("/api")))
        return send(self, method, path, *rest)

    monkeypatch.setattr(client.Cluster, "_send", counted)
    assert deliver(found, connection).changed == 0
    place = f"/namespaces/{NAMESPACE}"
    listed = {
        f"/v1{place}/": ["configmaps", "serviceaccounts", "services"],
        f"/apps/v1{place}/": ["deployments"],
        f"/networking.k8s.io/v1{place}/": ["networkpolicies"],
        f"/policy/v1{place}/": ["poddisruptionbudgets"],
        f"/rbac.authorization.k8s.io/v1{place}/": ["rolebindings", "roles"],
        f"/monitoring.coreos.com/v1{place}/": ["prometheusrules", "servicemonitors"],
    }
    kinds = [f"{path}{name}" for path, names in listed.items() for name in names]
    planned = [
        *("", "/v1"),  # discovery
        f"/coordination.k8s.io/v1{place}/leases/modelyard",  # whether another run is at work, and what kinds earlier ones made
        "/authorization.k8s.io/v1/selfsubjectrulesreviews",  # what this credential may do
        f"/v1{place}",  # is the namespace there, is it being deleted, does it warn of pods
        "/argoproj.io/v1alpha1/namespaces/argocd/applications",  # does Argo CD deliver the same
        "/v1/nodes",  # do the pods fit
        *(f"/{POLICIES.removeprefix('/apis/')}/{name}admissionpolicies" for name in ("mutating", "validating")),
        *(f"/{POLICIES.removeprefix('/apis/')}/{name}webhookconfigurations" for name in ("mutating", "validating")),
        *kinds,
    ]
    # A process of its own: where it runs.
    followed = ["/v1", f"/v1{place}/pods"]
    assert sorted(path for _, path in asked) == sorted([*planned, *followed])
    assert [path for method, path in asked if method != "GET"] == ["/authorization.k8s.io/v1/selfsubjectrulesreviews"]


def test_what_a_namespace_warns_of_is_told_in_each_run(cluster, clean_platform):
    found, connection = rendering(deployment(), api_server=cluster.url), {"kubeconfig": str(cluster.kubeconfig)}
    assert deliver(found, connection).failed == ""
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/warn=restricted")
    again = deliver(found, connection)
    assert again.changed == 0
    assert "the API server warns: would violate PodSecurity" in again.text
