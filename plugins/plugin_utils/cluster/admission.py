"""Knows where a cluster may change, refuse or comment on an object that is sent unchanged; never sends one.

There the API server's answer to a dry run can't be foretold. Everywhere else it is the same each time.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import kinds
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.defaults import BUILT_IN

GROUP = "admissionregistration.k8s.io"
VERSIONS = ("v1", "v1beta1", "v1alpha1")
# From v1: webhooks carry their rules in a list of their own, policies as matchConstraints.
WEBHOOKS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
POLICIES = ("MutatingAdmissionPolicy", "ValidatingAdmissionPolicy")
# By which a namespace asks for warnings about pods.
POD_SECURITY = "pod-security.kubernetes.io/"
PODS = ("Deployment", "CronJob")
# Kinds of Kubernetes' own of which the API server says nothing when nothing changes (WarningsOnUpdate in k8s.io/kubernetes,
# pkg/registry/*/*/strategy.go, 1.34 and 1.37); of the others of its groups it may.
SILENT = frozenset(
    (
        *(("", "ConfigMap"), ("", "ServiceAccount"), ("apps", "Deployment"), ("policy", "PodDisruptionBudget")),
        *(("rbac.authorization.k8s.io", "Role"), ("rbac.authorization.k8s.io", "RoleBinding")),
        *(("autoscaling", "HorizontalPodAutoscaler"), ("networking.k8s.io", "Ingress")),
    )
)
# Of a Service, the fields and annotations about which it may say something (pkg/api/service/warnings.go).
NOISY = frozenset(("externalIPs", "externalName", "loadBalancerIP", "loadBalancerSourceRanges", "trafficDistribution"))
NOISY_NOTE = "service.kubernetes.io/"
# Groups of custom resources with the ending of Kubernetes' own, whose kinds may warn, each in its way.
CUSTOM = frozenset(("gateway.networking.k8s.io", "snapshot.storage.k8s.io"))


class Admission:
    """What stands between a request and the objects of one cluster."""

    def __init__(self, cluster: Cluster, namespaces: Mapping[str, dict | None]) -> None:
        """Read the webhooks and policies.

        Args:
            cluster: where to look.
            namespaces: name of each to the live one; none where this credential can't see it.
        """
        self.cluster, self.namespaces = cluster, namespaces
        found = cluster.parallel(self._listed, [*WEBHOOKS, *POLICIES])
        # Whoever may not see them can't know.
        self.seen = None not in found
        self.rules = [rule for items in found for item in items or [] for rule in _rules(item)]

    def passes(self, item: Mapping) -> bool:
        """Tell whether an object that is sent as it is surely comes through as it is, and without a word.

        Args:
            item: the object, as it lives.
        """
        plural = self.cluster.resource(item["apiVersion"], item["kind"])["name"]
        if not self.seen or any(_matches(rule, plural) for rule in self.rules):
            return False
        if item["kind"] in PODS:
            namespace = self.namespaces.get(item["metadata"]["namespace"])
            labels = (namespace or {"metadata": {}})["metadata"].get("labels") or {}
            if not namespace or any(key.startswith(POD_SECURITY) for key in labels):
                return False
        return _silent(item)

    def _listed(self, kind: str) -> list[dict] | None:
        """List what there is of a kind; none where that can't be known, by this credential or just now."""
        try:
            for version in VERSIONS:
                if self.cluster.resource(f"{GROUP}/{version}", kind):
                    return self.cluster.list(f"{GROUP}/{version}", kind, None)
        except ApiError:
            return None
        # Webhooks every API server knows, policies not.
        return None if kind in WEBHOOKS else []


def _rules(item: Mapping) -> Iterable[Mapping]:
    """Give the rules of a webhook configuration, or of a policy (whatever binds it)."""
    if "webhooks" in item:
        return [rule for webhook in item["webhooks"] for rule in webhook.get("rules") or []]
    return ((item.get("spec") or {}).get("matchConstraints") or {}).get("resourceRules") or []


def _matches(rule: Mapping, plural: str) -> bool:
    """Tell whether a rule is for updates of a resource, of whatever group: an object may be matched as one of another version."""
    resources = {name.partition("/")[0] for name in rule.get("resources") or ["*"]}
    return bool({"*", plural} & resources and {"*", "UPDATE"} & set(rule.get("operations") or ["*"]))


def _silent(item: Mapping) -> bool:
    """Tell whether the API server surely says nothing of an object that is sent as it is."""
    group, spec = kinds.group_of(item["apiVersion"]), item.get("spec") or {}
    if group not in BUILT_IN:
        return not group.endswith(".k8s.io") or group in CUSTOM
    if (group, item["kind"]) in SILENT:
        return True
    if item["kind"] == "CronJob":
        return "TZ" not in spec.get("schedule", "")
    if item["kind"] == "Service":
        notes = item["metadata"].get("annotations") or {}
        return (
            not NOISY & spec.keys()
            and spec.get("sessionAffinity", "None") == "None"
            and not any(NOISY_NOTE in key for key in notes)
            and all(address == "None" or _canonical(address) for address in spec.get("clusterIPs") or [])
        )
    if item["kind"] == "NetworkPolicy":
        return all(map(_canonical, _blocks(spec)))
    return False


def _blocks(spec: Mapping) -> Iterable[str]:
    """Give all address ranges that a network policy names."""
    peers = [
        peer
        for way, side in (("ingress", "from"), ("egress", "to"))
        for rule in spec.get(way) or []
        for peer in rule.get(side) or []
    ]
    blocks = [peer["ipBlock"] for peer in peers if "ipBlock" in peer]
    return [address for block in blocks for address in (block["cidr"], *(block.get("except") or []))]


def _canonical(address: str) -> bool:
    """Tell whether an address or a range of them stands there as it is to be written, and is none of IPv4 in IPv6."""
    try:
        found = ipaddress.ip_network(address)
    except ValueError:
        return False
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    return mapped is None and address in (str(found), str(found.network_address))
