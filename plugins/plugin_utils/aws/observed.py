"""Reads from the cluster what the identity report is about: accounts, pods, and who gives pods their credentials; never judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster

DISCOVERY = "/.well-known/openid-configuration"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
SYSTEM, AGENT = "kube-system", "eks-pod-identity-agent"
# EKS User Guide, "Control if a workload is deployed on EKS Auto Mode nodes": those nodes have the agent built in.
AUTO_MODE = "eks.amazonaws.com/compute-type=auto"


@dataclass(frozen=True)
class Unread:
    """What the credential may not read; the text is the API server's."""

    why: str


@dataclass(frozen=True)
class Observed:
    """What there is in the cluster. Whatever may not be read is :class:`Unread`.

    Attributes:
        accounts: ``NAMESPACE/NAME`` of each ServiceAccount to its annotations; one that is absent has None.
        issuer: who signs the cluster's tokens; None where it can't be read.
        namespaces: name to labels.
        pods: namespace to its pods.
        webhooks: the MutatingWebhookConfigurations.
        agents: pods of the EKS Pod Identity agent; None where it has no DaemonSet, or is not used.
        auto_nodes: names of the nodes of EKS Auto Mode.
    """

    accounts: Mapping[str, Mapping[str, str] | None]
    issuer: str | None = None
    namespaces: Mapping[str, Any] = field(default_factory=dict)
    pods: Mapping[str, Any] = field(default_factory=dict)
    webhooks: Any = ()
    agents: Any = None
    auto_nodes: Any = ()


def observe(cluster: Cluster, service_accounts: list[Mapping], pod_identity: bool) -> Observed:
    """Read the cluster, several requests at a time; pods are listed once for each namespace.

    Args:
        cluster: the API server.
        service_accounts: those of :func:`options.of`.
        pod_identity: whether the agent is of interest.

    Raises:
        ApiError: another refusal than for a missing right.
        Unreachable: no answer.
    """
    namespaces = sorted({item["namespace"] for item in service_accounts})
    wanted: dict[Any, Callable[[], Any]] = {
        ("issuer",): lambda: _get(cluster, DISCOVERY),
        ("webhooks",): lambda: _items(cluster, WEBHOOKS),
    }
    for name in namespaces:
        path = f"/api/v1/namespaces/{quote(name)}"
        wanted["namespace", name] = lambda path=path: _get(cluster, path)
        wanted["pods", name] = lambda path=path: _items(cluster, f"{path}/pods")
    for item in service_accounts:
        path = f"/api/v1/namespaces/{quote(item['namespace'])}/serviceaccounts/{quote(item['name'])}"
        # Without its accounts there is no report.
        wanted["account", f"{item['namespace']}/{item['name']}"] = lambda path=path: _get(cluster, path, needed=True)
    if pod_identity:
        wanted["agents",] = lambda: _agents(cluster)
        wanted["nodes",] = lambda: _items(cluster, "/api/v1/nodes", labelSelector=AUTO_MODE)
    found = dict(zip(wanted, cluster.parallel(lambda read: read(), list(wanted.values())), strict=True))
    issuer, nodes = found["issuer",], found.get(("nodes",), [])
    return Observed(
        accounts={key[1]: _annotations(value) for key, value in found.items() if key[0] == "account"},
        issuer=issuer.get("issuer") if isinstance(issuer, Mapping) else None,
        namespaces={key[1]: _labels(value) for key, value in found.items() if key[0] == "namespace"},
        pods={key[1]: value for key, value in found.items() if key[0] == "pods"},
        webhooks=found["webhooks",],
        agents=found.get(("agents",)),
        auto_nodes=nodes if isinstance(nodes, Unread) else {node["metadata"]["name"] for node in nodes},
    )


def _get(cluster: Cluster, path: str, needed: bool = False, **query: str) -> Any:
    try:
        return cluster.request("GET", path, query)
    except ApiError as error:
        if error.status == 404:
            return None
        if error.status in (401, 403) and not needed:
            return Unread(str(error))
        raise


def _items(cluster: Cluster, path: str, **query: str) -> Any:
    found = _get(cluster, path, **query)
    return found["items"] if isinstance(found, Mapping) else found or []


def _agents(cluster: Cluster) -> Any:
    found = _get(cluster, f"/apis/apps/v1/namespaces/{SYSTEM}/daemonsets/{AGENT}")
    if not isinstance(found, Mapping):
        return found
    labels = (found["spec"].get("selector") or {}).get("matchLabels") or {}
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return _items(cluster, f"/api/v1/namespaces/{SYSTEM}/pods", labelSelector=selector)


def _annotations(account: Mapping | None) -> Mapping[str, str] | None:
    return None if account is None else account["metadata"].get("annotations") or {}


def _labels(namespace: Any) -> Any:
    return namespace if isinstance(namespace, Unread) else ((namespace or {}).get("metadata") or {}).get("labels") or {}
