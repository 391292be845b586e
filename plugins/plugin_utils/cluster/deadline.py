"""Has the cluster itself park a server at a given time, whatever becomes of the run that woke it; never wakes one.

A CronJob, since a Job can't wait without a pod. Its account may set the number of pods of one Deployment, and delete the CronJob, with
which the account and its rights go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import parked, parking
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import own

# No role renders it, so no other run prunes it.
COMPONENT = "gate"
BATCH, RBAC = "batch/v1", "rbac.authorization.k8s.io/v1"


def name_of(part: Mapping) -> str:
    """Name the objects that park a server."""
    return f"{part['name']}-gate"


def arrange(cluster: Cluster, part: Mapping, rendered: Mapping, image: str, until: datetime) -> datetime:
    """Make the cluster park a server at a time, or at another one than before.

    Args:
        cluster: where it is.
        part: the server's part of a rendering.
        rendered: the structure of ``servers.render``.
        image: one that has kubectl.
        until: when, in UTC.

    Returns:
        the time, of a whole minute, which is not before ``until``.
    """
    minute = until.replace(second=0, microsecond=0)
    minute += timedelta(minutes=1) if minute < until else timedelta()
    cron_job, *others = own(
        [_cron_job(part, image, minute), *_account(part, rendered)],
        COMPONENT,
        rendered["cluster"]["name"],
        rendered["cluster"]["namespace"],
    )
    manager = rendered["settings"]["apply"]["field_manager"]
    made = cluster.apply(cron_job, manager, force=True, dry_run=False)
    owner = {"apiVersion": BATCH, "kind": "CronJob", "name": name_of(part), "uid": made["metadata"]["uid"]}
    for item in others:
        item["metadata"]["ownerReferences"] = [owner]
        cluster.apply(item, manager, force=True, dry_run=False)
    return minute


def cancel(cluster: Cluster, part: Mapping, namespace: str) -> None:
    """Take back what :func:`arrange` made; what is not there is no error."""
    path = f"/apis/{BATCH}/namespaces/{namespace}/cronjobs/{name_of(part)}"
    try:
        cluster.request("DELETE", path, {"propagationPolicy": "Background"})
    except ApiError as error:
        if error.status != 404:
            raise


def _cron_job(part: Mapping, image: str, minute: datetime) -> dict:
    deployment = parked.deployment(part)
    pod = deployment["spec"]["template"]["spec"]
    name, namespace = name_of(part), deployment["metadata"]["namespace"]
    to_zero = json.dumps({"spec": {"replicas": 0}})
    patch = ["patch", "deployment", part["name"], "--subresource=scale", "--type=merge", f"--patch={to_zero}"]
    delete = ["delete", "cronjob", name, "--wait=false", "--ignore-not-found"]

    def container(word: str, arguments: list[str]) -> dict:
        return {
            "name": word,
            "image": image,
            "command": ["kubectl", f"--namespace={namespace}", *arguments],
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }

    template = {
        "serviceAccountName": name,
        "restartPolicy": "OnFailure",
        # Wherever there is a node: at the least the judge's own.
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [container("park", [*patch, f"--field-manager={parking.MANAGER}"])],
        "containers": [container("clean-up", delete)],
    }
    if pod.get("imagePullSecrets"):
        template["imagePullSecrets"] = pod["imagePullSecrets"]
    return {
        "apiVersion": BATCH,
        "kind": "CronJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "schedule": f"{minute.minute} {minute.hour} {minute.day} {minute.month} *",
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "jobTemplate": {
                "spec": {
                    "backoffLimit": 10,
                    "template": {"metadata": {"labels": {"app": name}}, "spec": template},
                }
            },
        },
    }


def _account(part: Mapping, rendered: Mapping) -> list[dict]:
    """Give the account, what it may do, that it may, and what its pod may reach."""
    name = name_of(part)
    rules = [
        {
            "apiGroups": ["apps"],
            "resources": ["deployments/scale"],
            "resourceNames": [part["name"]],
            "verbs": ["get", "patch"],
        },
        {"apiGroups": ["batch"], "resources": ["cronjobs"], "resourceNames": [name], "verbs": ["delete"]},
    ]
    subject = {"kind": "ServiceAccount", "name": name, "namespace": rendered["cluster"]["namespace"]}
    # To the API server, whose address is the cluster's, where it is not open anyway.
    ports = [{"port": port, "protocol": "TCP"} for port in (443, 6443)]
    policy = {"podSelector": {"matchLabels": {"app": name}}, "policyTypes": ["Egress"], "egress": [{"ports": ports}]}
    network = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": policy,
    }
    return [
        *([network] if any(item["kind"] == "NetworkPolicy" for item in part["objects"]) else []),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        {"apiVersion": RBAC, "kind": "Role", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": RBAC,
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [subject],
        },
    ]
