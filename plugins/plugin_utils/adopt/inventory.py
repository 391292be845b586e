"""Writes the inventory of what runs in a namespace, and holds it against that by rendering it; never asks a cluster, and applies nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.adopt import (
    around,
    command,
    credentials,
    pod,
    shared,
    triton,
    verify,
    vllm,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.command import Command
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.result import (
    PROFILES,
    Adopted,
    Render,
    Result,
    Server,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import hiding
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import MANAGED_BY, PROJECT
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import load_kinds

NOTHING = {
    "vllm_judge_variant": "none",
    "irsa_workflow_enabled": False,
    "vllm_enabled_profiles": [],
    "triton_enabled_profiles": [],
    "mlserver_enabled_profiles": [],
}
# Profiles that the roles have themselves.
BUILTIN = ("vllm", "cpu", "gpu", "mlserver")
# What stands there in any case: by its profile a server is told of.
KEPT = ("name", "tensor_parallel_size")
# Where nothing and null are the same.
EMPTIES = ("adapter_slots", "extra_env", "hf_token_secret", "api_key_secret", "pod_labels", "labels", "extra_args")
OTHERS = ("StatefulSet", "DaemonSet", "LeaderWorkerSet", "Job", "Pod")
# What makes a Pod of a kind that is looked at itself.
MAKERS = ("ReplicaSet", "StatefulSet", "DaemonSet", "LeaderWorkerSet", "Job")


def adopt(objects: list[Mapping], place: Mapping, render: Render, brought: Mapping[str, Mapping]) -> Result:
    """Write the inventory of what runs.

    Args:
        objects: Deployments and all else of the namespace, as the API server has them.
        place: variables that say which cluster and namespace it is.
        render: gives the rendering of variables.
        brought: of each kind of server, and of the role apply, its own values.
    """
    servers, others, used = [], [], set()
    for item in objects:
        if item["kind"] in OTHERS and (kind := _runs(item)):
            maker = _maker(item)
            by = f" (made by {maker['kind']} {maker['name']})" if maker else ""
            others.append(
                f"{item['kind']} {item['metadata']['name']}{by} runs {kind}: only Deployments can be expressed"
            )
        if item["kind"] != "Deployment":
            continue
        if (item["metadata"].get("labels") or {}).get(MANAGED_BY) == PROJECT:
            others.append(f"Deployment {item['metadata']['name']} is modelyard's already: it is in some inventory")
            continue
        for container, words in _mains(item):
            if not words.kind or (words.lost and not words.words and container.get("command")):
                told = hiding.hide_text("; ".join(words.lost))
                others.append(f"Deployment {item['metadata']['name']}, container {container['name']}: {told}")
                continue
            name = item["metadata"]["name"]
            if name in used:
                others.append(
                    f"Deployment {name}, container {container['name']}: a second server in one pod can't be expressed"
                )
                continue
            used.add(name)
            one = _server(item, container, words, objects, brought[words.kind])
            # A Deployment may be called as another's profile.
            while any(other.profile == one.profile for other in servers):
                one.profile += "-2"
            servers.append(one)
    result = Result({}, servers, others=others)
    result.variables = _variables(place, servers, brought["apply"]["adopt_managers"])
    verify.verify(result, render)
    return result


def _maker(item: Mapping) -> Mapping | None:
    return next((owner for owner in item["metadata"].get("ownerReferences") or [] if owner.get("controller")), None)


def _runs(item: Mapping) -> str:
    """Tell which server something else than a Deployment runs; of a Pod only where what made it is not looked at."""
    maker = _maker(item)
    if maker and (item["kind"] != "Pod" or maker["kind"] in MAKERS):
        return ""
    spec = item["spec"]
    template = (
        item
        if item["kind"] == "Pod"
        else spec.get("template") or (spec.get("leaderWorkerTemplate") or {}).get("workerTemplate")
    )
    return next((found.kind for _, found in _mains({"spec": {"template": template}})), "") if template else ""


def _mains(item: Mapping) -> list[tuple[Mapping, Command]]:
    """Find the containers that are servers."""
    containers = item["spec"]["template"]["spec"]["containers"]
    return [(container, found) for container in containers if (found := command.read(container))]


def _server(item: Mapping, container: Mapping, words: Command, objects: list[Mapping], brought: Mapping) -> Server:
    env = [one for one in container.get("env") or [] if one["name"] not in words.used]
    found = pod.read(item, {**container, "env": env}, words.exports, brought)
    found.lost += [f"command: {text}" for text in words.lost]
    if words.kind == "vllm":
        claims = {one["metadata"]["name"]: one for one in objects if one["kind"] == "PersistentVolumeClaim"}
        vllm.fill(found, words, claims)
    elif words.kind == "triton":
        triton.fill(found, words)
    else:
        triton.fill_mlserver(found, words)
    _ports(found, container, words.kind)
    around.fill(found, item, objects, words.kind)
    _grace(found, brought)
    _tools(found, item)
    if words.kind != "vllm":
        # The role's own are for its own IAM role.
        found.settings["access"] = []
    credentials.take_out(found)
    name = item["metadata"]["name"]
    profile = f"{name}-server" if name in BUILTIN else name
    kind = next(kind for kind in load_kinds() if kind.role == words.kind)
    _shorten(found, {**brought, **kind.layer(profile, {})})
    return Server(words.kind, profile, item, found, words=words.words, takeover=_takeover(item))


def _tools(found: Adopted, item: Mapping) -> None:
    """Say whose a Deployment is until now: its tool would undo, or remove, what a run makes of it."""
    notes, labels = item["metadata"].get("annotations") or {}, item["metadata"].get("labels") or {}
    if release := notes.get("meta.helm.sh/release-name"):
        namespace = notes.get("meta.helm.sh/release-namespace", item["metadata"].get("namespace"))
        found.notes.append(
            f"Helm's release {release} made it, and helm uninstall would remove it: after the first run let Helm forget it "
            f"(kubectl -n {namespace} delete secrets -l owner=helm,name={release}), and remove what of it the inventory has not"
        )
    tracked = notes.get("argocd.argoproj.io/tracking-id", "").partition(":")[0] or labels.get(
        "argocd.argoproj.io/instance"
    )
    if tracked:
        found.notes.append(
            f"Argo CD's Application {tracked} delivers it: delete that first, without what it deployed (argocd app delete {tracked} --cascade=false)"
        )


def _shorten(found: Adopted, brought: Mapping) -> None:
    """Leave out what the role has anyway."""
    for key in [key for key in found.settings if key not in KEPT]:
        value, own = found.settings[key], brought.get(key)
        if value == own or (key in EMPTIES and value in ({}, [], "", None) and own in ({}, [], "", None)):
            del found.settings[key]


def _ports(found: Adopted, container: Mapping, kind: str) -> None:
    """Note by which names the server's ports were known: a Service, a monitor may name them."""
    numbers = {found.settings.get(f"{name}_port", port): name for name, port in around.PORTS.get(kind, {}).items()}
    for port in container.get("ports") or []:
        if port["containerPort"] in numbers and port.get("name"):
            found.ports[port["name"]] = numbers[port["containerPort"]]


def _grace(found: Adopted, brought: Mapping) -> None:
    """Keep the drain below the grace that the pod has."""
    grace = found.settings.get("termination_grace_seconds")
    drain = brought.get("drain_seconds", 10)
    if grace and grace <= drain + 30:
        found.settings["drain_seconds"] = max(0, grace - 31)


def _takeover(item: Mapping) -> str:
    """Say what stands against taking a Deployment over under its name: who makes it, or that a selector can't be changed."""
    if maker := _maker(item):
        return (
            f"{maker['kind']} {maker['name']} makes it, and would undo what a run changes: give the profile another name, and delete "
            f"{maker['kind']} {maker['name']} once the new pods are ready"
        )
    name, selector = item["metadata"]["name"], item["spec"]["selector"]
    if selector.get("matchLabels") == {"app": name} and not selector.get("matchExpressions"):
        return ""
    namespace = item["metadata"].get("namespace", "NAMESPACE")
    old = ",".join(f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items())
    return (
        f"its selector is {old or selector}, the role's is app={name}, and Kubernetes lets nobody change one. Either delete the "
        f"Deployment and leave its pods: kubectl -n {namespace} delete deployment {name} --cascade=orphan; run the playbook; when the "
        f"new pods are ready, delete the old ones: kubectl -n {namespace} delete pods -l {old},app!={name}. Or run both for a while: "
        f"give the profile another name ({name}-new), and delete the Deployment {name} once the new pods are ready. Both need GPUs for "
        "old and new pods at once, unless the old ones go first"
    )


def _by_helm(item: Mapping) -> bool:
    notes, fields = item["metadata"].get("annotations") or {}, item["metadata"].get("managedFields") or []
    return "meta.helm.sh/release-name" in notes or any(entry.get("manager") == "helm" for entry in fields)


def _variables(place: Mapping, servers: list[Server], managers: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {**place, **NOTHING}
    if objects := shared.separate(servers):
        found["platform_extra_objects"] = objects
    for kind, (profiles, enabled) in PROFILES.items():
        mine = [server for server in servers if server.kind == kind]
        if mine:
            found[profiles] = {server.profile: server.found.settings for server in mine}
            found[enabled] = [server.profile for server in mine]
    if "vllm_profiles" not in found:
        found["vllm_enabled"] = False
        del found["vllm_enabled_profiles"]
    for server in servers:
        for key, value in server.found.platform.items():
            found[key] = list(dict.fromkeys([*found.get(key, []), *value]))
    if any(_by_helm(server.live) for server in servers):
        # Else what Helm set, and the role sets otherwise, is a conflict.
        found["apply_adopt_managers"] = [*managers, "helm"]
    roles = [str(server.found.settings.get("role_name") or "") for server in servers]
    accounts = [match[1] for role in roles if (match := re.fullmatch(r"arn:[\w-]+:iam::(\d{12}):role/.+", role))]
    found["platform_irsa_enabled"] = any(roles)
    if accounts:
        found["platform_aws_account_id"] = accounts[0]
    return found
