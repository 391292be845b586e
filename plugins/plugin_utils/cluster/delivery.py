"""Picks from a rendering what one run applies to a cluster, and how; never asks a cluster.

Never both for one object: by GitOps only the Applications are applied, and Argo CD applies the rest; directly it is the reverse.
"""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import kinds
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import GITOPS, component_of

KINDS = [
    {"api_version": "v1", "kind": "ServiceAccount"},
    {"api_version": "rbac.authorization.k8s.io/v1", "kind": "Role"},
    {"api_version": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding"},
    {"api_version": "v1", "kind": "ConfigMap"},
    {"api_version": "networking.k8s.io/v1", "kind": "NetworkPolicy"},
    {"api_version": "v1", "kind": "Service"},
    {"api_version": "policy/v1", "kind": "PodDisruptionBudget"},
    {"api_version": "apps/v1", "kind": "Deployment"},
    {"api_version": "monitoring.coreos.com/v1", "kind": "ServiceMonitor"},
    {"api_version": "monitoring.coreos.com/v1", "kind": "PrometheusRule"},
]
# A set goes before its Applications: it would make them anew.
GITOPS_KINDS = [
    {"api_version": "argoproj.io/v1alpha1", "kind": kind} for kind in ("ApplicationSet", "Application", "AppProject")
]


def is_gitops(rendered: Mapping) -> bool:
    """Tell whether Argo CD applies the objects."""
    return rendered["cluster"]["delivery"] == "gitops"


def scope(rendered: Mapping) -> str:
    """Give the namespace that a run works in, where its lock is too."""
    cluster = rendered["cluster"]
    return cluster["argocd_namespace"] if is_gitops(rendered) else cluster["namespace"]


def proxied(rendered: Mapping, service: str, path: str) -> str:
    """Give the path at the API server that leads to a path of a model server, through its Service's port http."""
    return f"/api/v1/namespaces/{rendered['cluster']['namespace']}/services/{service}:http/proxy{path}"


def proxying(rendered: Mapping) -> list[tuple[str, str, str, str]]:
    """Give the rights without which nobody gets that way, as ``Cluster.denied`` takes them."""
    return [(verb, "", "services/proxy", rendered["cluster"]["namespace"]) for verb in ("get", "create")]


def objects(rendered: Mapping, gitops: bool) -> list[dict]:
    """Give the objects of what is on: the Applications, or all but those."""
    return [
        item
        for part in rendered["parts"]
        if part["enabled"] and (part["component"] == GITOPS) == gitops
        for item in part["objects"]
    ]


def deployments(rendered: Mapping) -> list[dict]:
    """Give the Deployments that a run applies."""
    return [item for item in objects(rendered, is_gitops(rendered)) if item["kind"] == "Deployment"]


def identity(rendered: Mapping) -> dict:
    """Say which cluster is meant, for ``plan.check_cluster``."""
    cluster = rendered["cluster"]
    return {
        "cluster_name": cluster["name"],
        "api_server": cluster["api_server"],
        "kube_system_uid": cluster["kube_system_uid"],
    }


def lock(rendered: Mapping) -> dict:
    """Say where the lock of a run is."""
    return {"lock_namespace": scope(rendered), "lock_name": "modelyard"}


def options(rendered: Mapping) -> dict:
    """Give the options of a ``plan.Planner``.

    Args:
        rendered: the structure of ``servers.render``.

    Returns:
        ``objects``, ``components`` (only their objects are pruned), ``problems``, ``misfits`` (name of a Deployment to what the
        hardware profile is too small for), ``start_seconds`` (name of a Deployment to what the start of its pod may take),
        ``holds`` (name of a claim that exists to the bytes that a server downloads into it),
        ``autoscaled_pools`` (names of Deployments whose nodes an autoscaler adds), ``namespaces``, ``prune`` and ``release`` (where to look for what goes; with a
        ``name`` only that object is read), ``parts`` and ``cascade`` (what becomes of what an Application deployed), the
        settings of the role apply, ``recorded`` (the kinds that earlier runs applied, to be filled in from the lock),
        ``untouched`` (groups and kinds of which nothing goes), and what
        ``identity`` and ``lock`` give.
    """
    gitops, settings = is_gitops(rendered), rendered["settings"]["apply"]
    argocd = rendered["cluster"]["argocd_namespace"]
    # Also of a role that has nothing on: what it had goes.
    components = [component_of(role) for role in rendered["roles"]]
    mine = [name for name in components if (name == GITOPS) == gitops]
    # A Secret is looked for by its name: to list Argo CD's Secrets is to read all of its credentials.
    secrets = [{"api_version": "v1", "kind": "Secret", "name": secret["name"]} for secret in rendered["secrets"]]
    dropped = [kind for kind, secret in zip(secrets, rendered["secrets"], strict=True) if not secret["kept"]]
    wanted = objects(rendered, gitops)
    prune = [*GITOPS_KINDS, *dropped] if gitops else [*KINDS, *settings["prune_kinds"]]
    # Of the user's own objects, too.
    prune += [kind for kind in kinds.without(kinds.of(wanted), prune) if kinds.key(kind) not in kinds.LEFT]
    # Moving back from Argo CD: all that GitOps delivery made, and nothing that Argo CD deployed. Not by one role alone, which
    # would leave what the others deployed to no one.
    moves_back = settings["handover"] and not gitops and GITOPS in components and bool(mine)
    return {
        **identity(rendered),
        **lock(rendered),
        "lock_wait": settings["lock_wait"],
        "objects": wanted,
        "components": mine,
        "problems": rendered["problems"],
        "misfits": {part["name"]: part["misfits"] for part in rendered["parts"] if part["enabled"] and part["misfits"]},
        "start_seconds": {part["name"]: part["start_seconds"] for part in rendered["parts"] if "start_seconds" in part},
        "holds": {
            name: size for part in rendered["parts"] if part["enabled"] for name, size in part.get("holds", {}).items()
        },
        "autoscaled_pools": [part["name"] for part in rendered["parts"] if part.get("autoscaled_pool")],
        "namespaces": rendered["namespaces"],
        "prune": [{**kind, "namespace": scope(rendered)} for kind in prune] if settings["prune"] else [],
        "recorded": [],
        # What was deleted or enlarged since stays so: a claim goes, or comes, with its data.
        "untouched": kinds.LEFT if "rollback_to" in rendered else set(),
        "release": [{**kind, "namespace": argocd} for kind in [*GITOPS_KINDS, *secrets]] if moves_back else [],
        "parts": rendered["wanted"],
        "cascade": rendered["settings"]["argocd_apps"]["cascade"],
        "field_manager": settings["field_manager"],
        "adopt_managers": settings["adopt_managers"],
        "force": settings["force"],
        "require_apis": settings["require_apis"],
        "argocd_namespace": argocd,
    }
