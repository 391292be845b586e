"""Knows what the API server fills in by itself where nobody says anything; never decides what an object should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import kinds
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster

# Groups whose defaults are in Kubernetes' code. Those of custom resources are in their schema, which the API server publishes.
BUILT_IN = frozenset(
    (
        *("", "apps", "autoscaling", "batch", "policy"),
        *("rbac.authorization.k8s.io", "networking.k8s.io", "storage.k8s.io", "coordination.k8s.io"),
    )
)
ANY = object()
# By the end of a field's path, without items of lists. From k8s.io/kubernetes/pkg/apis/*/*/defaults.go and strategies.
FILLED: dict[str, Any] = {
    "template.spec.restartPolicy": "Always",
    "template.spec.dnsPolicy": "ClusterFirst",
    "template.spec.schedulerName": "default-scheduler",
    "template.spec.securityContext": {},
    "template.spec.terminationGracePeriodSeconds": 30,
    # The old name of serviceAccountName, kept equal to it.
    "template.spec.serviceAccount": ANY,
    "template.metadata.creationTimestamp": ANY,
    "ontainers.terminationMessagePath": "/dev/termination-log",
    "ontainers.terminationMessagePolicy": "File",
    "ontainers.resources": {},
    "ports.protocol": "TCP",
    "fieldRef.apiVersion": "v1",
    "resourceFieldRef.divisor": "0",
    "httpGet.scheme": "HTTP",
    "grpc.service": "",
    "Probe.timeoutSeconds": 1,
    "Probe.periodSeconds": 10,
    "Probe.successThreshold": 1,
    "Probe.failureThreshold": 3,
    "configMap.defaultMode": 420,
    "secret.defaultMode": 420,
    "projected.defaultMode": 420,
    "downwardAPI.defaultMode": 420,
    "serviceAccountToken.expirationSeconds": 3600,
    "hostPath.type": "",
    "spec.revisionHistoryLimit": 10,
    "spec.progressDeadlineSeconds": 600,
    "spec.strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
    "strategy.type": "RollingUpdate",
    "strategy.rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
    "rollingUpdate.maxSurge": "25%",
    "rollingUpdate.maxUnavailable": "25%",
    "spec.type": "ClusterIP",
    "spec.sessionAffinity": "None",
    "spec.sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
    "spec.clusterIP": ANY,
    "spec.clusterIPs": ANY,
    "spec.ipFamilies": ANY,
    "spec.ipFamilyPolicy": "SingleStack",
    "spec.internalTrafficPolicy": "Cluster",
    "spec.externalTrafficPolicy": "Cluster",
    "spec.allocateLoadBalancerNodePorts": True,
    "spec.healthCheckNodePort": ANY,
    "ports.nodePort": ANY,
    "subjects.apiGroup": "rbac.authorization.k8s.io",
    "roleRef.apiGroup": "rbac.authorization.k8s.io",
    # Of a claim: where its volume is, and the class that is the cluster's default.
    "spec.volumeName": ANY,
    "spec.volumeMode": "Filesystem",
    "spec.storageClassName": ANY,
}


def filled(path: Iterable[str], value: object) -> bool:
    """Tell whether a field of Kubernetes' own kinds has its default; of what a cluster chooses there is none.

    Args:
        path: of the field, without items of lists; its beginning may be left out as far as ``FILLED`` does.
        value: what it has.
    """
    name = ".".join(path)
    return any(name.endswith(end) and known == value and type(known) is type(value) for end, known in FILLED.items())


class Defaults:
    """What the API server of one cluster fills in."""

    def __init__(self, cluster: Cluster | None) -> None:
        """Hold the cluster; asks it only of custom resources.

        Args:
            cluster: where to read schemas; none where there are no custom resources.
        """
        self.cluster = cluster
        self._schemas: dict[str, dict] = {}

    def fills(self, item: Mapping, path: tuple, value: object, beside: Mapping) -> bool:
        """Tell whether a field has the value that the API server would put there.

        Args:
            item: the object.
            path: of the field, as in ``fields.changes``.
            value: what it has.
            beside: the map that the field is in.
        """
        if kinds.group_of(item["apiVersion"]) not in BUILT_IN:
            return self._published(item, path) == [value]
        keys = [key for key in path if not key.startswith("[")]
        if keys[-1] == "targetPort":
            return value == beside.get("port")
        if keys[-1] == "imagePullPolicy":
            return value == _pull_policy(str(beside.get("image", "")))
        return any(".".join(keys).endswith(end) for end, known in FILLED.items() if known is ANY) or filled(keys, value)

    def _published(self, item: Mapping, path: tuple) -> list:
        """Give the default of a custom resource's field as the only item of a list; without one the list is empty."""
        schema = self._schema(item)
        for key in path:
            schema = schema.get("items", {}) if key.startswith("[") else schema.get("properties", {}).get(key, {})
        return [schema["default"]] if "default" in schema else []

    def _schema(self, item: Mapping) -> dict:
        version = item["apiVersion"]
        if version not in self._schemas:
            try:
                found = self.cluster.request("GET", f"/openapi/v3/apis/{version}") if self.cluster else {}
            except ApiError:  # Not published, or not to this credential: then nothing is known to be filled in.
                found = {}
            self._schemas[version] = {
                kind["kind"]: schema
                for schema in found.get("components", {}).get("schemas", {}).values()
                for kind in schema.get("x-kubernetes-group-version-kind", [])
            }
        return self._schemas[version].get(item["kind"], {})


def _pull_policy(image: str) -> str:
    name = image.rpartition("/")[2]
    tag = name.partition(":")[2]
    return "Always" if "@" not in name and tag in ("", "latest") else "IfNotPresent"
